"""One program in one terminal: start, first paint, steady state, keys, exit."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import multiprocessing
import os
import pty
import random
import select
import shlex
import signal
import statistics
import struct
import subprocess
import tempfile
import termios
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.tape import Screen, Tape, watch
from tests.bench.terminal import APP_CURSOR, KEYS, Terminal
from tests.bench.tree import Tree, daemon_cpu, machine_cpu

BURST_GAP = 0.020  # output separated by less than this is one burst ("frame")
now = time.monotonic


@dataclass
class Spec:
    """One program and how to drive it."""

    cmd: str
    name: str = ""
    ready: str = r"\S"
    live: str = ""
    keys: str = "Down,Up"
    key_count: int = 40
    quit: str = "q"
    settle: float = 3.0
    seconds: float = 15.0
    timeout: float = 30.0
    rows: int = 50
    cols: int = 200
    env: dict[str, str] = field(default_factory=dict)
    daemons: list[str] = field(default_factory=list)
    pre_keys: str = ""  # typed after ready, before settle (to reach the right view)
    app_cursor: bool | None = None
    cgroup: bool = True
    dump: str = ""
    tape: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or os.path.basename(shlex.split(self.cmd)[0])


def pct(values: list[float], q: float) -> float:
    """Percentile by nearest rank."""
    s = sorted(values)
    return s[min(len(s) - 1, max(0, math.ceil(q * len(s)) - 1))]


class Session:
    """One launch of one program."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.term = Terminal(spec.rows, spec.cols)
        self.tree = Tree(spec.cgroup)
        self.dir = tempfile.mkdtemp(prefix="tui-cost-", dir="/dev/shm")
        self.tape = Tape(Path(self.dir) / "tape")
        self.bytes = 0
        self.bursts = 0
        self.last_output = 0.0
        self.exited: int | None = None
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(
            self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", spec.rows, spec.cols, spec.cols * 8, spec.rows * 16)
        )
        self.termios = termios.tcgetattr(self.slave)
        patterns = [spec.ready] + ([spec.live] if spec.live else [])
        self.pipe, far = multiprocessing.Pipe()
        self.watcher = multiprocessing.get_context("fork").Process(
            target=watch, args=(self.tape.path, spec.rows, spec.cols, patterns, far), daemon=True
        )
        self.watcher.start()
        env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "LINES", "COLUMNS")}
        env |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"} | spec.env

        def prepare() -> None:
            self.tree.enter()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.started = now()
        try:
            self.proc = subprocess.Popen(
                shlex.split(spec.cmd),
                stdin=self.slave,
                stdout=self.slave,
                stderr=self.slave,
                start_new_session=True,
                preexec_fn=prepare,
                env=env,
            )
        except OSError:
            self.close(launched=False)
            raise
        self.tree.pid = self.proc.pid

    # -- the terminal side
    def pump(self, until: float, stop: Callable[[], bool] | None = None) -> bool:
        """Read output until a time, or until stop() holds after a read."""
        while True:
            wait = until - now()
            if wait <= 0:
                return False
            try:
                ready, _, _ = select.select([self.master], [], [], min(wait, 0.25))
                if not ready:
                    if self.proc.poll() is not None:
                        self.exited = self.proc.returncode
                        return False
                    if stop and stop():
                        return True
                    continue
                chunk = os.read(self.master, 65536)
            except OSError as e:
                if e.errno not in (errno.EIO, errno.EBADF):
                    raise
                chunk = b""
            at = now()
            if not chunk:
                self.exited = self.proc.wait()
                return False
            if at - self.last_output > BURST_GAP:
                self.bursts += 1
            self.last_output = at
            self.bytes += len(chunk)
            self.tape.write(at, chunk)
            if reply := self.term.feed(chunk):
                os.write(self.master, reply)
            if stop and stop():
                return True

    def press(self, name: str) -> float:
        app = self.term.modes.get(b"1", False) if self.spec.app_cursor is None else self.spec.app_cursor
        data = (APP_CURSOR.get(name) if app else None) or KEYS.get(name) or name.encode()
        at = now()
        os.write(self.master, data)
        return at

    # -- the phases
    def wait_ready(self) -> dict[str, Any]:
        want = 2 if self.spec.live else 1
        seen: dict[int, float] = {}

        def check() -> bool:
            with contextlib.suppress(EOFError, OSError):  # the watcher leaves after its last match
                while self.pipe.poll():
                    i, at = self.pipe.recv()
                    seen[i] = at - self.started
            return len(seen) >= want

        deadline = self.started + self.spec.timeout
        cpu_ready = None
        while now() < deadline and self.exited is None and not check():
            self.pump(min(deadline, now() + 0.02))
            if 0 in seen and cpu_ready is None:
                cpu_ready = self.tree.cpu()
        if self.watcher.is_alive() and len(seen) < want:
            with contextlib.suppress(OSError):
                self.pipe.send("stop")
        out: dict[str, Any] = {
            "first_paint_s": seen.get(0),
            "startup_bytes": self.bytes,
            "startup_cpu_s": cpu_ready if cpu_ready is not None else self.tree.cpu(),
        }
        if self.spec.live:
            out["first_live_s"] = seen.get(1)
        return out

    def steady(self) -> dict[str, Any]:
        s = self.spec
        start, cpu0, dm0, (busy0, all0) = now(), self.tree.cpu(), daemon_cpu(s.daemons), machine_cpu()
        b0, n0, sync0, (calls0, sw0) = self.bytes, self.bursts, self.term.sync_pairs, self.tree.counters()
        rss = pss = 0
        step = 0
        while (left := start + s.seconds - now()) > 0 and self.exited is None:
            if step % 3 == 0:
                r, p = self.tree.memory()
                rss, pss = max(rss, r), max(pss, p)
            step += 1
            self.pump(now() + min(left, 1.0))
        calls1, sw1 = self.tree.counters()
        t = now() - start
        (busy1, all1), cpu1, dm1 = machine_cpu(), self.tree.cpu(), daemon_cpu(s.daemons)
        data = b"".join(c for at, c in Tape.read(self.tape.path) if at >= start)
        return {
            "seconds": t,
            "cpu_pct": 100 * (cpu1 - cpu0) / t,
            "daemon_cpu_pct": 100 * (dm1 - dm0) / t if s.daemons else None,
            "bytes_per_s": (self.bytes - b0) / t,
            "zbytes_per_s": len(zlib.compress(data, 6)) / t,
            "bursts_per_s": (self.bursts - n0) / t,
            "sync_pairs_per_s": (self.term.sync_pairs - sync0) / t,
            "write_calls_per_s": (calls1 - calls0) / t,
            "wakeups_per_s": (sw1 - sw0) / t,
            "rss_mib": rss / 2**20,
            "pss_mib": pss / 2**20,
            "machine_busy_pct": 100 * (busy1 - busy0) / max(1e-9, all1 - all0),
        }

    def latency(self) -> dict[str, Any]:
        s = self.spec
        names = [k for k in s.keys.split(",") if k]
        first: list[float] = []
        quiet: list[float] = []
        size: list[float] = []
        missed = 0
        rng = random.Random(7)
        cpu0, t_keys = self.tree.cpu(), now()
        for i in range(s.key_count if names else 0):
            self.pump(now() + rng.uniform(0.12, 0.45))
            limit = now() + 3
            while now() - self.last_output < 0.03 and now() < limit:  # never type into a burst
                self.pump(now() + 0.01)
            if self.exited is not None:
                break
            b0 = self.bytes
            at = self.press(names[i % len(names)])
            if not self.pump(at + 1.5, partial(self._has_grown, b0)):
                missed += 1
                continue
            first.append(self.last_output - at)
            while now() - self.last_output < 0.05 and now() - at < 3:
                self.pump(self.last_output + 0.0501)
            quiet.append(self.last_output - at)
            size.append(float(self.bytes - b0))
        out: dict[str, Any] = {"keys": len(first), "keys_without_output": missed}
        if first:
            for label, v in (("first", first), ("quiet", quiet)):
                out |= {
                    f"key_{label}_ms": 1e3 * statistics.median(v),
                    f"key_{label}_p95_ms": 1e3 * pct(v, 0.95),
                    f"key_{label}_p99_ms": 1e3 * pct(v, 0.99),
                }
            out["key_bytes"] = statistics.median(size)
            out["key_phase_cpu_pct"] = 100 * (self.tree.cpu() - cpu0) / (now() - t_keys)
        return out

    def _has_grown(self, before: int) -> bool:
        return self.bytes > before

    def finish(self) -> dict[str, Any]:
        at = now()
        for k in [k for k in self.spec.quit.split(",") if k]:
            if self.exited is not None:
                break
            with contextlib.suppress(OSError):
                self.press(k)
            self.pump(now() + 0.3)
        while now() - at < 6 and self.exited is None:
            self.pump(now() + 0.05)
        by_key = self.exited is not None
        took = now() - at
        if not by_key:
            for sig in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(OSError):
                    os.killpg(self.proc.pid, sig)
                self.pump(now() + 2, lambda: self.exited is not None)
                if self.exited is not None or self.proc.poll() is not None:
                    break
        with contextlib.suppress(BlockingIOError):  # what is left in the pty
            os.set_blocking(self.master, False)
            while chunk := os.read(self.master, 65536):
                self.term.feed(chunk)
        same = termios.tcgetattr(self.slave)[:4] == self.termios[:4]
        left = self.term.leftovers()
        bad = [m for m in left if m[0] != "("]
        return {
            "quit_by_key": by_key,
            "exit_status": self.exited,
            "exit_s": took if by_key else None,
            "modes_left_on": left,
            "termios_restored": same,
            "clean_exit": by_key and not bad and same and self.exited == 0,
        }

    def close(self, launched: bool = True) -> None:
        if launched and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        for fd in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(fd)
        if self.watcher.is_alive():
            self.watcher.terminate()
        self.watcher.join()
        self.tree.close()
        self.tape.close()
        for p in Path(self.dir).iterdir():
            p.unlink()
        os.rmdir(self.dir)


