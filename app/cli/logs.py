"""`inn logs`: what a guest printed.

To a pipe the bytes go as the guest wrote them. To a terminal they are other people's text: bad UTF-8 is
replaced, and escape sequences and control characters but tab and newline are taken out.
"""

from __future__ import annotations

import argparse
import base64
import codecs
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from app.cli.clean import Cleaner
from app.cli.context import capability_of
from app.cli.figures import time_text
from app.cli.operating import wait_for
from backends.capabilities import Logging

if TYPE_CHECKING:
    from app.cli.context import Context
    from backends.model import Guest, LogLine


def logs_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn logs`."""
    from app.core.moments import parse_moment

    parser.add_argument("-f", "--follow", action="store_true", help="go on until the guest ends")
    parser.add_argument("-n", "--tail", type=line_count, metavar="LINES", help='only the last lines; "all" for all')
    parser.add_argument("-t", "--timestamps", action="store_true", help="put the time before each line")
    parser.add_argument("--since", type=parse_moment, metavar="TIME", help="only since then: a time, or 10m ago")
    parser.add_argument("--until", type=parse_moment, metavar="TIME", help="only until then")
    parser.add_argument("--clear", action="store_true", help="throw away what it has printed so far; prints nothing")
    parser.add_argument("--json", action="store_true", help="print one object a line; data is the bytes in base64")
    parser.add_argument("guest", metavar="GUEST", help="the guest")


def line_count(text: str) -> int | None:
    """Return how many lines; None for "all"."""
    from app.core.units import parse_count

    return None if text == "all" else parse_count(text, what="number of lines")


def logs_verb(args: argparse.Namespace, context: Context) -> int:
    """Print the log."""
    with context.workstation_for([args.guest]) as station:
        guest = station.fleet.resolve(args.guest)
        backend = station.backend(guest.ref.backend)
        capability_of(backend, Logging, guest, "logs")
        assert isinstance(backend, Logging)
        if args.clear:
            wait_for(context, station.submit("guest.clear_log", guest.ref))
            return 0
        write = _writer(args, context)
        for line in _between(args.since, args.until, backend, guest, args):
            write(line)
    return 0


def _between(
    since_s: float | None, until_s: float | None, backend: Logging, guest: Guest, args: argparse.Namespace
) -> Iterator[LogLine]:
    """Yield the lines of a time; the last so many of them, where that is asked."""

    def is_over() -> bool:
        return until_s is not None and time.time() > until_s

    if since_s is None and until_s is None:
        yield from backend.logs(guest.ref, follow=args.follow, tail=args.tail)
        return
    lines = backend.logs(guest.ref, follow=args.follow and not is_over(), stop=is_over)
    late = (line for line in lines if since_s is None or line.time_s >= since_s)
    wanted = itertools.takewhile(lambda line: until_s is None or line.time_s <= until_s, late)
    if args.tail is None or args.follow:
        yield from wanted
    else:
        yield from deque(wanted, maxlen=args.tail)


def _writer(args: argparse.Namespace, context: Context) -> Callable[[LogLine], None]:
    if args.json:
        return lambda line: context.out.json_line(_as_json(line))
    stamps = Stamps() if args.timestamps else None
    cleaned = _Cleaned(context) if context.out.is_terminal else None

    def write(line: LogLine) -> None:
        data = stamps.stamp(line) if stamps is not None else line.data
        if cleaned is not None:
            cleaned.write(line.stream, data)
        elif line.stream == "stderr":
            context.talk.raw(data)
        else:
            context.out.raw(data)

    return write


class Stamps:
    """Puts the time before each line, also where lines come in pieces."""

    def __init__(self) -> None:
        self._is_open: dict[str, bool] = {}

    def stamp(self, line: LogLine) -> bytes:
        """Return the bytes with the time before each line that begins in them."""
        mark = f"{time_text(line.time_s)} ".encode()
        was_open = self._is_open.get(line.stream, False)
        self._is_open[line.stream] = not line.data.endswith(b"\n") and (bool(line.data) or was_open)
        *whole, rest = line.data.split(b"\n")
        stamped = b"".join(mark + part + b"\n" for part in whole) + (mark + rest if rest else b"")
        return stamped[len(mark) :] if was_open else stamped


class _Cleaned:
    """Writes log pieces to a terminal."""

    def __init__(self, context: Context) -> None:
        self._out = context.out
        self._streams: dict[str, tuple[codecs.IncrementalDecoder, Cleaner]] = {}

    def write(self, stream: str, data: bytes) -> None:
        """Write what can be shown."""
        if stream not in self._streams:
            self._streams[stream] = codecs.getincrementaldecoder("utf-8")("replace"), Cleaner()
        decoder, cleaner = self._streams[stream]
        self._out.text(cleaner.feed(decoder.decode(data)))
        self._out.flush()


def _as_json(line: LogLine) -> dict[str, object]:
    return {
        "time": time_text(line.time_s),
        "stream": line.stream,
        "text": line.data.decode("utf-8", "replace"),
        "data": base64.b64encode(line.data).decode(),
    }
