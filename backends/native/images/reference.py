"""Names of images, in docker's grammar (github.com/distribution/reference, reference.go).

::

    busybox                                docker.io/library/busybox:latest
    team/app:2                             docker.io/team/app:2
    registry.example:5000/team/app@sha256:…

A name that was given without a registry is kept and shown without it, as docker does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from backends.errors import AlreadyExists, UsageError

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
RESERVED = "host"
"""The built-in image."""

_OFFICIAL = "library/"
_MAX_NAME = 255
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HINT = "as in: busybox, team/app:1.2, registry.example:5000/team/app@sha256:…"


@dataclass(frozen=True, slots=True)
class Reference:
    """What an image is called."""

    registry: str
    """Host and port: "docker.io", "localhost:5000"."""

    repository: str
    """"library/busybox", "team/app"."""

    tag: str = ""
    """Empty only where a digest is given instead."""

    digest: str = ""
    """Of a manifest or an index; empty where none is given."""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Return what a name means; without tag and digest the tag is "latest". Raises UsageError."""
        name, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise UsageError(f"{text!r} is no valid name of an image: {digest!r} is no digest", hint=_HINT)
        tag = ""
        head, colon, tail = name.rpartition(":")
        if colon and "/" not in tail:
            name, tag = head, tail
            if not _TAG.fullmatch(tag):
                raise UsageError(f"{text!r} is no valid name of an image: {tag!r} is no tag", hint=_HINT)
        registry, repository = _split(name)
        if len(name) > _MAX_NAME or not _REGISTRY.fullmatch(registry) or not _REPOSITORY.fullmatch(repository):
            raise UsageError(f"{text!r} is no valid name of an image", hint=_hint(name))
        if re.fullmatch(r"[0-9a-f]{64}", name):
            raise UsageError(f"{text!r} is no valid name of an image: it looks like an id", hint=_HINT)
        return cls(registry, repository, tag or ("" if digest else DEFAULT_TAG), digest)

    @property
    def name(self) -> str:
        """The repository as it is shown: without registry and "library/" where they are the usual ones."""
        if self.registry != DEFAULT_REGISTRY:
            return f"{self.registry}/{self.repository}"
        short = self.repository.removeprefix(_OFFICIAL)
        return self.repository if "/" in short or short == self.repository else short

    def __str__(self) -> str:
        """The whole name as it is shown and kept: "busybox:1.36"."""
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def is_usual_registry(self) -> bool:
        """True if no registry was given, or docker.io."""
        return self.registry == DEFAULT_REGISTRY

    def with_digest(self, digest: str) -> Reference:
        """Return the name of exactly one content: "busybox@sha256:…"."""
        return replace(self, tag="", digest=digest)


def _split(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_registry = slash and (any(mark in first for mark in ".:") or first == "localhost" or first.lower() != first)
    registry, repository = (first, rest) if is_registry else (DEFAULT_REGISTRY, name)
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = _OFFICIAL + repository
    return registry, repository


def _hint(name: str) -> str:
    return "the part after the registry must be in lower case" if name.lower() != name else _HINT


def parse_kept(text: str) -> Reference:
    """Return the reference that an image is kept under: a name, or exactly one content of a repository by its digest.

    Raises UsageError, AlreadyExists.
    """
    found = Reference.parse(text)
    return found if found.digest and not found.tag else parse_name(text)


def parse_name(text: str) -> Reference:
    """Return the reference that an image can be given as its name: without a digest, and not `host`.

    Raises UsageError, AlreadyExists.
    """
    found = Reference.parse(text)
    if found.digest:
        raise UsageError(f"an image cannot be named {text!r}: a name has no digest")
    if found.name == RESERVED:
        raise AlreadyExists(f"the name {RESERVED} is that of the built-in image", hint="choose another name")
    return found
