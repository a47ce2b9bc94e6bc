"""The small first process, run as what it is: a program of its own."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
from pathlib import Path

import pytest

from backends.native.reaper import program

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="it is x86-64 code")


@pytest.fixture
def init(tmp_path: Path) -> str:
    path = tmp_path / "init"
    path.write_bytes(program.executable())
    path.chmod(0o755)
    return str(path)


def run(*words: str, **more: object) -> tuple[int, str]:
    done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False, **more)  # type: ignore[call-overload]
    return done.returncode, done.stdout + done.stderr


def test_it_is_small_static_and_has_no_executable_stack(init: str) -> None:
    found = Path(init).read_bytes()
    assert len(found) < 4096
    assert found[:4] == b"\x7fELF"
    stack = found[64 + 56 : 64 + 112]
    assert int.from_bytes(stack[4:8], "little") == 6  # read and write


def test_it_ends_as_its_program_ends(init: str) -> None:
    assert run(init, "sh", "-c", "echo out; exit 7") == (7, "out\n")
    assert run(init, "/bin/true") == (0, "")
    assert run(init, "sh", "-c", "kill -KILL $$")[0] == 137
    assert run(init, "sh", "-c", "kill -TERM $$")[0] == 143


def test_its_program_gets_the_words_and_variables_as_they_are(init: str) -> None:
    code, text = run(init, "/bin/sh", "-c", 'echo "$0|$1|$A"', "a b", "", env={"A": "x y"})
    assert (code, text) == (0, "a b||x y\n")


def test_its_program_is_found_in_path_as_a_shell_would(init: str, tmp_path: Path) -> None:
    folder = Path(init).parent
    (folder / "hello").write_text("#!/bin/sh\necho hello\n")
    (folder / "hello").chmod(0o755)
    (folder / "data").write_text("x")
    assert run(init, "hello", env={"PATH": f"/nonexistent:/etc/passwd:{folder}"}) == (0, "hello\n")
    assert run(init, "hello", env={"PATH": ":/bin"}, cwd=folder) == (0, "hello\n")
    assert run(init, "./hello", env={}, cwd=folder) == (0, "hello\n")
    assert run(init, "hello", env={"PATH": "x" * 5000 + f":{folder}"}) == (0, "hello\n")
    assert run(init, "nosuch", env={"PATH": "/bin"})[0] == 127
    assert run(init, "/nosuch")[0] == 127
    assert run(init, "true", env={})[0] == 127
    assert run(init, "data", env={"PATH": str(folder)})[0] == 126
    assert run(init, str(folder))[0] == 126
    assert run(init)[0] == 127


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMIN])
def test_signals_are_passed_on(init: str, number: int) -> None:
    line = f"trap 'echo got; exit 3' {int(number)}; echo ready; while :; do sleep 0.01; done"
    process = subprocess.Popen(
        [init, "bash", "-c", line], stdout=subprocess.PIPE, stdin=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup has SIGHUP ignored, and bash keeps that
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdout, process.stdin:
        try:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(number)
            assert process.stdout.readline() == b"got\n"
            assert process.wait(10) == 3
        finally:
            process.kill()


def test_its_program_has_no_blocked_or_ignored_signals(init: str) -> None:
    text = run(init, "cat", "/proc/self/status")[1]
    lines = dict(line.split(":\t", 1) for line in text.splitlines())
    assert int(lines["SigBlk"], 16) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace is for root")
def test_as_process_1_it_leaves_no_zombies_and_its_end_ends_all(init: str) -> None:
    orphan = "(sleep 0.01 & echo $! ; exec true)"
    make = f"for i in 1 2 3 4 5; do sh -c '{orphan}' >/dev/null; done"
    until_gone = "while ps -e -o comm= | grep -q sleep; do :; done"  # a zombie is still listed
    assert run("unshare", "-pf", "--mount-proc", init, "sh", "-c", f"{make}; {until_gone}; sleep 1000 & exit 4")[0] == 4


def test_keys_of_a_terminal_reach_its_program_only(init: str) -> None:
    pid, master = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background has it ignored, and sh keeps that
        os.execv(
            init, [init, "sh", "-c", "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.01; done"]
        )
    seen = b""
    while b"ready" not in seen and select.select([master], [], [], 10)[0]:
        seen += os.read(master, 1000)
    os.write(master, b"\x03")
    while b"interrupted" not in seen and select.select([master], [], [], 10)[0]:
        seen += os.read(master, 1000)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    os.close(master)
