"""What docker's users expect of a container's life, on the command line with real containers."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import Inn
from tests.cli.test_containers import at_terminal, names, native
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

__all__ = ["native"]
pytestmark = [needs("root", "cgroup.memory", "cgroup.pids"), pytest.mark.timeout(60)]


def state(inn: Inn, name: str) -> str:
    return str(next(guest["state"] for guest in inn("ps", "--json").json if guest["name"] == name))


def test_a_restart_policy_is_shown_and_changed(native: Inn) -> None:
    native("run", "-d", "--name", "web", "--stop-timeout", "0", "host", "sleep", "1000")
    assert native("update", "--restart", "always", "--pids", "50", "web").out == "web\n"
    assert native("update", "--restart", "sometimes", "web").code == 2
    assert native("update", "web").code == 2
    (guest,) = native("ps", "--json").json
    assert (guest["restart_policy"], guest["limits"]["pids"]) == ("always", 50)
    os.kill(guest["pid"], signal.SIGKILL)
    wait_until(lambda: "running (restart 1)" in native("ps").out)
    assert native("stop", "-t", "0", "web").out == "web\n"
    assert native("stop", "web").out == "web\n"
    assert state(native, "web") == "stopped"
    assert native("start", "web").code == native("start", "web").code == 0


def test_events_tell_of_a_life_whoever_lived_it(native: Inn) -> None:
    follower = native.start("events", "--json", "--filter", "event=die", "--filter", "event=create")
    assert follower.stdout is not None
    wait_until(lambda: Path(f"/proc/{follower.pid}/fd").exists() and "events.jsonl" in _open_files(follower.pid))
    native("run", "--rm", "--name", "web", "host", "sh", "-c", "exit 3")
    lines = [json.loads(follower.stdout.readline()) for _ in range(2)]
    follower.send_signal(signal.SIGINT)
    follower.communicate(timeout=15)
    assert [(line["action"], line["name"], line["backend"]) for line in lines] == [
        ("create", "web", "native"),
        ("die", "web", "native"),
    ]
    assert lines[1]["attributes"] == {"exit_code": "3"}
    past = native("events", "--since", "1h", "--until", "0s", "--format", "json").json_lines
    assert [line["action"] for line in past] == ["create", "start", "die", "remove"]
    assert native("events", "--since", "1h", "--until", "0s", "-f", "guest=nosuch").out == ""
    assert " native die " in native("events", "--since", "1h", "--until", "0s", "-f", "event=die").out


def _open_files(pid: int) -> str:
    return " ".join(os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink())


def test_logs_of_a_time_and_cleared(native: Inn) -> None:
    native("run", "--name", "web", "host", "sh", "-c", "echo one; sleep 0.3; echo two")
    stamps = [line.split()[0] for line in native("logs", "--timestamps", "web").out.splitlines()]
    assert native("logs", "--since", stamps[1], "web").out == "two\n"
    assert native("logs", "--until", stamps[0].replace("Z", "999Z"), "web").out == "one\n"
    assert native("logs", "--since", "1h", "-n", "1", "web").out == "two\n"
    assert native("logs", "--since", "yesterday", "web").code == 2
    assert native("logs", "--clear", "web").code == 0
    assert native("logs", "web").out == ""


def test_stats_are_dockers_table_and_json(native: Inn) -> None:
    native("run", "-d", "--name", "web", "-m", "64M", "--stop-timeout", "0", "host", "sleep", "1000")
    table = native("stats", "--no-stream").out.splitlines()
    assert table[0].split()[:3] == ["ID", "NAME", "CPU"]
    assert "web" in table[1]
    assert "/ 64 MiB" in table[1]
    (row,) = native("stats", "--no-stream", "--format", "json", "web").json_lines
    assert set(row) == {"ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"}
    assert row["PIDs"] == "1"


def test_a_foreground_run_with_rm_that_is_killed_leaves_nothing(native: Inn) -> None:
    run = native.start("run", "--rm", "--name", "web", "host", "sh", "-c", "echo up; exec sleep 1000")
    assert run.stdout is not None
    assert run.stdout.readline() == b"up\n"
    run.kill()
    run.communicate(timeout=15)
    assert names(native) == ["web"]
    native("kill", "web")
    wait_until(lambda: names(native) == [])


# ------------------------------------------------------------------ cp


@pytest.fixture
def web(native: Inn) -> Inn:
    """A container named web that sleeps."""
    native("run", "-d", "--name", "web", "--network", "none", "--stop-timeout", "0", "host", "sleep", "1000")
    return native


def test_files_go_in_and_out(web: Inn, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    assert web("cp", str(tmp_path / "file"), "web:/root/other").code == 0
    assert web("cp", "web:/root/other", str(tmp_path / "back")).code == 0
    assert (tmp_path / "back").read_text() == "content"
    missing = web("cp", str(tmp_path / "file"), "web:/no/such/place")
    assert (missing.code, missing.err.count("\n")) == (1, 1)


def test_archives_go_through_pipes(web: Inn, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("a/b")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"abc"))
    assert web("cp", "-", "web:/root", stdin=buffer.getvalue()).code == 0
    done = subprocess.run(
        web.command("cp", "web:/root/a", "-"), capture_output=True, env=web.environment(), check=True, timeout=15
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert tar.getnames() == ["a", "a/b"]
    assert web("cp", "a", "b").code == web("cp", "web:/a", "web:/b").code == 2


# ------------------------------------------------------------------ terminals


@pytest.mark.parametrize("keys, pressed", [(None, b"\x10\x11"), ("ctrl-a,d", b"\x01d")])
def test_a_program_that_exec_started_can_be_left_and_goes_on(web: Inn, keys: str | None, pressed: bytes) -> None:
    more = ["--detach-keys", keys] if keys else []
    with at_terminal(web, "exec", "-it", *more, "web", "sh", "-c", "echo ready; read x; echo $x > /root/x") as terminal:
        terminal.wait_for(b"ready")
        terminal.press(pressed)
        assert terminal.wait() == 0
    processes = web("processes", "--json", "web").json
    assert any("read x" in process["command"] for process in processes)


def test_run_is_left_with_keys_of_ones_own_and_attached_to_again(native: Inn) -> None:
    with at_terminal(native, "run", "-it", "--detach-keys", "ctrl-e", "--name", "web", "host", "cat") as terminal:
        terminal.press(b"hello\n")
        terminal.wait_for(b"hello\r\nhello")
        terminal.press(b"\x05")
        assert terminal.wait() == 0
    assert state(native, "web") == "running"
    with at_terminal(native, "attach", "--detach-keys", "x", "web") as again:
        again.press(b"y\n")
        again.wait_for(b"y\r\ny")
        again.press(b"x")
        assert again.wait() == 0
    assert native("attach", "--detach-keys", "ctrl-shift", "web").code == 2


def test_attach_gives_the_exit_code_of_one_that_is_removed_at_its_end(native: Inn) -> None:
    native("run", "-d", "--rm", "-it", "--name", "web", "host", "sh")
    with at_terminal(native, "attach", "web") as terminal:
        terminal.press(b"\necho $((6*7))\n")
        terminal.wait_for(b"42")
        terminal.press(b"exit 5\n")
        assert terminal.wait() == 5
        assert b"inn:" not in terminal.shown
    wait_until(lambda: names(native) == [])


# ------------------------------------------------------------------ the host


def test_the_unit_for_systemd_is_sound_and_can_be_installed(native: Inn, tmp_path: Path) -> None:
    done = native("boot", "enable", "--unit-dir", str(tmp_path))
    unit = tmp_path / "innkeeper.service"
    assert done.out == f"{unit}\n"
    text = unit.read_text()
    assert text == native("boot", "unit").out
    assert f"--root {native.root} boot start" in text
    if shutil.which("systemd-analyze"):
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
        )
        assert "innkeeper.service" not in checked.stderr
    assert native("boot", "disable", "--unit-dir", str(tmp_path)).code == 0
    assert not unit.exists()


def test_boot_stop_and_boot_start_are_one_night_of_the_host(native: Inn) -> None:
    native("run", "-d", "--name", "web", "--restart", "always", "--stop-timeout", "0", "host", "sleep", "1000")
    native("run", "-d", "--name", "other", "--stop-timeout", "0", "host", "sleep", "1000")
    assert sorted(native("boot", "stop").out.split()) == ["other", "web"]
    assert native("boot", "list").out == "web\n"
    assert native("boot").out == "web\n"
    assert (state(native, "web"), state(native, "other")) == ("running", "stopped")
