"""What is kept of a container on disk: its record, its status, and nothing else.

The spec itself is the OCI `config.json` beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from backends.container import HealthCheck, LogLimits, RestartPolicy, Secret
from backends.model import DeviceIo, GuestState, Limits
from backends.native.networks.endpoint import DEFAULT, Endpoint, first_mac, host_link


class _Json:
    """A dataclass that is one JSON object; keys it does not know are left out, so older versions can read."""

    def to_json(self) -> str:
        return json.dumps(vars(self))  # plain types all; asdict would copy them, and an indent be made in Python

    @classmethod
    def from_json(cls, text: str) -> Self:
        raw = json.loads(text)
        known = cls.__dataclass_fields__  # type: ignore[attr-defined]
        return cls(**{key: value for key, value in raw.items() if key in known})


@dataclass(frozen=True)
class ContainerRecord(_Json):
    """What is fixed when a container is made (container.json)."""

    id: str
    name: str
    image: str
    created_s: float
    layers: list[str]
    """Folders of the image, top first."""

    network: str
    """Whose network it has: its own ("bridge", whatever it is on; "none"; "user": a plain user's), "host", or
    "container:ID"."""

    address: str | None = None
    """Of a record that was made before there were several networks; so are the next three. See endpoints."""

    prefix_length: int = 24
    gateway: str | None = None
    bridge: str | None = None
    attachments: list[dict[str, Any]] = field(default_factory=list)
    """The networks it is on, as JSON; see endpoints."""

    stop_signal: str = "SIGTERM"
    user: str | None = None
    """As the user gave it; looked up in the container's own /etc/passwd when it starts."""

    stdin: bool = False
    """Keep its standard input open for `attach`."""

    auto_remove: bool = False
    """Its supervisor removes it when it has ended."""

    size: list[int] | None = None
    """(rows, columns) of its terminal at the start."""

    labels: dict[str, str] = field(default_factory=dict)
    snapshot: str | None = None
    """Name of the snapshot that its present file system descends from."""

    stop_timeout_s: float | None = None
    """What stop waits before SIGKILL where the caller does not say; None: the backend's default."""

    privileged: bool = False
    userns: str = "host"
    init: bool = False
    """A small first process of ours reaps zombies and passes signals on; the program is its child."""

    driver: str = "native"
    """Who runs it: "native", "runc" or "crun"."""

    restart: dict[str, Any] = field(default_factory=dict)
    """As JSON; see restart_policy. So are health, log and secrets."""

    health: dict[str, Any] | None = None
    log: dict[str, Any] = field(default_factory=dict)
    secrets: list[dict[str, Any]] = field(default_factory=list)
    """Names, places and where each is read: never a content."""

    publish: list[str] = field(default_factory=list)
    """"[ADDRESS:]HOST:GUEST[/udp]" each."""

    exposed: list[str] = field(default_factory=list)
    """"80/tcp" each: what its image says that it listens on, and its user."""

    volumes: list[str] = field(default_factory=list)
    """Places of its own volumes; the first one's folder is volumes/0 beside the record, and so on."""

    named_volumes: dict[str, str] = field(default_factory=dict)
    """The named volume at each place."""

    template: str = ""
    """Name of the template that it was made from."""

    hosts: list[str] = field(default_factory=list)
    """"NAME:ADDRESS" each, for /etc/hosts; the address may be "host-gateway"."""

    dns: list[str] = field(default_factory=list)
    dns_search: list[str] = field(default_factory=list)
    dns_options: list[str] = field(default_factory=list)
    image_id: str = ""
    """Of the image it was made from, whatever is called so now; empty for containers of earlier versions."""

    @property
    def restart_policy(self) -> RestartPolicy:
        """When it is started again after its end."""
        return RestartPolicy(**_known(RestartPolicy, self.restart))

    @property
    def health_check(self) -> HealthCheck | None:
        """How it is asked for its health, if it is."""
        if not self.health:
            return None
        return HealthCheck(**_known(HealthCheck, self.health) | {"args": tuple(self.health["args"])})

    @property
    def log_limits(self) -> LogLimits:
        """How much of its output is kept."""
        return LogLimits(**_known(LogLimits, self.log))

    @property
    def secret_files(self) -> tuple[Secret, ...]:
        """What it finds in /run/secrets, or where each is to be."""
        return tuple(Secret(**_known(Secret, raw)) for raw in self.secrets)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """How it is on each of its networks, eth0 first."""
        if self.attachments or not self.address:
            return tuple(Endpoint.from_json(raw) for raw in self.attachments)
        return (
            Endpoint(
                network=DEFAULT, bridge=self.bridge or "", address=self.address, prefix_length=self.prefix_length,
                gateway=self.gateway or "", mac=first_mac(self.id), link=host_link(self.id),
            ),
        )  # fmt: skip

    def with_endpoints(self, endpoints: Sequence[Endpoint]) -> ContainerRecord:
        """Return the record of one that is on other networks."""
        found = [each.to_json() for each in endpoints]
        return replace(self, attachments=found, address=None, gateway=None, bridge=None)


@dataclass(frozen=True)
class Status(_Json):
    """What changes while a container lives (status.json)."""

    state: str = GuestState.CREATED.value
    pid: int | None = None
    pid_start: int | None = None
    """Start time of pid in clock ticks (/proc/PID/stat field 22): with it a reused pid is told apart."""

    boot_id: str = ""
    started_s: float | None = None
    finished_s: float | None = None
    exit_code: int | None = None
    oom_kills: int | None = None
    note: str = ""
    restarts: int = 0
    """How often in a row it has been started again by itself."""

    ended_by: str = ""
    """Who ended it: "user", "host" (which went down), or nobody: it ended by itself."""

    health: str = ""
    """"starting", "healthy" or "unhealthy"; empty without a check. The results are in health.json."""


def _known(kind: type, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a record for the fields that this version has."""
    names = {f.name for f in fields(kind)}
    return {key: value for key, value in raw.items() if key in names}


def limits_to_json(limits: Limits) -> dict[str, Any]:
    """Return the limits that are set, as JSON types."""
    return {key: value for key, value in asdict(limits).items() if value not in (None, ())}


def limits_from_json(raw: Mapping[str, Any]) -> Limits:
    """The reverse of limits_to_json."""
    known = {f.name for f in fields(Limits)}
    values = {key: value for key, value in raw.items() if key in known}
    values["io_devices"] = tuple(DeviceIo(**device) for device in raw.get("io_devices", ()))
    return Limits(**values)
