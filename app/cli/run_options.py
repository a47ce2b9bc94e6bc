"""The options of `inn run` and `inn create`, in groups, as docker names them."""

from __future__ import annotations

import argparse
from typing import Any

from app.cli.limiting import add_limit_options
from app.cli.operating import add_trace_option
from app.cli.transfers import add_transfer_options

_CAPABILITIES = (
    "ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH "
    "FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN "
    "NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT "
    "SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"
)

SUGGESTIONS: dict[str, tuple[str, ...]] = {
    "--cap-add": tuple(_CAPABILITIES.split()),
    "--cap-drop": tuple(_CAPABILITIES.split()),
    "--security-opt": (
        "no-new-privileges", "no-new-privileges=false", "seccomp=unconfined", "apparmor=unconfined", "label=disable",
        "systempaths=unconfined", "unmask=ALL",
    ),
    "--ulimit": ("nofile=", "nproc=", "core=", "memlock=", "stack=", "fsize=", "cpu="),
    "--restart": ("no", "on-failure", "always", "unless-stopped"),
    "--log-opt": ("max-size=", "max-file="),
    "--stop-signal": ("SIGTERM", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGHUP"),
    "--mount": ("type=bind,source=", "type=tmpfs,target="),
    "--secret": ("id=",),
    "--add-host": ("host.internal:host-gateway",),
}  # fmt: skip
"""What tab completion offers as values where an option takes more than a fixed choice."""


def add_create_options(parser: argparse.ArgumentParser) -> None:
    """Declare all that can be said about a new container, and IMAGE and COMMAND."""
    parser.usage = f"{parser.prog} [OPTION…] IMAGE [COMMAND [ARG…]]"
    _running(parser)
    _program(parser.add_argument_group("the program"))
    _files(parser.add_argument_group("what it finds inside"))
    _network(parser.add_argument_group("network and names"))
    _rights(parser.add_argument_group("what it may do"))
    _namespaces(parser.add_argument_group("what it shares with the host"))
    _life(parser.add_argument_group("how it lives"))
    add_limit_options(parser)


def _running(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-i", "--interactive", action="store_true", help="keep its stdin open")
    add("-t", "--tty", action="store_true", help="give it a terminal")
    add("--rm", action="store_true", help="remove it when it has ended")
    add("--name", metavar="NAME", help="its name (default: one is made up)")
    _list(parser, "-l", "--label", metavar="KEY[=VALUE]", help="put a label on it")
    _list(parser, "--annotation", metavar="KEY=VALUE", help="put it into its OCI configuration")
    add("--cidfile", metavar="FILE", help="write its id to a new file")
    add("--pull", choices=("missing", "always", "never"), default="missing", help="when to fetch IMAGE (missing)")
    add("--platform", metavar="OS/ARCH[/VARIANT]", default="", help="of an IMAGE that is fetched (this host's)")
    add("-q", "--quiet", action="store_true", help="show nothing of IMAGE being fetched")
    add_transfer_options(parser)
    add("--driver", choices=("native", "runc", "crun"), default="native", help="who runs it (native)")
    add("--explain", action="store_true", help="print what would be done, step by step, and do none of it")
    add("--json", action="store_true", help="with --explain: print an array of objects")
    add_trace_option(parser)
    add("image", metavar="IMAGE", help="an image (`inn image ls`); `host` is this machine's own /usr, read-only")
    rest = add(
        "args", metavar="COMMAND", nargs=argparse.REMAINDER, help="program and arguments (default: the image's own)"
    )
    rest.required = False  # or argparse names it among what is missing when there is no IMAGE


def _program(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    _list(group, "-e", "--env", metavar="KEY[=VALUE]", help="set a variable, or pass ours on")
    _list(group, "--env-file", metavar="FILE", help="take variables from a file, a line each")
    add("-w", "--workdir", metavar="DIR", help="its working directory")
    add("-u", "--user", metavar="USER[:GROUP]", help="run as this user")
    _list(group, "--group-add", metavar="GROUP", help="a further group, by number or by name in the image")
    add("--entrypoint", metavar="PROGRAM", help='in place of the image\'s; several words as ["a", "b"]')
    add("--init", action="store_true", help="a small first process reaps zombies and passes signals on")
    _list(group, "--ulimit", metavar="NAME=SOFT[:HARD]", help="a resource limit: nofile=1024:2048; -1: none")
    add("--oom-score-adj", metavar="NUMBER", type=int, help="-1000 to 1000: how soon the OOM killer takes it")


def _files(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    _list(
        group,
        "-v",
        "--volume",
        metavar="[HOST|NAME:]GUEST[:OPTS]",
        help="show it a path of the host, a named volume, or with GUEST alone a volume of its own",
    )
    _list(group, "--mount", metavar="type=…,…", help="the same in docker's other words, or type=tmpfs,target=DIR")
    _list(group, "--tmpfs", metavar="DIR[:OPTS]", help="a folder in memory: /run:size=64m,exec")
    _list(group, "--device", metavar="HOST[:GUEST[:rwm]]", help="let it use a device of the host, or a folder of them")
    _list(
        group, "--secret", metavar="id=NAME,…", help="/run/secrets/NAME, in memory only: id=key,src=FILE or …,env=VAR"
    )
    add("--shm-size", metavar="BYTES", help="size of /dev/shm (64M)")
    add("--read-only", action="store_true", help="its root file system cannot be written")


def _network(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    _list(group, "--network", "--net", metavar="NETWORK",
          help="bridge (the default), one of `inn network ls`, several in turn, none, host, "
          "or container:GUEST; name=NETWORK,ip=…,ip6=…,alias=…,mac=… says more")  # fmt: skip
    add("--ip", metavar="ADDRESS", default="", help="a fixed IPv4 address on the first network")
    add("--ip6", metavar="ADDRESS", default="", help="a fixed IPv6 address on the first network")
    add("--mac-address", metavar="ADDRESS", default="", help="the address of its link on the first network")
    _list(
        group,
        "--network-alias",
        "--net-alias",
        metavar="NAME",
        help="a further name that resolves to it on its networks",
    )
    _list(
        group, "-p", "--publish", metavar="[[ADDR:]HOST:]GUEST",
        help="lead a port of the host to it: 8080:80, [::1]:8080:80, 53:53/udp; 80: a free one is chosen",
    )  # fmt: skip
    _list(
        group, "--expose", metavar="GUEST[/udp]", help="a port that it listens on, beside those that the image exposes"
    )
    add("-P", "--publish-all", action="store_true", help="lead free ports of the host to all that is exposed")
    add("--hostname", metavar="NAME", help="its host name (default: its id)")
    _list(group, "--add-host", metavar="NAME:ADDRESS", help="a line of its /etc/hosts; ADDRESS may be host-gateway")
    _list(group, "--dns", metavar="ADDRESS", help="a name server, in place of the host's")
    _list(
        group,
        "--dns-search",
        metavar="DOMAIN",
        help="a domain to look for names in, in place of the host's; . for none",
    )
    _list(group, "--dns-option", "--dns-opt", metavar="OPTION", help="ndots:2 and the like, in place of the host's")


def _rights(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--privileged", action="store_true", help="all capabilities and devices, no filter, no masked paths")
    _list(group, "--cap-add", metavar="NAME", help="a capability more, or ALL")
    _list(group, "--cap-drop", metavar="NAME", help="a capability less, or ALL")
    _list(group, "--security-opt", metavar="OPTION", help="no-new-privileges=false, seccomp=FILE, apparmor=NAME …")
    _list(group, "--device-cgroup-rule", metavar="RULE", help="devices that it may open: 'c 10:200 rwm'")
    _list(group, "--sysctl", metavar="NAME=VALUE", help="a kernel parameter of its own namespaces")


def _namespaces(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--userns",
        choices=("host", "auto", "keep"),
        default="host",
        help="its users: the host's (the default), a range of their own, or the same numbers without rights outside",
    )
    for name, what in (("pid", "processes"), ("ipc", "shared memory"), ("uts", "host name"), ("cgroupns", "cgroups")):
        text = f"host: it sees the host's {what}"
        add(f"--{name}", choices=("private", "host"), default="private", help=text)


def _life(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--restart", metavar="POLICY", default="no", help="no, on-failure[:N], always, unless-stopped")
    add("--stop-signal", metavar="SIGNAL", default="", help="what `inn stop` sends first (the image's, or SIGTERM)")
    add("--stop-timeout", metavar="SECONDS", help="what `inn stop` waits before it kills (10)")
    add("--health-cmd", metavar="COMMAND", help="a shell line that says whether it does its work")
    add("--health-interval", metavar="TIME", help="how often (30s)")
    add("--health-timeout", metavar="TIME", help="how long one may take (30s)")
    add("--health-start-period", metavar="TIME", help="failures that early do not count (0s)")
    add("--health-retries", metavar="N", help="so many failures in a row make it unhealthy (3)")
    add("--no-healthcheck", action="store_true", help="ask none, not even the image's")
    _list(group, "--log-opt", metavar="NAME=VALUE", help="max-size=10m and max-file=3 of its log")


def _list(group: Any, *names: str, **keywords: Any) -> None:
    """Add an option that may be given several times."""
    group.add_argument(*names, action="append", default=[], **keywords)
