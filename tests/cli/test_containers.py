"""run, exec and attach with real containers, from pipes and at a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from backends.base import Cleaning, Closing
from backends.capabilities import Removing
from backends.registry import BackendConfig, make
from backends.trace import Recorder
from tests.cli.conftest import Inn
from tests.cli.terminal import Terminal
from tests.tools.host_image import host_image_in
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.memory", "cgroup.pids"), pytest.mark.timeout(60)]

SIZED = "trap 'stty size' WINCH; stty size; while :; do read line; done"


@pytest.fixture
def native(tmp_path: Path) -> Iterator[Inn]:
    """`inn` with real containers, all of them removed in the end."""
    inn = Inn(tmp_path / "root")
    inn.options = ["--root", str(inn.root), "--backend", "native"]
    with host_image_in(inn.root):
        yield inn
        _remove_all(inn)


def _remove_all(inn: Inn) -> None:
    backend = make("native", BackendConfig(inn.root, inn.root / "run"))
    assert isinstance(backend, Removing)
    assert isinstance(backend, Cleaning)
    assert isinstance(backend, Closing)
    backend.open()
    for guest in backend.guests():
        backend.remove(guest.ref, Recorder("test"), force=True)
    backend.clean(Recorder("test"))
    backend.shutdown()
    backend.close()


def at_terminal(inn: Inn, *arguments: str) -> Terminal:
    return Terminal(inn.command(*arguments), env=inn.environment())


def names(inn: Inn) -> list[str]:
    return [guest["name"] for guest in inn("ps", "--json").json]


def test_a_foreground_run_gives_output_errors_and_exit_code_apart(native: Inn) -> None:
    done = native("run", "--rm", "host", "sh", "-c", "echo out; echo err >&2; exit 3")

    assert (done.code, done.out, done.err) == (3, "out\n", "err\n")
    assert names(native) == []


def test_stdin_reaches_the_program_whole_and_ends(native: Inn) -> None:
    blob = os.urandom(3_000_000).hex().encode()

    done = native("run", "--rm", "-i", "host", "md5sum", stdin=blob)

    import hashlib

    assert done.out.split()[0] == hashlib.md5(blob).hexdigest()


@pytest.mark.parametrize(
    "arguments, code",
    [(["host", "nosuch"], 127), (["host", "/etc/passwd"], 126), (["--pull", "never", "nosuch", "true"], 125)],
)
def test_what_does_not_start_has_dockers_exit_codes(native: Inn, arguments: list[str], code: int) -> None:
    done = native("run", "--rm", *arguments)

    assert (done.code, done.out) == (code, "")
    assert done.err.count("\n") == 1
    assert names(native) == []


def test_options_after_the_image_belong_to_the_program(native: Inn) -> None:
    assert native("run", "--rm", "host", "echo", "--rm", "-n", "--json", "--", "x").out == "--rm -n --json -- x\n"


def test_a_signal_to_run_reaches_the_program(native: Inn) -> None:
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    process = native.start("run", "--rm", "host", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    process.send_signal(signal.SIGTERM)

    process.communicate(timeout=15)
    assert process.returncode == 7


def test_a_second_ctrl_c_kills_what_ignores_the_first(native: Inn) -> None:
    script = "trap 'echo no' INT; echo ready; while :; do sleep 0.1; done"
    process = native.start("run", "--rm", "host", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"no\n"
    process.send_signal(signal.SIGINT)

    process.communicate(timeout=15)
    assert process.returncode == 137


def test_a_detached_run_prints_the_id_and_goes_on(native: Inn) -> None:
    done = native("run", "-d", "--name", "web", "host", "sleep", "60")

    guest = native("ps", "--json").json[0]
    assert done.out == guest["id"] + "\n"
    assert (guest["name"], guest["state"], guest["image"]) == ("web", "running", "host")


def test_a_detached_run_is_removed_when_it_has_ended_if_asked(native: Inn) -> None:
    native("run", "-d", "--rm", "--name", "web", "host", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    assert names(native) == ["web"]

    native("stop", "web")

    wait_until(lambda: names(native) == [])


def test_explaining_a_run_does_none_of_it(native: Inn) -> None:
    plan = native("run", "--explain", "--json", "--name", "web", "--cpus", "0.5", "host", "true").json

    assert [step["sequence"] for step in plan] == list(range(1, len(plan) + 1))
    assert {"process", "kind", "text", "by_hand"} <= set(plan[0])
    assert "pivot_root" in {step["kind"] for step in plan}
    assert names(native) == []


def test_a_traced_run_tells_its_steps_and_trace_tells_them_again(native: Inn) -> None:
    done = native("run", "--trace", "--name", "web", "host", "true")
    recorded = native("trace", "--json", "web").json_lines

    assert "pivot_root" in {step["kind"] for step in recorded}
    assert all(step["text"] in done.err for step in recorded if step["kind"] == "pivot_root")


def test_exec_gives_output_errors_input_and_exit_code(native: Inn) -> None:
    native("run", "-d", "--name", "web", "host", "sleep", "60")

    done = native("exec", "-i", "-e", "WORD=hello", "web", "sh", "-c", "cat; echo $WORD >&2; exit 9", stdin=b"typed")

    assert (done.code, done.out, done.err) == (9, "typed", "hello\n")
    assert native("exec", "web", "nosuch").code == 127
    assert native("exec", "nosuch", "true").code == 125


def test_exec_has_a_terminal_of_the_right_size_that_follows_the_window(native: Inn) -> None:
    native("run", "-d", "--name", "web", "host", "sleep", "60")

    with at_terminal(native, "exec", "-it", "web", "sh", "-c", SIZED) as terminal:
        terminal.wait_for(b"30 100")
        terminal.resize(40, 120)
        terminal.wait_for(b"40 120")
        terminal.press(b"\x03")

        assert terminal.wait() == 130
        assert not terminal.is_raw


def test_run_at_a_terminal_detaches_and_attaches(native: Inn) -> None:
    script = "stty size; while read line; do echo got $line; done"
    with at_terminal(native, "run", "--name", "web", "-it", "host", "sh", "-c", script) as terminal:
        terminal.wait_for(b"30 100")
        terminal.press(b"one\r")
        terminal.wait_for(b"got one")
        terminal.press(b"\x10\x11")
        assert terminal.wait() == 0
        assert not terminal.is_raw

    with at_terminal(native, "attach", "web") as terminal:
        wait_until(lambda: terminal.is_raw)
        terminal.press(b"two\r")
        terminal.wait_for(b"got two")
        terminal.press(b"\x04")
        assert terminal.wait() == 0


def test_the_container_outlives_its_terminal_and_the_terminal_its_client(native: Inn) -> None:
    with at_terminal(native, "run", "--name", "web", "-it", "host", "sh") as terminal:
        before = terminal.settings
        terminal.wait_for(b"#")
        assert terminal.is_raw
        terminal.process.kill()
        terminal.process.wait(10)

        wait_until(lambda: terminal.settings == before)
    assert native("ps", "--json").json[0]["state"] == "running"


def test_a_terminal_is_refused_for_a_pipe(native: Inn) -> None:
    done = native("run", "--rm", "-it", "host", "true")

    assert done.code == 125
    assert "stdin is no terminal" in done.err


def test_logs_at_a_terminal_are_harmless_and_in_a_pipe_untouched(native: Inn) -> None:
    native("run", "--name", "web", "host", "printf", r"\033]0;owned\007red\n")

    assert native("logs", "web").out == "\x1b]0;owned\x07red\n"
    with at_terminal(native, "logs", "web") as terminal:
        assert terminal.wait() == 0
        assert b"\x1b" not in terminal.shown
        assert b"red" in terminal.shown


def test_the_demo_shows_three_containers_and_goes_without_a_trace(native: Inn) -> None:
    made = native("demo", "--no-screen")
    guests = native("ps", "--json", "--label", "innkeeper.demo").json
    removed = native("demo", "--remove")

    assert (made.code, removed.code) == (0, 0)
    assert {guest["name"]: guest["state"] for guest in guests} == dict.fromkeys(
        ("demo-cpu", "demo-mem", "demo-io"), "running"
    )
    assert names(native) == []
    left = subprocess.run(["pgrep", "-f", str(native.root)], capture_output=True, text=True, check=False).stdout
    assert left == ""


def helpers_of(inn: Inn) -> list[str]:
    """Return the command lines of processes that serve this state folder."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # it has just ended
            found.append(Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if str(inn.root) in line and "spawner" in line]


def test_clean_ends_the_helpers_when_no_container_is_live(native: Inn) -> None:
    native("run", "-d", "--name", "only", "host", "sleep", "1000")
    assert native("clean").code == 0
    with_one = helpers_of(native)
    native("rm", "-f", "only")

    assert native("clean").code == 0

    assert with_one
    wait_until(lambda: not helpers_of(native))


def test_of_several_stops_at_once_none_fails(native: Inn) -> None:
    native("run", "-d", "--name", "box", "host", "sleep", "1000")
    stops = [
        subprocess.Popen(
            native.command("stop", "-t", "0", "box"), env=native.environment(), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    said = [stop.communicate()[0] for stop in stops]
    assert ([stop.returncode for stop in stops], said) == ([0] * 4, ["box\n"] * 4)
