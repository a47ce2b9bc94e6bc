"""What a simulated guest prints."""

from __future__ import annotations

from collections import deque
from random import Random

from backends.model import LogLine

KEPT = 1000

_LINES = (
    b"GET / 200 12ms\n", b"GET /login 302 3ms\n", b"connection from 10.23.0.7\n", b"flushed 42 records\n",
    b"worker 3: job done in 118 ms\n", b"cache hit ratio 0.93\n", b"\x1b[33mwarning\x1b[0m: slow query (1.2 s)\n",
    b"health check ok\n", b"compiling module 17 of 240\n",
)  # fmt: skip


class Journal:
    """Lines that appear with time while the guest runs."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._gap_s = random.uniform(0.3, 4.0)
        self._lines: deque[LogLine] = deque(maxlen=KEPT)
        self._next_s: float | None = None
        self.written = 0
        """Lines ever written."""

    def say(self, time_s: float, text: str) -> None:
        """Write one line now."""
        self._write(LogLine(time_s, "stdout", text.encode() + b"\n"))

    def begin(self, time_s: float) -> None:
        """The guest starts to run and to print."""
        self.say(time_s, "started")
        self._next_s = time_s + self._gap_s

    def end(self, time_s: float) -> None:
        """It prints no more."""
        self.catch_up(time_s)
        self.say(time_s, "stopped")
        self._next_s = None

    def skip(self, time_s: float) -> None:
        """Nothing was printed until this moment."""
        self._next_s = time_s + self._gap_s

    def catch_up(self, time_s: float) -> None:
        """Write what it has printed until this moment; of a long silence only the last lines."""
        if self._next_s is None:
            return
        self._next_s = max(self._next_s, time_s - KEPT * self._gap_s)
        while self._next_s <= time_s:
            stream = "stderr" if self._random.random() < 0.1 else "stdout"
            self._write(LogLine(self._next_s, stream, self._random.choice(_LINES)))
            self._next_s += self._gap_s

    def since(self, number: int) -> list[LogLine]:
        """Return the lines from the number-th ever written on, as far as they are kept."""
        fresh = max(0, min(len(self._lines), self.written - number))
        return list(self._lines)[len(self._lines) - fresh :]

    def clear(self) -> None:
        """Forget what was written so far."""
        self._lines.clear()

    def _write(self, line: LogLine) -> None:
        self._lines.append(line)
        self.written += 1
