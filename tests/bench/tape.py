"""What a program wrote: kept on a tape with times, and shown on a screen that can be searched."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyte


class _ScrollingScreen(pyte.Screen):
    """pyte's screen with SU and SD."""

    def scroll_up(self, count: int | None = None, **_: Any) -> None:
        self._scroll(count or 1, down=False)

    def scroll_down(self, count: int | None = None, **_: Any) -> None:
        self._scroll(count or 1, down=True)

    def _scroll(self, count: int, down: bool) -> None:
        top, bottom = self.margins or pyte.screens.Margins(0, self.lines - 1)
        y, x = self.cursor.y, self.cursor.x
        for _ in range(min(count, bottom - top + 1)):
            self.cursor.y = top if down else bottom
            (self.reverse_index if down else self.index)()
        self.cursor.y, self.cursor.x = y, x


class _ScrollingStream(pyte.Stream):
    csi = {**pyte.Stream.csi, "S": "scroll_up", "T": "scroll_down"}  # noqa: RUF012  -- as the base class declares it
    events = frozenset([*pyte.Stream.events, "scroll_up", "scroll_down"])


class Screen:
    """pyte, with the sequences it does not know taken out or expanded first."""

    DROP = re.compile(
        r"\x1b\[[<=>][0-9;:]*[ -/]*[@-~]|\x1b\[\??[0-9;:]*[ -/]+[@-~]|\x1b\[\?[0-9;]*[^0-9;hl]"
        r"|\x1b[P_^X][^\x1b]*\x1b\\|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-9;]*t"
    )
    REP = re.compile(r"([^\x1b])\x1b\[(\d+)b")
    COLON = re.compile(r"\x1b\[[0-9;]*:[0-9;:]*m")

    def __init__(self, rows: int, cols: int) -> None:
        self.screen = _ScrollingScreen(cols, rows)
        self.stream = _ScrollingStream(self.screen)
        self._dec = codecs.getincrementaldecoder("utf-8")("replace")
        self._carry = ""

    def feed(self, chunk: bytes) -> None:
        text = self._carry + self._dec.decode(chunk)
        cut = text.rfind("\x1b")
        self._carry = ""
        if (
            cut >= 0
            and len(text) - cut < 256
            and not re.match(r"\x1b(?:\[[<=>?]?[0-9;:]*[ -/]*[@-~]|[^\[\]P_^X])", text[cut:])
        ):
            text, self._carry = text[:cut], text[cut:]
        text = self.DROP.sub("", text)
        text = self.COLON.sub("", text)
        text = self.REP.sub(lambda m: m[1] * (1 + int(m[2])), text)
        with contextlib.suppress(Exception):  # pyte trips over some private sequences
            self.stream.feed(text)

    @property
    def display(self) -> list[str]:
        return list(self.screen.display)


class Tape:
    """Everything the program wrote, with times: an append-only file."""

    HEAD = struct.Struct("<dI")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._out = path.open("wb", buffering=0)

    def close(self) -> None:
        self._out.close()

    def write(self, at: float, chunk: bytes) -> None:
        self._out.write(self.HEAD.pack(at, len(chunk)) + chunk)

    @staticmethod
    def read(path: Path, follow: Callable[[], bool] | None = None) -> Iterator[tuple[float, bytes]]:
        buf = b""
        with open(path, "rb", buffering=0) as f:
            while True:
                more = f.read(1 << 20)
                buf += more
                while len(buf) >= Tape.HEAD.size:
                    at, n = Tape.HEAD.unpack_from(buf)
                    if len(buf) < Tape.HEAD.size + n:
                        break
                    yield at, buf[Tape.HEAD.size : Tape.HEAD.size + n]
                    buf = buf[Tape.HEAD.size + n :]
                if not more:
                    if follow is None or not follow():
                        return
                    time.sleep(0.004)


def watch(path: Path, rows: int, cols: int, patterns: list[str], conn: Any) -> None:
    """Child process: replay the tape into pyte, report when each pattern first matches."""
    os.setpriority(os.PRIO_PROCESS, 0, 5)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    screen = Screen(rows, cols)
    waiting = [(i, re.compile(p)) for i, p in enumerate(patterns)]
    stop = False

    def follow() -> bool:
        nonlocal stop
        if conn.poll():
            stop = True
        return not stop

    for at, chunk in Tape.read(path, follow):
        screen.feed(chunk)
        text = "\n".join(screen.display)
        for item in list(waiting):
            if item[1].search(text):
                conn.send((item[0], at))
                waiting.remove(item)
        if not waiting:
            return
