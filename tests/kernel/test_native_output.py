"""What containers print and read: logs, streams, terminals, input."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from itertools import islice

import pytest

from backends.container import ContainerSpec, ExecSpec
from backends.errors import InnkeeperError, StartFailed
from backends.model import Guest
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import log_of
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.shared_state, pytest.mark.timeout(120)]
Run = Callable[..., Guest]
R = Recorder("test")


def test_both_streams_are_kept_apart_with_their_times(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "echo one; echo two >&2; printf three")
    native.wait(guest.ref, timeout_s=30)
    lines = list(native.logs(guest.ref))
    assert log_of(native, guest, "stdout") == "one\nthree"
    assert log_of(native, guest, "stderr") == "two\n"
    assert [line.time_s for line in lines] == sorted(line.time_s for line in lines)


def test_any_bytes_and_endless_lines_are_logged_exactly(native: NativeBackend, run: Run) -> None:
    program = "import sys; b = bytes(range(256)) * 4096; sys.stdout.buffer.write(b + b'x' * 3000000 + b'\\n\\n')"
    guest = run("python3", "-c", program)
    native.wait(guest.ref, timeout_s=60)
    logged = b"".join(line.data for line in native.logs(guest.ref))
    expected = bytes(range(256)) * 4096 + b"x" * 3000000 + b"\n\n"
    assert hashlib.sha256(logged).digest() == hashlib.sha256(expected).digest()


def test_tail_counts_lines_as_the_program_wrote_them(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "for i in 1 2 3 4; do printf 'part '; sleep 0.05; echo $i; done")
    native.wait(guest.ref, timeout_s=30)
    tails = {count: b"".join(line.data for line in native.logs(guest.ref, tail=count)) for count in (0, 1, 2, 9)}
    assert tails[0] == b""
    assert tails[1] == b"part 4\n"
    assert tails[2] == b"part 3\npart 4\n"
    assert tails[9].count(b"part") == 4


def test_following_shows_what_comes_at_once_and_ends_with_the_container(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "echo first; sleep 0.5; printf prompt; sleep 0.5; echo last")
    seen = b"".join(line.data for line in native.logs(guest.ref, follow=True))
    assert seen == b"first\npromptlast\n"


def test_following_shows_a_line_that_has_not_ended_yet(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "printf prompt; sleep 1000")
    lines = native.logs(guest.ref, follow=True)
    assert [line.data for line in islice(lines, 1)] == [b"prompt"]


def test_following_ends_when_told(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    asked = threading.Event()
    asked.set()
    assert list(native.logs(guest.ref, follow=True, stop=asked.is_set)) == []


def test_two_mebibytes_of_input_arrive_whole_though_the_program_reads_late(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "sleep 0.5; sha256sum", stdin=True)
    data = os.urandom(2 << 20)
    session = native.attach(guest.ref)
    session.write(data)
    session.close_stdin()
    native.wait(guest.ref, timeout_s=60)
    session.close()
    assert log_of(native, guest).split()[0] == hashlib.sha256(data).hexdigest()


def test_without_i_there_is_nothing_to_read_and_no_attach(native: NativeBackend, run: Run) -> None:
    guest = run("sh", "-c", "cat; echo end; sleep 1000")
    wait_until(lambda: "end" in log_of(native, guest))
    with pytest.raises(InnkeeperError, match="input is not open") as caught:
        native.attach(guest.ref)
    assert "-i" in caught.value.hint


def test_a_container_with_a_terminal_has_the_size_asked_for_from_the_start(native: NativeBackend) -> None:
    spec = ContainerSpec("host", ("sh", "-c", "stty size; tty; read x; echo got $x"), terminal=True, size=(31, 97))
    guest = native.create(spec, R)
    native.start(guest.ref, R)
    wait_until(lambda: "/dev/pts/0" in log_of(native, guest))  # the terminal echoes what comes before that
    session = native.attach(guest.ref)
    session.write(b"hello\n")
    native.wait(guest.ref, timeout_s=30)
    session.close()
    text = log_of(native, guest).replace("\r", "")
    assert "31 97\n/dev/pts/0\n" in text
    assert "got hello\n" in text


def test_a_terminal_is_resized_while_it_runs(native: NativeBackend) -> None:
    line = "trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done"
    guest = native.create(ContainerSpec("host", ("sh", "-c", line), terminal=True, size=(24, 80)), R)
    native.start(guest.ref, R)
    wait_until(lambda: "up" in log_of(native, guest))
    session = native.attach(guest.ref)
    session.resize(40, 120)
    wait_until(lambda: "40 120" in log_of(native, guest))
    session.close()


def test_exec_gives_streams_and_exit_code_of_its_own(
    native: NativeBackend, run: Run, output_of: Callable[..., str]
) -> None:
    guest = run("sleep", "1000")
    assert output_of(guest, "echo $COLOUR; pwd", env=("COLOUR=red",), cwd="/usr") == "red\n/usr\n"
    with open(os.devnull) as null:
        fd = null.fileno()
        session = native.exec(guest.ref, ExecSpec(("sh", "-c", "exit 7")), (fd, fd, fd))
    assert session.wait() == 7
    assert log_of(native, guest) == ""


@pytest.mark.parametrize("program,code", [("no-such", 127), ("/etc", 126), ("/etc/hosts", 126)])
def test_exec_of_what_cannot_run_leaves_the_container_alone(
    native: NativeBackend, run: Run, program: str, code: int
) -> None:
    guest = run("sleep", "1000")
    with pytest.raises(StartFailed) as caught:
        native.exec(guest.ref, ExecSpec((program,)))
    assert caught.value.exit_code == code
    assert native.guests()[0].state.is_live


def test_exec_in_a_terminal_reads_and_resizes(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    line = "stty size; read x; stty size; exit 4"
    session = native.exec(guest.ref, ExecSpec(("sh", "-c", line), terminal=True, size=(20, 70)))
    assert session.terminal_fd is not None
    text = b""
    while b"20 70" not in text:
        text += os.read(session.terminal_fd, 1024)
    session.resize(33, 99)
    os.write(session.terminal_fd, b"go\n")
    while b"33 99" not in text:
        text += os.read(session.terminal_fd, 1024)
    assert session.wait() == 4
    session.close()


def test_an_exec_whose_client_goes_away_is_hung_up_on(
    native: NativeBackend, run: Run, output_of: Callable[..., str]
) -> None:
    guest = run("sleep", "1000")
    session = native.exec(guest.ref, ExecSpec(("sleep", "777"), terminal=True))
    assert "sleep 777" in output_of(guest, "ps ax")
    session.close()
    wait_until(lambda: "sleep 777" not in output_of(guest, "ps ax"))


def test_execs_end_with_their_container(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000")
    with open(os.devnull) as null:
        fd = null.fileno()
        session = native.exec(guest.ref, ExecSpec(("sleep", "777")), (fd, fd, fd))
    native.kill(guest.ref, R)
    assert session.wait() == 137
    with pytest.raises(InnkeeperError, match=r"not running|ended|is stopped"):
        native.exec(guest.ref, ExecSpec(("true",)))
