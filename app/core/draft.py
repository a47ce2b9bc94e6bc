"""A container that is being thought of: the texts of a form, and what they mean."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.core.container_values import variables, volume
from app.core.limits import LIMIT_FIELDS
from backends.container import ContainerSpec, RestartPolicy
from backends.errors import InnkeeperError, UsageError
from backends.model import Limits


@dataclass(frozen=True, slots=True)
class DraftField:
    """One line of the form."""

    name: str
    title: str
    hint: str
    """An example, or where it comes from."""

    meaning: str
    limit: str = ""
    """Field of Limits."""


FIELDS: tuple[DraftField, ...] = (
    DraftField("image", "Image", "nginx", "What it is made from: a name of the images view."),
    DraftField("name", "Name", "web", "Empty: one is made up."),
    DraftField("command", "Command", "the image's own", "Program and arguments; empty: the image's own."),
    DraftField("cpus", "CPUs", "no limit", "Cores it may use: 0.5 is half of one.", "cpus"),
    DraftField("memory", "Memory", "no limit", "Above it a process of it is killed: 256M, 1.5G.", "memory_bytes"),
    DraftField("pids", "Tasks", "no limit", "Processes and threads it may have.", "pids"),
    DraftField("ports", "Ports", "8080:80 127.0.0.1:53:53/udp", "[ADDRESS:]HOST:GUEST[/udp], with blanks between."),
    DraftField("volumes", "Volumes", "/srv/web:/data:ro db:/var/db", "[HOST|NAME:]GUEST[:ro], with blanks between."),
    DraftField("env", "Environment", "KEY=value", 'KEY=value, several with blanks between; "KEY=two words".'),
    DraftField("network", "Network", "bridge", "bridge, none, host, or the name of a network; several with blanks."),
    DraftField("restart", "Restart", "no", "When it is started again: no, on-failure[:N], always, unless-stopped."),
)

SWITCHES: tuple[tuple[str, str, str], ...] = (
    ("terminal", "-t terminal", "It gets a terminal (c opens it)."),
    ("stdin", "-i stdin", "Its standard input stays open."),
    ("remove", "--rm", "It is removed when it has ended."),
    ("init", "--init", "A small first process reaps zombies and passes signals on."),
)


@dataclass(frozen=True, slots=True)
class ImageDefaults:
    """What a container gets from its image anyway."""

    env: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    command: str = ""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ImageDefaults:
        """Read them from an OCI image configuration's `config`, whatever is in it."""
        env = [text for text in _texts(config.get("Env")) if not text.startswith("PATH=")]
        words = [*_texts(config.get("Entrypoint")), *_texts(config.get("Cmd"))]
        return cls(tuple(env), _texts(config.get("Volumes")), _texts(config.get("ExposedPorts")), shlex.join(words))


