"""What a build says of its steps: a header when one begins, CACHED in it, and how long it took at its end."""

from __future__ import annotations

from collections.abc import Callable

from backends.native.build.instruction import Instruction
from backends.native.images.stored import StoredImage
from backends.trace import Progress, Recorder

_WIDTH = 79


class Deferred(Recorder):
    """A recorder that says a header before the first other line, and passes all else on."""

    def __init__(self, inner: Recorder, header: Callable[[str], None]) -> None:
        super().__init__(inner.process)
        self._inner, self._header, self._is_told = inner, header, False

    def tell(self, end: str = "") -> None:
        """Say the header now, if it was not said before."""
        if not self._is_told:
            self._is_told = True
            self._header(end)

    def say(self, line: str) -> None:
        """Pass on a line."""
        self.tell()
        self._inner.say(line)

    def progress(self, progress: Progress) -> None:
        """Pass it on."""
        self._inner.progress(progress)

    def check(self) -> None:
        """Ask whether to give up."""
        self._inner.check()


def header(title: str, at: int, count: int, text: str, end: str = "") -> str:
    """Return the line that a step begins with, at most as wide as a terminal."""
    head = f"[{title} {at}/{count}]" if title else f"[{at}/{count}]"
    room = _WIDTH - len(head) - len(end) - 2
    return f"{head} {short(text, room)}{' ' + end if end else ''}"


def short(text: str, room: int) -> str:
    """Return a text as one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= room else line[: max(1, room - 1)] + "…"


def _took(took_s: float) -> str:
    return f"{took_s:.1f} s" if took_s < 60 else f"{int(took_s // 60)} min {int(took_s % 60)} s"


def _grown(before: StoredImage | None, after: StoredImage | None) -> str:
    if after is None or len(after.layers) == (len(before.layers) if before else 0):
        return ""
    size, unit = float(after.layers[-1][0].size), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size >= 1024:
            size, unit = size / 1024, larger
    return f", layer of {size:.{0 if unit == 'B' else 1}f} {unit}"


def outcome(step: Instruction, took_s: float, before: StoredImage | None, after: StoredImage | None) -> str:
    """Return the line that a step ends with; empty where there is nothing worth saying."""
    if took_s < 0.1 and step.keyword not in ("RUN", "COPY", "ADD"):
        return ""
    return f"  {_took(took_s)}{_grown(before, after)}"
