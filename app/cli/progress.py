"""What builds, pulls, pushes and archives show while they go on: bars on a terminal, plain lines elsewhere.

All of it goes to stderr. A terminal gets at most four updates a second, and of each only the lines that changed, so
that it stays cheap over a slow line. Ctrl-C gives the operation up and waits until nothing half made is left.
"""

from __future__ import annotations

import os
import queue
import shutil
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from app.cli.clean import clean
from app.cli.figures import bytes_text
from app.cli.output import cell_width, cut
from backends.errors import Cancelled, InnkeeperError, TimedOut
from backends.events import Event, Said

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.cli.diagnostics import Talk
    from app.core.operations import Operation
    from app.core.workstation import Workstation
    from backends.model import GuestRef
    from backends.trace import Progress

_TICK_S = 0.25
_STILL_S = 30.0
"""Without a terminal a part that goes on says so that often."""

_NARROWEST_BAR, _WIDEST_BAR = 10, 30
_NAME, _DOING, _AMOUNT = 14, 12, 24
"""Cells of a line's columns."""


class Display(Protocol):
    """Somewhere to show progress."""

    def update(self, parts: Mapping[str, Progress]) -> None:
        """Show how far all parts are."""

    def say(self, line: str) -> None:
        """Show a line that was printed."""

    def end(self) -> None:
        """Leave the place as the next line wants it."""


def follow(
    context: Context,
    station: Workstation,
    command: str,
    ref: GuestRef | None = None,
    *,
    quiet: bool = False,
    plain: bool = False,
    **arguments: object,
) -> object:
    """Do a command of COMMANDS, show how far it is, and return its result or raise its error.

    quiet: show nothing; plain: lines, also on a terminal (somebody else writes there too). On Ctrl-C the operation is
    cancelled; KeyboardInterrupt is raised when it has ended, or at once at a second Ctrl-C.
    """
    said: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()

    def listen(event: Event) -> None:
        if isinstance(event, Said):
            said.put((event.operation_id, event.line))

    display = _display(context.talk, quiet=quiet, plain=plain)
    stop = station.subscribe(listen)
    try:
        return _watch(context, station.submit(command, ref, **arguments), display, said)
    finally:
        stop()


def _watch(
    context: Context, operation: Operation, display: Display, said: queue.SimpleQueue[tuple[int, str]]
) -> object:
    is_cancelled = False
    while True:
        try:
            _show(operation, display, said)
            result = _ended(operation)
        except KeyboardInterrupt:
            display.end()
            if is_cancelled:
                context.talk.note(f"{operation.title}: left alone")
                raise
            is_cancelled = True
            operation.cancel()
            context.talk.note(f"{operation.title}: cancelling; Ctrl-C again does not wait for it")
        except InnkeeperError as error:
            _show(operation, display, said)
            display.end()
            if is_cancelled and isinstance(error, Cancelled):
                context.talk.note(f"{operation.title}: cancelled")
                raise KeyboardInterrupt from error
            raise
        else:
            if result is not _GOES_ON:
                _show(operation, display, said)
                display.end()
                if is_cancelled:
                    context.talk.note(f"{operation.title}: it was done before it could be cancelled")
                    raise KeyboardInterrupt
                return result


_GOES_ON = object()


def _ended(operation: Operation) -> object:
    """Return the result, _GOES_ON if there is none after a moment, or raise the operation's error."""
    try:
        return operation.wait(_TICK_S)
    except TimedOut:
        if operation.is_done:
            return operation.wait()
        return _GOES_ON


def _show(operation: Operation, display: Display, said: queue.SimpleQueue[tuple[int, str]]) -> None:
    while not said.empty():
        number, line = said.get()
        if number == operation.id:
            display.say(line)
    display.update(dict(operation.parts))


def _display(talk: Talk, *, quiet: bool, plain: bool) -> Display:
    if quiet:
        return Silence()
    is_terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return Bars(talk) if is_terminal and not plain else Lines(talk)


class Silence:
    """Shows nothing."""

    def update(self, parts: Mapping[str, Progress]) -> None:
        """Show nothing."""

    def say(self, line: str) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Nothing is to be left in order."""


class Lines:
    """A line when a part begins something else, and now and then one that it goes on."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._told: dict[str, tuple[str, float]] = {}

    def update(self, parts: Mapping[str, Progress]) -> None:
        """Write what is new."""
        now_s = time.monotonic()
        for name, progress in parts.items():
            text, told_s = self._told.get(name, ("", 0.0))
            goes_on = not progress.is_done and now_s - told_s > _STILL_S
            if text == progress.text and not goes_on:
                continue
            self._told[name] = (progress.text, now_s)
            amount = amount_text(progress)
            self._talk.say(f"{part_name(name)}: {progress.text}" + (f" {amount}" if amount else ""))

    def say(self, line: str) -> None:
        """Write it."""
        self._talk.say(line)

    def end(self) -> None:
        """Nothing is to be left in order."""


