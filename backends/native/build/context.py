"""The folder that COPY and ADD read from, the Dockerfile in it, and what is left out of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from backends.errors import NotFound, UsageError, os_error_text
from backends.image import BuildSpec
from backends.native.build import dockerfile, ignore

_NAMES = ("Dockerfile", "Containerfile")


@dataclass(frozen=True, slots=True)
class Context:
    """What a build reads."""

    folder: str
    """Absolute."""

    dockerfile: bytes
    ignore: str
    """Text of the .dockerignore; empty if there is none."""


def read(spec: BuildSpec) -> Context:
    """Return the context of a build. Raises NotFound, UsageError."""
    folder = os.path.abspath(spec.context)
    if not os.path.isdir(folder):
        raise NotFound(f"there is no folder {spec.context} to build in")
    path = _dockerfile(spec, folder)
    data = _bytes(path, dockerfile.LONGEST, "Dockerfile")
    own = path.parent / f"{path.name}.dockerignore"
    place = own if own.is_file() else Path(folder) / ".dockerignore"
    text = _bytes(place, ignore.LONGEST, place.name).decode("utf-8", "surrogateescape") if place.is_file() else ""
    ignore.Ignore.parse(text.encode("utf-8", "surrogateescape"), place.name)
    return Context(folder, data, text)


def _dockerfile(spec: BuildSpec, folder: str) -> Path:
    if spec.dockerfile:
        # As given, and as docker takes it too, below the context.
        for path in (Path(spec.dockerfile), Path(folder) / spec.dockerfile):
            if path.exists():
                return path.absolute()
        raise NotFound(f"there is no Dockerfile {spec.dockerfile}")
    for name in _NAMES:
        if (Path(folder) / name).exists():
            return Path(folder) / name
    raise NotFound(f"there is no Dockerfile in {spec.context}", hint="name one: inn build -f FILE .")


def _bytes(path: Path, most: int, what: str) -> bytes:
    try:
        if not path.is_file():
            raise UsageError(f"{path} is no file")
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise UsageError(f"cannot read the {what}: {os_error_text(error)}") from error
    if len(data) > most:
        raise UsageError(f"{path} has more than {most // 1024**2} MiB")
    return data