@dataclass(frozen=True, slots=True)
class Draft:
    """What is written in the form."""

    texts: Mapping[str, str] = field(default_factory=dict)
    """By the names of FIELDS; what is not there is empty."""

    switches: frozenset[str] = frozenset()
    touched: frozenset[str] = frozenset()
    """Fields that the user has written in: they are not filled in any more."""

    defaults: ImageDefaults = field(default_factory=ImageDefaults)

    def text(self, name: str) -> str:
        """Return what is written in a field."""
        return self.texts.get(name, "")

    def written(self, name: str, text: str) -> Draft:
        """Return it with another text in a field."""
        return replace(self, texts={**self.texts, name: text}, touched=self.touched | {name})

    def flipped(self, name: str) -> Draft:
        """Return it with a switch turned."""
        return replace(self, switches=self.switches ^ {name})

    def filled(self, defaults: ImageDefaults) -> Draft:
        """Return it with what the image says in the fields that the user left alone."""
        offered = {
            "ports": " ".join(map(_offer, defaults.ports)),
            "volumes": shlex.join(defaults.volumes),
            "env": shlex.join(defaults.env),
        }
        texts = {**self.texts, **{name: text for name, text in offered.items() if name not in self.touched}}
        return replace(self, texts=texts, defaults=defaults)

    def spec(self) -> ContainerSpec:
        """Return what it asks for. Raises UsageError for the first field that makes no sense."""
        found = self.problems()
        for name, problem in found.items():
            title = next(each.title for each in FIELDS if each.name == name)
            raise UsageError(f"{title}: {problem}")
        return self._spec()

    def problems(self) -> dict[str, str]:
        """Return what is wrong, a line a field; empty if all of it makes sense."""
        found: dict[str, str] = {}
        for each in FIELDS:
            try:
                _PARSERS[each.name](self)
            except InnkeeperError as error:
                found[each.name] = error.message
        if "remove" in self.switches and self.text("restart").strip() not in ("", "no") and "restart" not in found:
            found["restart"] = "--rm and --restart do not go together: what is removed cannot start again"
        return found

    def _spec(self) -> ContainerSpec:
        networks = self._words("network") or ["bridge"]
        limits = {each.limit: _limit(each)(self) for each in FIELDS if each.limit}
        return ContainerSpec(
            image=_image(self),
            args=tuple(self._words("command")),
            name=self.text("name").strip() or None,
            limits=Limits().with_changes({name: value for name, value in limits.items() if value is not None}),
            env=tuple(text for text in _env(self) if text not in self.defaults.env),
            volumes=tuple(text for text in _volumes(self) if text not in self.defaults.volumes),
            publish=tuple(self._words("ports")),
            network=networks[0],
            networks=tuple(networks[1:]),
            restart=_restart(self),
            terminal="terminal" in self.switches,
            stdin="stdin" in self.switches,
            auto_remove="remove" in self.switches,
            init="init" in self.switches,
        )

    def _words(self, name: str) -> list[str]:
        try:
            return shlex.split(self.text(name))
        except ValueError:
            raise UsageError("a quotation mark is missing its partner") from None


def _image(draft: Draft) -> str:
    name = draft.text("image").strip()
    if not name:
        raise UsageError("an image is needed")
    if len(name.split()) > 1:
        raise UsageError(f"{name!r} is no name of an image")
    return name


def _limit(of: DraftField) -> Callable[[Draft], Any]:
    limit = LIMIT_FIELDS[of.limit]

    def parse(draft: Draft) -> Any:
        text = draft.text(of.name).strip()
        try:
            return limit.parse(text) if text else None
        except UsageError as error:
            raise UsageError(error.message.removeprefix(f"{limit.option}: ")) from None

    return parse


def _ports(draft: Draft) -> list[str]:
    words = draft._words("ports")
    for word in words:
        plain, _, protocol = word.partition("/")
        inner = plain.rpartition(":")[2]
        if not inner.partition("-")[0].isdecimal() or protocol not in ("", "tcp", "udp", "sctp"):
            raise UsageError(f"{word!r} is no port: expected [ADDRESS:]HOST:GUEST[/udp], such as 8080:80")
    return words


def _volumes(draft: Draft) -> list[str]:
    words = [volume(word) for word in draft._words("volumes")]
    for word in words:
        source, colon, inside = word.partition(":")
        if not (inside if colon else source).startswith("/"):
            raise UsageError(f"{word!r} is no volume: expected [HOST|NAME:]GUEST[:ro], such as /srv/web:/data")
    return words


def _env(draft: Draft) -> tuple[str, ...]:
    words = draft._words("env")
    for word in words:
        if not word.partition("=")[0]:
            raise UsageError(f"{word!r} has no name: expected KEY=value")
    return variables(words)


def _restart(draft: Draft) -> RestartPolicy:
    return RestartPolicy.parse(draft.text("restart").strip() or "no")


def _offer(port: str) -> str:
    """Return a free-to-use port of the host for one that the image exposes: "80/tcp" is offered as 8080:80."""
    number, _, protocol = port.partition("/")
    if not number.isdecimal():
        return ""
    outer = int(number) + 8000 if int(number) < 1024 else int(number)
    return f"{outer}:{number}" + (f"/{protocol}" if protocol not in ("", "tcp") else "")


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        return tuple(str(each) for each in value)
    return ()


_PARSERS: dict[str, Callable[[Draft], object]] = {
    "image": _image,
    "name": lambda draft: draft.text("name"),
    "command": lambda draft: draft._words("command"),
    "ports": _ports,
    "volumes": _volumes,
    "env": _env,
    "network": lambda draft: draft._words("network"),
    "restart": _restart,
    **{each.name: _limit(each) for each in FIELDS if each.limit},
}
