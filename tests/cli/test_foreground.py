"""A container in the foreground is a program in a pipe: nothing of its output is lost, however fast it is."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.cli.conftest import Inn
from tests.cli.test_containers import names, native
from tests.tools.needs import needs

__all__ = ["native"]
pytestmark = [needs("root", "cgroup.memory", "cgroup.pids"), pytest.mark.timeout(60)]


@pytest.fixture
def quick(native: Inn) -> Inn:
    """`inn` as people type it, with a warm spawner: `run` goes by way of app.cli.quick."""
    native("run", "--rm", "host", "true")
    native.options = ["--root", str(native.root)]
    return native


@pytest.mark.parametrize("files", [1, 3])
def test_a_program_waits_for_a_slow_reader_and_nothing_is_lost(native: Inn, files: int) -> None:
    log = ["--log-opt", "max-size=20k", "--log-opt", f"max-file={files}"]
    done = native("run", "--rm", *log, "host", "seq", "50000")
    assert done.out.split() == [str(number) for number in range(1, 50001)]
    assert (done.code, done.err, names(native)) == (0, "", [])


def test_more_output_at_once_than_all_its_log_holds_comes_whole(quick: Inn) -> None:
    done = quick("run", "--rm", "host", "sh", "-c", "yes | head -c 2000000")  # 48 MB of log, which holds 30
    assert done.out == "y\n" * 1_000_000
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("script", ["echo one; sleep 0.4; echo two; sleep 0.4; echo three", "yes | head -n 5000"])
def test_a_reader_that_goes_away_ends_run_without_many_words(quick: Inn, script: str) -> None:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        quick.command("run", "--rm", "host", "sh", "-c", script),
        stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE, env=quick.environment(),
    )  # fmt: skip
    os.close(writing)
    os.close(reading)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (141, b"")