class Bars:
    """A line for each part, at the bottom; steps that have ended go up with what they printed."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._drawn: list[str] = []
        self._above: list[str] = []
        self._gone_up: set[str] = set()

    def update(self, parts: Mapping[str, Progress]) -> None:
        """Draw what changed."""
        columns, rows = shutil.get_terminal_size()
        lines: list[tuple[bool, str]] = []
        for name, progress in parts.items():
            if name in self._gone_up:
                continue
            line = bar_line(name, progress, columns - 1)
            if progress.is_done and progress.unit == "steps":
                self._gone_up.add(name)
                self._above.append(line)
            else:
                lines.append((progress.is_done, line))
        self._draw(_fitting(lines, max(2, rows - 2)))

    def say(self, line: str) -> None:
        """Put a line above the bars."""
        self._above.append(clean(line))

    def end(self) -> None:
        """Leave what is open where it is, and go below it."""
        self._draw(self._drawn)
        self._drawn = []

    def _draw(self, lines: list[str]) -> None:
        """Go to the top of what is drawn and write what differs."""
        wanted = [*self._above, *lines]
        if wanted == self._drawn:
            return
        old, text = self._drawn, f"\x1b[{len(self._drawn)}A" if self._drawn else ""
        skipped = 0
        for index, line in enumerate(wanted):
            if index < len(old) and old[index] == line:
                skipped += 1
                continue
            text += _down(skipped) + "\r" + line + "\x1b[K\n"
            skipped = 0
        text += _down(skipped)
        if len(wanted) < len(old):
            text += "\x1b[J"
        self._drawn, self._above = lines, []
        encoding = sys.stderr.encoding or "ascii"
        self._talk.raw(text.encode(encoding, "replace"))


def _fitting(lines: list[tuple[bool, str]], most: int) -> list[str]:
    """Return at most so many lines: what is done is left out first."""
    if len(lines) <= most:
        return [line for _, line in lines]
    goes_on = [line for is_done, line in lines if not is_done]
    ended = len(lines) - len(goes_on)
    shown = goes_on[: most - 1]
    waiting = len(goes_on) - len(shown)
    return [*shown, f"… {ended} done" + (f", {waiting} more go on" if waiting else "")]


def _down(lines: int) -> str:
    return f"\x1b[{lines}B" if lines else ""


def bar_line(name: str, progress: Progress, width: int) -> str:
    """Return a part's line: name, what is done, a bar where the whole is known, and how much."""
    name, doing, amount = cut(part_name(name), _NAME), cut(clean(progress.text), _DOING), amount_text(progress)
    head = f"{_padded(name, _NAME)} {_padded(doing, _DOING)}"
    room = min(_WIDEST_BAR, width - cell_width(head) - _AMOUNT - 5)
    if progress.is_done or not progress.total or room < _NARROWEST_BAR:
        return cut(f"{_padded(name, _NAME)} {clean(progress.text)}  {amount}".rstrip(), width)
    filled = room * min(progress.done, progress.total) // progress.total
    bar = "=" * filled + (">" if filled < room else "") + " " * max(0, room - filled - 1)
    return cut(f"{head} [{bar}] {amount}".rstrip(), width)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_width(text))


def part_name(part: str) -> str:
    """Return what a part is called on the screen: the short form of a digest, anything else as it is."""
    return part.removeprefix("sha256:")[:12] if part.startswith("sha256:") else clean(part)


def amount_text(progress: Progress) -> str:
    """Return "1.5 MiB of 3 MiB", "2 of 7 files", "3 MiB" when it is done; empty where there is nothing to say."""
    done, total = progress.done, progress.total
    if progress.unit == "bytes":
        if total is None or done >= total:
            return bytes_text(done) if done else ""
        return f"{bytes_text(done)} of {bytes_text(total)}"
    if progress.unit == "steps" and total in (None, 1):
        return ""
    return f"{done} {progress.unit}" if total is None or done >= total else f"{done} of {total} {progress.unit}"
