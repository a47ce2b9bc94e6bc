"""What is asked of a container: how it is made, what runs in it, how it lives on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from backends.errors import UsageError
from backends.model import Limits


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a container is started again after its end, as docker has it."""

    name: str = "no"
    """"no", "on-failure", "always" or "unless-stopped"."""

    most: int | None = None
    """With on-failure: how often in a row at most; None: without end."""

    def __str__(self) -> str:
        return self.name if self.most is None else f"{self.name}:{self.most}"

    @classmethod
    def parse(cls, text: str) -> RestartPolicy:
        """Return the policy that "no", "on-failure[:N]", "always" or "unless-stopped" names. Raises UsageError."""
        name, colon, most = text.partition(":")
        hint = "no, on-failure, on-failure:N, always or unless-stopped"
        if name not in ("no", "on-failure", "always", "unless-stopped") or (colon and name != "on-failure"):
            raise UsageError(f"{text!r} is no restart policy", hint=hint)
        if colon and not (most.isascii() and most.isdigit() and len(most) < 10):
            raise UsageError(f"{text!r} is no restart policy: {most!r} is no number of times", hint=hint)
        return cls(name, int(most) or None if colon else None)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A program that says from time to time whether the container does its work (exit code 0)."""

    args: tuple[str, ...]
    interval_s: float = 30.0
    timeout_s: float = 30.0
    start_period_s: float = 0.0
    """Failures in this time after the start do not count."""

    retries: int = 3
    """So many failures in a row make it "unhealthy"."""


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How much of its output is kept."""

    max_bytes: int = 10 * 1024**2
    """Size of one file; a full one is put aside. 0: no limit."""

    max_files: int = 3
    """The one being written included."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Something the program may read and nobody else: a file in memory, never on disk, in logs or in inspect."""

    name: str
    """It is /run/secrets/NAME in the container, unless it has a place of its own."""

    source: str
    """Where its content is read at each start: "file:PATH" or "env:NAME" (of who asks for the start)."""

    mode: int = 0o400
    uid: int = 0
    gid: int = 0
    target: str = ""
    """An absolute path in the container where it is shown alone; empty: in /run/secrets."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What the user asks of a new container."""

    image: str
    args: tuple[str, ...] = ()
    """Program and arguments; empty: the image's own."""

    name: str | None = None
    limits: Limits = field(default_factory=Limits)
    env: tuple[str, ...] = ()
    """"KEY=value" each."""

    cwd: str | None = None
    user: str | None = None
    """"uid", "uid:gid" or a name from the image's /etc/passwd."""

    hostname: str | None = None
    terminal: bool = False
    stdin: bool = False
    """Keep standard input open."""

    read_only: bool = False
    volumes: tuple[str, ...] = ()
    """"/host:/guest[:ro]" each, or "/guest": a volume of the container's own, filled with what the image has there."""

    mounts: tuple[str, ...] = ()
    """docker's "type=bind,source=…,target=…" or "type=tmpfs,target=…" each."""

    network: str = "bridge"
    """"bridge" (the default network), "none", "host", "container:GUEST", or the name of a network; for a network
    also docker's "name=NAME,ip=…,ip6=…,alias=…,mac=…"."""

    networks: tuple[str, ...] = ()
    """Further networks, in the same words."""

    ip: str = ""
    """A fixed IPv4 address on the first network."""

    ip6: str = ""
    mac: str = ""
    """The address of its link on the first network; empty: one is made."""

    aliases: tuple[str, ...] = ()
    """Further names that resolve to it on its networks."""

    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    """Empty: the image's, or SIGTERM."""

    size: tuple[int, int] | None = None
    """(rows, columns) of its terminal at the start; None: the backend's default."""

    auto_remove: bool = False
    """Remove it when it has ended; its keeper does so, with nobody looking. wait() still gets the exit code."""

    entrypoint: tuple[str, ...] | None = None
    """In place of the image's entry point; args follow it."""

    stop_timeout_s: float | None = None
    """What stop waits before SIGKILL where the caller does not say; None: the backend's default."""

    # ---- what it may do

    privileged: bool = False
    """All capabilities and devices, no seccomp filter, no masked paths."""

    cap_add: tuple[str, ...] = ()
    """"NET_ADMIN", "CAP_NET_ADMIN" or "ALL"."""

    cap_drop: tuple[str, ...] = ()
    security_opts: tuple[str, ...] = ()
    """docker's words: "no-new-privileges[=false]", "seccomp=unconfined|FILE", "apparmor=PROFILE",
    "label=…", "systempaths=unconfined"."""

    devices: tuple[str, ...] = ()
    """"/dev/host[:/dev/guest[:rwm]]" each."""

    device_rules: tuple[str, ...] = ()
    """"c 10:200 rwm" each, in the words of the v1 devices controller."""

    ulimits: tuple[str, ...] = ()
    """"nofile=1024[:2048]" each."""

    sysctls: tuple[str, ...] = ()
    """"net.core.somaxconn=1024" each."""

    groups: tuple[str, ...] = ()
    """Further groups of the program, by number or by name in the image."""

    oom_score_adj: int | None = None
    userns: str = "host"
    """"host": none of its own; "auto": a range of the host's subordinate ids; "keep": the caller's ids inside."""

    pid_mode: str = ""
    """"" its own, or "host"; so for ipc, uts and cgroup namespaces."""

    ipc_mode: str = ""
    uts_mode: str = ""
    cgroupns_mode: str = ""

    # ---- what it finds inside

    tmpfs: tuple[str, ...] = ()
    """"/path[:options]" each."""

    shm_bytes: int | None = None
    init: bool = False
    """A small first process that reaps zombies and passes signals on."""

    secrets: tuple[Secret, ...] = ()
    hosts: tuple[str, ...] = ()
    """"NAME:ADDRESS" each, for /etc/hosts; the address may be "host-gateway"."""

    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    """Domains in which names are looked for, in place of the host's; "." alone: none."""

    dns_options: tuple[str, ...] = ()
    """resolv.conf(5)'s options ("ndots:2"), in place of the host's."""

    expose: tuple[str, ...] = ()
    """"80[/udp]" each: what it listens on, beside what its image says."""

    publish: tuple[str, ...] = ()
    """"[ADDRESS:]HOST:GUEST[/udp]" each."""

    publish_all: bool = False
    """Every port that the image exposes, at a free port of the host."""

    pull: str = "missing"
    """When the image is fetched from its registry: "missing", "always" or "never"."""

    # ---- how it lives

    restart: RestartPolicy = field(default_factory=RestartPolicy)
    health: HealthCheck | None = None
    """None: the image's; one without a program: none at all."""

    log: LogLimits = field(default_factory=LogLimits)
    driver: str = "native"
    """Who runs it: "native", or an installed OCI runtime: "runc", "crun"."""

    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """What to run in a live guest."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str | None = None
    user: str | None = None
    terminal: bool = False
    size: tuple[int, int] | None = None
    """(rows, columns) of the terminal at the start."""

    privileged: bool = False
    """With all capabilities and without the seccomp filter."""

    detached: bool = False
    """It goes on when whoever asked for it goes away."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A path of a guest as a tar stream; the caller closes the stream."""

    stream: BinaryIO
    name: str
    """Last name of the path."""

    is_directory: bool


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    """How CRIU is asked to work."""

    path: str | None = None
    """Folder of the image; None: beside the guest's record."""

    leave_running: bool = False
    tcp_established: bool = False
    file_locks: bool = False
    external_unix: bool = False
    shell_job: bool = False
