"""The containers that RUN runs in: made by the same runtime as all others, and gone when the step is."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.container import ContainerSpec, Secret
from backends.errors import Cancelled, InnkeeperError
from backends.model import GuestRef
from backends.native.build import stubs
from backends.native.build.workshop import LABEL
from backends.native.images.image import ImageConfig
from backends.trace import Recorder

if TYPE_CHECKING:
    from backends.native.building import Building

_END_S = 20.0
_LONGEST_LINE = 16_384
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Run:
    """One RUN."""

    args: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    user: str
    network: str
    build_id: str
    number: int
    secrets: tuple[Secret, ...] = ()
    """Each at a place of its own."""


def run(backend: Building, image: ImageConfig, asked: Run, upper: Path, recorder: Recorder) -> int:
    """Run it to its end, say what it prints, and put its writable layer at `upper`; return its exit code.

    The container goes when this process does, however that ends. Raises StartFailed, Cancelled.
    """
    spec = ContainerSpec(
        image=image.name,
        entrypoint=(),
        args=tuple(asked.args),
        name=f"build-{asked.build_id}-{asked.number}",
        env=tuple(f"{name}={value}" for name, value in asked.env.items()),
        cwd=asked.cwd or "/",
        user=asked.user or "0",
        network=asked.network,
        labels={LABEL: asked.build_id},
        auto_remove=True,
        secrets=asked.secrets,
        security_opts=("no-new-privileges=false",),  # programs that install others change their user
    )
    guest = backend.make_record(spec, image=image)
    ref = GuestRef("native", guest.id)
    store, _ = backend.places
    try:
        with store.held(ref.id):
            backend.start(ref, Recorder("build"))
            with backend.tied(ref):
                _say_output(backend, ref, recorder)
                code = backend.wait(ref, timeout_s=None)
            folder = store.folder(ref.id)
            _remove_stubs(str(folder / "upper"), guest.layers, store.config(ref.id), asked.secrets)
            upper.rmdir()
            os.rename(folder / "upper", upper)
            (folder / "upper").mkdir(mode=0o755)
    finally:
        with suppress(InnkeeperError):
            backend.remove(ref, Recorder("build"), force=True)
    return 255 if code is None else code


def _remove_stubs(upper: str, layers: Sequence[str], config: Mapping[str, Any], secrets: Sequence[Secret]) -> None:
    """Remove what was made to mount something on."""
    places = [str(mount["destination"]) for mount in config.get("mounts") or ()]
    places += [secret.target for secret in secrets]
    found = [{"destination": stubs.through_links(layers, place)} for place in places]
    stubs.remove(upper, stubs.stubs(upper, layers, {"mounts": found}))


def _say_output(backend: Building, ref: GuestRef, recorder: Recorder) -> None:
    is_given_up = _given_up(recorder)
    lines = {"stdout": _Lines(recorder.say), "stderr": _Lines(recorder.say)}
    for piece in backend.stream(ref, stop=is_given_up):
        lines.setdefault(piece.stream, _Lines(recorder.say)).feed(piece.data)
        if is_given_up():
            break
    for each in lines.values():
        each.end()
    if is_given_up():
        with suppress(InnkeeperError):
            backend.kill(ref, Recorder("build"))
            backend.wait(ref, timeout_s=_END_S)
        raise Cancelled("the build was cancelled")


def _given_up(recorder: Recorder) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            recorder.check()
        except Cancelled:
            return True
        return False

    return ask


class _Lines:
    """Whole lines of what is printed in pieces, without what would move a terminal's cursor."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._left = say, b""

    def feed(self, data: bytes) -> None:
        *whole, self._left = (self._left + data).split(b"\n")
        for line in whole:
            self._tell(line)
        if len(self._left) > _LONGEST_LINE:
            self._tell(self._left)
            self._left = b""

    def end(self) -> None:
        if self._left:
            self._tell(self._left)
            self._left = b""

    def _tell(self, line: bytes) -> None:
        # A progress bar writes over itself: what stood there last is what is left of it.
        last = line.rstrip(b"\r").rpartition(b"\r")[2]
        self._say("  " + _CONTROL.sub(b"", last).decode("utf-8", "replace"))
