"""A network namespace that plays another host, at the end of a line of its own, for measurements.

::

    with FarHost(("iperf3", "-s"), bits_per_s=10**9) as far:
        …  far.address answers, over a line that carries so much

The namespace, the line and the program in it end with the body, and with this process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from backends.errors import InnkeeperError, KernelRefused
from backends.kernel import linux, netlink, rtnetlink
from backends.kernel.rtnetlink import Rtnetlink

_PREFIX_LENGTH = 30
_BURST_BYTES = 256 * 1024
_LATENCY = "20ms"
_END_S = 5.0


class FarHost:
    """The other host. Needs root. RFC 2544 keeps 198.18.0.0/15 for measurements like these."""

    def __init__(self, program: Sequence[str], *, bits_per_s: int | None = None) -> None:
        """bits_per_s: what the line carries towards it; None: as much as it can."""
        self._program, self._bits_per_s = tuple(program), bits_per_s
        self._link = f"innfar{os.getpid() % 10**6}"
        third, fourth = os.getpid() // 64 % 256, os.getpid() % 64 * 4
        self._near, self.address = (f"198.18.{third}.{fourth + end}" for end in (1, 2))
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> FarHost:
        try:
            self._child = self._start()
            self._hear("born")
            self._connect(self._child.pid)
            assert self._child.stdin is not None
            self._child.stdin.write(b"go\n")
            self._child.stdin.flush()
            self._hear("up")
            if self._bits_per_s is not None:
                self._narrow(self._bits_per_s)
        except OSError as error:
            self.close()
            raise KernelRefused("make a namespace that plays another host", error) from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it all."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate(timeout=_END_S)
        with suppress(OSError):
            netlink.delete_link(self._link)

    def _start(self) -> subprocess.Popen[bytes]:
        root = Path(__file__).resolve().parents[2]
        code = f"import sys; sys.path.insert(0, {str(root)!r}); from backends.kernel import far_host; far_host.be_far()"
        return subprocess.Popen(
            [sys.executable, "-I", "-c", code, self.address, self._near, *self._program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def _hear(self, word: str) -> None:
        assert self._child is not None
        assert self._child.stdout is not None
        said = self._child.stdout.readline().decode(errors="replace").strip()
        if said != word:
            raise InnkeeperError(f"cannot make a namespace that plays another host: {said or 'it ended at once'}")

    def _connect(self, pid: int) -> None:
        with Rtnetlink() as route:
            route.do(rtnetlink.add_veth(self._link, "eth0", netns_pid=pid, mac="02:00:c6:12:00:02"))
            route.do(rtnetlink.add_address(socket.if_nametoindex(self._link), self._near, _PREFIX_LENGTH))

    def _narrow(self, bits_per_s: int) -> None:
        from pyroute2 import IPRoute

        with IPRoute() as route:
            index = socket.if_nametoindex(self._link)
            options = {"rate": f"{bits_per_s}bit", "burst": _BURST_BYTES, "latency": _LATENCY}
            route.tc("add", "tbf", index, 0x10000, **options)


def be_far() -> None:
    """Run in the child: be in a namespace of its own, and when its link is there, become the program."""
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    address, near, *program = sys.argv[1:]
    try:
        linux.unshare(linux.CLONE_NEWNET)
        print("born", flush=True)
        if sys.stdin.readline().strip() != "go":
            return
        netlink.LoopbackUp().run()
        netlink.ConfigureLink("eth0", address, _PREFIX_LENGTH, near).run()
        print("up", flush=True)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.execvp(program[0], program)
    except OSError as error:
        print(f"{program[0]}: {error.strerror}", flush=True)
