"""Programs beside the first one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.oci.life import command, is_refused, left_behind, running
from tests.tools.bundles import Bundle
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = needs("root", "busybox")


@pytest.fixture
def live(bundle: Bundle) -> Bundle:
    """A bundle whose container "live" runs."""
    running(bundle, "live")
    return bundle


def test_its_exit_code_and_output_are_the_programs(live: Bundle) -> None:
    done = live.oci("exec", "live", "sh", "-c", "echo out; echo err >&2; exit 42")

    assert (done.code, done.out, done.err) == (42, "out\n", "err\n")


def test_a_signal_that_ends_it_is_in_the_exit_code(live: Bundle) -> None:
    assert live.oci("exec", "live", "sh", "-c", "kill -9 $$").code == 137


def test_options_say_who_and_where(live: Bundle) -> None:
    options = ["--user", "1000:50", "--additional-gids", "77", "--cwd", "/tmp", "--env", "A=b", "-e", "C=d"]

    done = live.oci("exec", *options, "live", "sh", "-c", "id -u; id -g; id -G; pwd; echo $A$C")

    assert done.out.splitlines() == ["1000", "50", "50 77", "/tmp", "bd"], done


def test_options_after_the_id_are_the_programs(live: Bundle) -> None:
    assert live.oci("exec", "live", "echo", "-e", "--user").out == "--user\n"


def test_a_capability_is_added(live: Bundle) -> None:
    before = live.oci("exec", "live", "grep", "CapEff", "/proc/self/status").out.split()[1]
    after = live.oci("exec", "--cap", "CAP_SYS_TIME", "live", "grep", "CapEff", "/proc/self/status").out.split()[1]

    assert int(after, 16) == int(before, 16) | 1 << 25


def test_a_program_that_is_not_there_is_said_to_be_so(live: Bundle) -> None:
    done = live.oci("exec", "live", "nosuch")

    assert done.code == 255
    said = 'exec failed: unable to start container process: exec: \\"nosuch\\": executable file not found in $PATH'
    assert said in done.err


def test_without_a_program_it_is_refused(live: Bundle) -> None:
    assert is_refused(live.oci("exec", "live"), "exec args cannot be empty")


@pytest.mark.parametrize(
    "option, value, said",
    [
        ("--user", "me", "bad uid"),
        ("--user", "1:me", "bad gid"),
        ("--additional-gids", "-1", "must be a positive number"),
    ],
)
def test_a_user_that_is_no_number_is_refused(live: Bundle, option: str, value: str, said: str) -> None:
    assert is_refused(live.oci("exec", f"{option}={value}", "live", "true"), said)


def test_a_process_file_says_it_all(live: Bundle, tmp_path: Path) -> None:
    wanted = {
        **live.process,
        "args": ["sh", "-c", "echo $X; id -u"],
        "env": ["PATH=/bin", "X=y"],
        "user": {"uid": 7, "gid": 7},
    }
    (tmp_path / "process.json").write_text(json.dumps(wanted))

    done = live.oci("exec", "--process", str(tmp_path / "process.json"), "live")

    assert (done.code, done.out) == (0, "y\n7\n"), done


def test_a_detached_one_goes_on_and_leaves_its_pid(live: Bundle, tmp_path: Path) -> None:
    done = left_behind(live, "exec", "-d", "--pid-file", str(tmp_path / "pid"), "live", "sh", "-c", "sleep 1000")

    pid = int((tmp_path / "pid").read_text())
    assert (done.code, done.err) == (0, "")
    assert pid in json.loads(live.oci("ps", "-f", "json", "live").out)
    live.oci("delete", "-f", "live")
    wait_until(lambda: not Path(f"/proc/{pid}/root/bin").exists(), what="its end with the container's")


def test_it_is_in_the_containers_groups_and_namespaces(live: Bundle) -> None:
    script = "cat /proc/self/cgroup /proc/1/cgroup | sort -u | wc -l; cat /proc/1/cgroup | wc -l"
    places = live.oci("exec", "live", "sh", "-c", script).out.split()
    spaces = live.oci(
        "exec", "live", "sh", "-c", "for n in self/ns 1/ns; do readlink /proc/$n/mnt; readlink /proc/$n/pid; done"
    )

    assert places[0] == places[1]
    assert len(set(spaces.out.split())) == 2


@pytest.mark.parametrize(
    "group, said",
    [("..", "bad sub cgroup path"), ("nosuch", "o such file or directory"), ("what:/", "unknown controller ")],
)
def test_a_group_that_is_not_below_it_is_refused(live: Bundle, group: str, said: str) -> None:
    assert is_refused(live.oci("exec", "--cgroup", group, "live", "true"), said)


def test_a_paused_container_runs_it_when_it_goes_on(live: Bundle) -> None:
    live.oci("pause", "live")

    with subprocess.Popen(
        command(live, "exec", "--ignore-paused", "live", "echo", "on"), stdout=subprocess.PIPE
    ) as child:
        live.oci("resume", "live")
        out, _ = child.communicate(timeout=20)

    assert (child.returncode, out) == (0, b"on\n")