def run_once(spec: Spec, launches: int, idle: float) -> dict[str, Any]:
    """Extra launches for start-up time, then one full session."""
    paints: list[float] = []
    lives: list[float] = []
    for _ in range(launches - 1):
        s = Session(spec)
        try:
            r = s.wait_ready()
            if r["first_paint_s"] is not None:
                paints.append(r["first_paint_s"])
            if r.get("first_live_s") is not None:
                lives.append(r["first_live_s"])
            s.pump(now() + 0.3)
            s.finish()
        finally:
            s.close()
    out: dict[str, Any] = {}
    if spec.daemons and idle > 0:
        c, t = daemon_cpu(spec.daemons), now()
        time.sleep(idle)
        out["daemon_idle_cpu_pct"] = 100 * (daemon_cpu(spec.daemons) - c) / (now() - t)
    s = Session(spec)
    try:
        out |= s.wait_ready()
        if out["first_paint_s"] is not None:
            paints.append(out["first_paint_s"])
        if out.get("first_live_s") is not None:
            lives.append(out["first_live_s"])
        out["first_paint_s"] = statistics.median(paints) if paints else None
        if spec.live:
            out["first_live_s"] = statistics.median(lives) if lives else None
        for k in [k for k in spec.pre_keys.split(",") if k]:
            s.press(k)
            s.pump(now() + 0.4)
        s.pump(now() + spec.settle)
        out |= s.steady()
        if spec.daemons:
            out["daemon_extra_cpu_pct"] = out["daemon_cpu_pct"] - out.get("daemon_idle_cpu_pct", 0.0)
            out["total_cpu_pct"] = out["cpu_pct"] + max(0.0, out["daemon_extra_cpu_pct"])
        out |= s.latency()
        if out.get("key_first_ms"):
            # share of key presses whose "first output" may be an ordinary refresh
            out["key_contamination"] = min(1.0, out["bursts_per_s"] * out["key_first_ms"] / 1e3)
        if spec.dump:
            screen = Screen(spec.rows, spec.cols)
            for _, chunk in Tape.read(s.tape.path):
                screen.feed(chunk)
            Path(spec.dump).write_text("\n".join(r.rstrip() for r in screen.display) + "\n")
        out |= s.finish()
        out["queries"] = s.term.queries
        if spec.tape:
            Path(spec.tape).write_bytes(b"".join(c for _, c in Tape.read(s.tape.path)))
    finally:
        s.close()
    return out
