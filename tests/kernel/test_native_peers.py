"""Clients and programs that do not behave: nobody else has to wait for them, and none gets past its own error."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from backends.container import ContainerSpec, ExecSpec
from backends.errors import InnkeeperError, StartFailed, UsageError
from backends.model import Guest, GuestState
from backends.native import protocol
from backends.native.backend import NativeBackend
from backends.native.code import ROOT
from backends.trace import Recorder
from tests.tools.containers import log_of, now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(120)]
Run = Callable[..., Guest]
R = Recorder("test")


@pytest.fixture
def quiet(native: NativeBackend, run: Run, root: Path) -> Iterator[Callable[[Path], list[socket.socket]]]:
    """Connect many clients to a socket that never say anything."""
    with ExitStack() as stack:
        yield lambda path: [stack.enter_context(protocol.connect(path, 2.0)) for _ in range(20)]


def test_silent_clients_of_the_spawner_hold_nobody_up(
    native: NativeBackend, run: Run, root: Path, quiet: Callable[[Path], list[socket.socket]]
) -> None:
    run("true")
    clients = quiet(root / "run" / "spawner")
    guest = run("sleep", "1000")
    assert now(native, guest).state is GuestState.RUNNING
    # It answered the start while all of them were still connected: none has been hung up on.
    for client in clients:
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)


def test_a_client_that_does_not_listen_does_not_keep_its_container_from_starting(
    native: NativeBackend, run: Run, root: Path
) -> None:
    run("true")
    guest = native.create(ContainerSpec("host", ("sleep", "1000")), R)
    with protocol.connect(root / "run" / "spawner", 2.0) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        protocol.send(sock, {"op": "start", "id": guest.ref.id, "code": ROOT})
        wait_until(lambda: now(native, guest).state is GuestState.RUNNING, timeout_s=60)


def test_thirty_programs_that_start_at_once_hold_up_neither_log_nor_each_other(
    native: NativeBackend, run: Run, output_of: Callable[..., str]
) -> None:
    guest = run("sh", "-c", "while :; do date +%s%N; sleep 0.1; done", name="logging")
    path = native._store.run_folder(guest.ref.id) / "control"
    with open(os.devnull) as null, protocol.connect(path, 5.0) as sock:
        for _ in range(30):
            protocol.send(
                sock, {"op": "exec", "args": ["sleep", "1000"], "env": [], "terminal": False}, [null.fileno()] * 3
            )
        before = log_of(native, guest)
        wait_until(lambda: log_of(native, guest) != before)
        assert output_of(guest, "echo on") == "on\n"
        answers = [protocol.receive(sock)[0] for _ in range(30)]
        assert all(answer.get("ok") for answer in answers)
    wait_until(lambda: "sleep 1000" not in output_of(guest, "ps ax"))


def test_a_user_table_that_is_no_file_is_read_as_none(
    native: NativeBackend, run: Run, output_of: Callable[..., str]
) -> None:
    guest = run("sleep", "1000")
    line = "rm /etc/passwd /etc/group; mkfifo /etc/passwd; ln -s /dev/zero /etc/group"
    assert output_of(guest, line) == ""
    assert output_of(guest, "id -u", user="7:8") == "7\n"
    with pytest.raises(StartFailed, match="no user"):
        output_of(guest, "true", user="root")


def test_a_user_table_full_of_nonsense_is_read_where_it_makes_sense(
    native: NativeBackend, run: Run, output_of: Callable[..., str]
) -> None:
    guest = run("sleep", "1000")
    lines = (r"\0\377\n", "a:b\n", "ann:x:\u00b2:1\n", "bob:x:99999999999999999999:1\n", "eve:x:1234\n",
             "kim:x:12:x:::\n", "tom:x:13:14:::\n", "x" * 2000 + "\n")  # fmt: skip
    output_of(
        guest, f"printf '%b' '{''.join(lines)}' > /etc/passwd; printf 'g:x:77:tom\\nh:x:\u00b2:tom\\n' >> /etc/group"
    )
    assert output_of(guest, "id -u; id -g; echo $HOME", user="tom") == "13\n14\n/\n"
    assert output_of(guest, "id -G", user="tom").split() == ["14", "77"]
    assert output_of(guest, "id -u; id -g", user="eve") == "1234\n0\n"
    assert output_of(guest, "id -g", user="kim") == "0\n"
    for user in ("ann", "bob", "4294967295", "99999999999999999999", "\u00b2", "tom:no-such"):
        with pytest.raises(StartFailed, match=r"no user|no group"):
            output_of(guest, "true", user=user)


def test_what_no_kernel_can_run_is_refused_at_once(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    for spec in (ExecSpec(("a\0b",)), ExecSpec(("true",), env=("=x",)), ExecSpec(("true",), env=("x",)),
                 ExecSpec(("true",), cwd="usr"), ExecSpec(())):  # fmt: skip
        with pytest.raises(UsageError):
            native.exec(guest.ref, spec)
    for made in (ContainerSpec("host", ("a\0b",)), ContainerSpec("host", ("x",), hostname="a b"),
                 ContainerSpec("host", ("x",), hostname="x" * 65),
                 ContainerSpec("host", ("x",), cwd="usr")):  # fmt: skip
        with pytest.raises(UsageError):
            native.create(made, R)
    assert len(native.guests()) == 1


def test_arguments_that_are_too_long_are_an_error_and_no_hang(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    for size in (140_000, 400_000):
        with pytest.raises(InnkeeperError, match=r"too long|too large"):
            native.exec(guest.ref, ExecSpec(("echo", "x" * size)))
    made = native.create(ContainerSpec("host", ("x" * 400_000,)), R)
    with pytest.raises(StartFailed):
        native.start(made.ref, R)
    assert now(native, guest).state is GuestState.RUNNING
