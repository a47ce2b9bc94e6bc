"""`run` and `exec` in the foreground: exit codes, signals, the terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from backends.kernel import linux
from tests.oci.life import command, groups_of, left_behind
from tests.tools.bundles import Bundle
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = needs("root", "busybox")


@contextmanager
def in_terminal(words: list[str], size: tuple[int, int] = (24, 80)) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command with a terminal of its own; yields it and the terminal's master."""
    master, slave = pty.openpty()
    linux.set_window_size(slave, *size)
    child = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    try:
        yield child, master
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        child.wait()
        os.close(slave)
        os.close(master)


def read_until(master: int, text: str) -> str:
    """Return what a terminal shows, up to a text."""
    shown = b""
    watch = select.poll()
    watch.register(master, select.POLLIN)
    while text.encode() not in shown:
        assert watch.poll(15_000), f"the terminal shows {shown!r}, and nothing more comes"
        shown += os.read(master, 4096)
    return shown.decode()


@pytest.mark.parametrize("script, code", [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("exit 255", 255)])
def test_its_exit_code_is_the_programs(bundle: Bundle, script: str, code: int) -> None:
    bundle.linux["namespaces"] = [space for space in bundle.linux["namespaces"] if space["type"] != "pid"]

    assert bundle.sh(script).code == code


def test_it_deletes_the_container_at_its_end(bundle: Bundle) -> None:
    bundle.sh("true")

    assert bundle.oci("list", "-q").out == ""


def test_with_keep_the_container_stays(bundle: Bundle) -> None:
    bundle.process["args"] = ["true"]
    bundle.write()

    bundle.oci("run", "--keep", "--bundle", str(bundle.folder), "kept")

    assert bundle.oci("list", "-q").out == "kept\n"
    assert bundle.oci("delete", "kept").code == 0


def test_a_program_that_the_kernel_refuses_is_told_as_runc_tells_it(bundle: Bundle) -> None:
    script = bundle.folder / "rootfs" / "run.sh"
    script.write_text("#!/nosuch\n")
    script.chmod(0o755)
    bundle.process["args"] = ["/run.sh"]

    done = bundle.run()

    assert done.err.splitlines() == ["exec /run.sh: no such file or directory"]
    assert done.code != 0
    assert bundle.oci("list", "-q").out == ""


def test_signals_are_passed_on(bundle: Bundle) -> None:
    script = "trap 'echo got; exit 7' TERM; echo ready; while :; do sleep 0.01; done"
    bundle.process["args"] = ["sh", "-c", script]
    bundle.write()
    words = command(bundle, "run", "--bundle", str(bundle.folder), "signals")

    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        rest = child.stdout.read()

    assert (rest, child.returncode) == ("got\n", 7)
    assert groups_of("signals") == []


def test_input_and_output_go_through(bundle: Bundle) -> None:
    bundle.process["args"] = ["cat"]
    bundle.write()
    data = os.urandom(1 << 20)

    words = command(bundle, "run", "--bundle", str(bundle.folder), "piped")
    done = subprocess.run(words, input=data, capture_output=True, timeout=20)

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_a_terminal_is_raw_meanwhile_and_as_before_afterwards(bundle: Bundle) -> None:
    bundle.process.update({"terminal": True, "args": ["sh", "-c", "stty size; tty; read x; echo got $x; exit 5"]})
    bundle.write()

    with in_terminal(command(bundle, "run", "--bundle", str(bundle.folder), "tty"), (33, 99)) as (child, master):
        before = termios.tcgetattr(master)
        shown = read_until(master, "/dev/pts/0")
        during = termios.tcgetattr(master)
        os.write(master, b"hello\r")
        read_until(master, "got hello")
        code = child.wait()
        after = termios.tcgetattr(master)

    assert "33 99" in shown
    assert not during[3] & (termios.ICANON | termios.ECHO)
    assert after == before
    assert code == 5


def test_a_new_size_reaches_the_program(bundle: Bundle) -> None:
    script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done"
    bundle.process.update({"terminal": True, "args": ["sh", "-c", script]})
    bundle.write()

    with in_terminal(command(bundle, "run", "--bundle", str(bundle.folder), "sized")) as (child, master):
        read_until(master, "ready")
        linux.set_window_size(master, 40, 120)
        child.send_signal(signal.SIGWINCH)
        assert "40 120" in read_until(master, "120")
        assert child.wait() == 0


def test_exec_has_a_terminal_too(bundle: Bundle) -> None:
    left_behind(bundle, "run", "-d", "--bundle", str(bundle.folder), "live")

    with in_terminal(command(bundle, "exec", "-t", "live", "sh", "-c", "stty size; exit 6"), (20, 70)) as (
        child,
        master,
    ):
        assert "20 70" in read_until(master, "70")
        assert child.wait() == 6


def test_a_console_socket_gets_the_terminal(bundle: Bundle, tmp_path: Path) -> None:
    import socket

    bundle.process.update({"terminal": True, "args": ["sh", "-c", "tty; sleep 1000"]})
    bundle.write()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "sock"))
        server.listen(1)
        done = left_behind(
            bundle, "run", "-d", "--console-socket", str(tmp_path / "sock"), "-b", str(bundle.folder), "console"
        )
        connection, _ = server.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 100, 1)

    assert (done.code, done.err) == (0, "")
    assert read_until(fds[0], "pts/0").strip().endswith("/dev/pts/0")
    os.close(fds[0])


def test_descriptors_are_kept_where_asked_for(bundle: Bundle) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through")
    os.close(writing)
    kept = os.dup2(reading, 3) if reading != 3 else 3
    bundle.process["args"] = ["sh", "-c", "cat <&3"]
    bundle.write()
    try:
        done = bundle.oci("run", "--preserve-fds", "1", "--bundle", str(bundle.folder), "fds", fds=(kept,))
    finally:
        os.close(reading)

    assert (done.code, done.out) == (0, "through"), done


def test_an_end_by_sigkill_of_the_runtime_leaves_what_delete_removes(bundle: Bundle) -> None:
    child = subprocess.Popen(command(bundle, "run", "--bundle", str(bundle.folder), "orphan"))
    wait_until(lambda: "running" in bundle.oci("list").out, what="a running container")
    child.kill()
    child.wait()

    assert bundle.oci("list", "-q").out == "orphan\n"
    assert bundle.oci("delete", "-f", "orphan").code == 0
    assert groups_of("orphan") == []
