"""Any bytes and any messages on our sockets: who receives them answers, stays alive and serves the next client.

INNKEEPER_FUZZ_S says how long each of the tests looks for trouble, in seconds.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.errors import WrongState
from backends.model import Guest, GuestState
from backends.native import protocol
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import now
from tests.tools.needs import needs

SECONDS = float(os.environ.get("INNKEEPER_FUZZ_S", "4"))
pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(SECONDS + 240)]
R = Recorder("test")

_NATIVE = Path(__file__).resolve().parents[2] / "backends" / "native"
_SOURCES = "".join((_NATIVE / f"{name}.py").read_text() for name in ("requests", "session", "spawner"))
_WORDS = sorted(set(re.findall(r'"([a-z_]+)"', _SOURCES)))
"""Every word in quotes of who answers: the operations and their fields are among them."""

_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([0, 1, -1, 9, 15, 2**31, 2**63, 1e308, "native", "sh", "/", "..", "root", "true", "NaN"])
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(_WORDS) | st.text(max_size=8), inner, max_size=4)
        | st.lists(st.sampled_from(["true", "sh", "-c", "sleep 1000", "/nonexistent", ""]), max_size=3)
    ),
    max_leaves=12,
)
_MESSAGES = st.fixed_dictionaries({"op": st.sampled_from(_WORDS) | _SCALARS}).flatmap(
    lambda start: st.dictionaries(st.sampled_from(_WORDS), _VALUES, max_size=6).map(lambda rest: rest | start)
)
_PACKETS = st.binary(min_size=1, max_size=3000) | (_MESSAGES | _VALUES).map(lambda value: json.dumps(value).encode())


def tell(path: Path, packets: list[bytes], fds: int) -> None:
    """Connect, send packets with some descriptors, take what is answered at once, and hang up."""
    with protocol.connect(path, 5.0) as sock, open(os.devnull, "r+b") as null:
        for packet in packets:
            carried = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{fds}i", *[null.fileno()] * fds))]
            with suppress(BrokenPipeError, ConnectionResetError):
                sock.sendmsg([packet], carried if fds else [])
        sock.settimeout(0.02)
        with suppress(OSError, TimeoutError):
            while sock.recv(protocol.MAX_MESSAGE):
                pass


def look_for(trial: Callable[[list[bytes], int], None], after_some: Callable[[], None]) -> None:
    """Try examples until the time is up; hypothesis shows the smallest that fails."""
    deadline = time.monotonic() + SECONDS

    @settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(_PACKETS, min_size=1, max_size=4), st.integers(0, 4))
    def examples(packets: list[bytes], fds: int) -> None:
        trial(packets, fds)

    while time.monotonic() < deadline:
        examples()
        after_some()


def assert_no_traceback(root: Path) -> None:
    """Look into what the helper processes print."""
    for path in (root / "run").rglob("*log*"):
        if path.is_file():
            assert "Traceback" not in path.read_text(errors="replace"), path


def ping(path: Path) -> dict[str, Any]:
    """Ask whether somebody is there. Raises ConnectionRefusedError, FileNotFoundError, Closed."""
    with protocol.connect(path, 20.0) as sock:
        protocol.send(sock, {"op": "ping"})
        return protocol.receive(sock)[0]


def test_a_supervisor_survives_whatever_it_is_told(
    native: NativeBackend, run: Callable[..., Guest], root: Path
) -> None:
    guest = run("sleep", "100000", name="target")
    path = native._store.run_folder(guest.ref.id) / "control"

    def trial(packets: list[bytes], fds: int) -> None:
        if not now(native, guest).state.is_live:  # it was told to end
            with suppress(WrongState):
                native.start(guest.ref, R)
        with suppress(ConnectionRefusedError, FileNotFoundError, protocol.Closed):  # it is just being ended
            tell(path, packets, fds)
            assert ping(path)
        assert now(native, guest).state is not GuestState.LOST

    look_for(trial, lambda: assert_no_traceback(root))


def test_the_spawner_survives_whatever_it_is_told(native: NativeBackend, run: Callable[..., Guest], root: Path) -> None:
    guest = run("sleep", "100000", name="bystander")
    path = root / "run" / "spawner"

    def trial(packets: list[bytes], fds: int) -> None:
        with suppress(ConnectionRefusedError, FileNotFoundError, protocol.Closed):  # it was told to go
            tell(path, packets, fds)
            assert ping(path)["pid"]
        assert now(native, guest).state is GuestState.RUNNING

    def after_some() -> None:
        assert_no_traceback(root)
        native.remove(run("true").ref, R, force=True)

    look_for(trial, after_some)
