"""Every verb of `inn oci` with its options, as data: runc's, and what callers of crun use besides."""

from __future__ import annotations

BOOL, TEXT, NUMBER, LIST = "bool", "text", "number", "list"

GLOBAL = {
    "root": TEXT,
    "log": TEXT,
    "log-format": TEXT,
    "log-level": TEXT,
    "debug": BOOL,
    "systemd-cgroup": BOOL,
    "cgroup-manager": TEXT,
    "rootless": TEXT,
    "help": BOOL,
    "version": BOOL,
    "h": BOOL,
    "v": BOOL,
}


class Verb:
    """One verb: where its code is and how its words are read."""

    __slots__ = ("aliases", "arguments", "most", "least", "module", "options", "stop_after", "usage")  # noqa: RUF023

    def __init__(
        self,
        module: str,
        usage: str,
        arguments: str = "<container-id>",
        options: dict[str, str] | None = None,
        aliases: str = "",
        least: int = 1,
        most: int = 1,
        stop_after: int = 0,
    ) -> None:
        self.module = module
        self.usage = usage
        """What it does, in one line."""

        self.arguments = arguments
        self.options = {**(options or {}), "help": BOOL}
        self.aliases = {"h": "help", **dict(pair.split("=") for pair in aliases.split())}
        """One-letter options: "b=bundle d=detach"."""

        self.least, self.most = least, most
        """How many arguments there must be; most -1 is without end."""

        self.stop_after = stop_after
        """After so many arguments the rest is not looked at for options; 0: look at all."""


_START = {
    "bundle": TEXT,
    "config": TEXT,
    "console-socket": TEXT,
    "pidfd-socket": TEXT,
    "pid-file": TEXT,
    "no-pivot": BOOL,
    "no-new-keyring": BOOL,
    "preserve-fds": NUMBER,
}
_RUN = {**_START, "detach": BOOL, "keep": BOOL, "no-subreaper": BOOL}
_EXEC = {
    "console-socket": TEXT,
    "pidfd-socket": TEXT,
    "cwd": TEXT,
    "env": LIST,
    "tty": BOOL,
    "user": TEXT,
    "additional-gids": LIST,
    "process": TEXT,
    "detach": BOOL,
    "pid-file": TEXT,
    "process-label": TEXT,
    "apparmor": TEXT,
    "no-new-privs": BOOL,
    "cap": LIST,
    "preserve-fds": NUMBER,
    "cgroup": LIST,
    "ignore-paused": BOOL,
    "no-subreaper": BOOL,
}
_UPDATE = {
    "resources": TEXT,
    "blkio-weight": NUMBER,
    "pids-limit": NUMBER,
    **dict.fromkeys(
        (
            "cpu-period", "cpu-quota", "cpu-burst", "cpu-share", "cpu-shares", "cpu-rt-period", "cpu-rt-runtime",
            "cpuset-cpus", "cpuset-mems", "cpu-idle", "kernel-memory", "kernel-memory-tcp", "memory",
            "memory-reservation", "memory-swap", "l3-cache-schema", "mem-bw-schema",
        ),
        TEXT,
    ),
}  # fmt: skip
_CRIU = {
    "image-path": TEXT,
    "work-path": TEXT,
    "tcp-established": BOOL,
    "tcp-skip-in-flight": BOOL,
    "link-remap": BOOL,
    "ext-unix-sk": BOOL,
    "shell-job": BOOL,
    "lazy-pages": BOOL,
    "file-locks": BOOL,
    "manage-cgroups-mode": TEXT,
    "empty-ns": LIST,
}
_CHECKPOINT = {
    **_CRIU,
    "parent-path": TEXT,
    "leave-running": BOOL,
    "page-server": TEXT,
    "status-fd": NUMBER,
    "pre-dump": BOOL,
    "auto-dedup": BOOL,
}
_RESTORE = {
    **_RUN,
    **_CRIU,
    "no-subreaper": BOOL,
    "auto-dedup": BOOL,
    "lsm-profile": TEXT,
    "lsm-mount-context": TEXT,
}

VERBS = {
    "checkpoint": Verb("checkpoint", "write a running container's processes to disk", options=_CHECKPOINT),
    "create": Verb("create", "create a container", options=_START, aliases="b=bundle f=config"),
    "delete": Verb(
        "delete",
        "delete any resources held by the container",
        options={"force": BOOL, "regex": BOOL},
        aliases="f=force r=regex",
    ),
    "events": Verb("events", "display container events such as OOM notifications, and its statistics",
                   options={"interval": TEXT, "stats": BOOL}),
    "exec": Verb("exec", "execute new process inside the container", "<container-id> <command> [command options]",
                 _EXEC, "e=env t=tty u=user g=additional-gids p=process d=detach c=cap", most=-1, stop_after=1),
    "features": Verb("features", "show the enabled features", "", least=0, most=0),
    "kill": Verb("kill", "send a signal (default: SIGTERM) to the container's init process",
                 "<container-id> [signal]", {"all": BOOL, "regex": BOOL}, "a=all r=regex", most=2, stop_after=1),
    "list": Verb("listing", "list the containers below the given root", "", {"format": TEXT, "quiet": BOOL},
                 "f=format q=quiet", least=0, most=0),
    "pause": Verb("pause", "suspend all processes inside the container"),
    "ps": Verb("ps", "display the processes running inside a container", "<container-id> [ps options]",
               {"format": TEXT}, "f=format", most=-1, stop_after=1),
    "restore": Verb("checkpoint", "restore a container from a checkpoint", options=_RESTORE,
                    aliases="b=bundle d=detach f=config"),
    "resume": Verb("pause", "resume all processes that have been paused"),
    "run": Verb("run", "create and run a container", options=_RUN, aliases="b=bundle d=detach f=config"),
    "spec": Verb("spec", "create a new specification file", "", {"bundle": TEXT, "rootless": BOOL}, "b=bundle",
                 least=0, most=0),
    "start": Verb("start", "execute the user defined process in a created container"),
    "state": Verb("state", "output the state of a container"),
    "update": Verb("update", "update container resource constraints", options=_UPDATE, aliases="r=resources"),
}  # fmt: skip

SYNONYMS = {"ls": "list"}
