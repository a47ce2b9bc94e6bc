"""A memory limit below present use: on every cgroup version the kernel's OOM killer makes room, and counts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from backends.kernel.cgroup import Cgroup, detect
from backends.model import Limits
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.memory"), pytest.mark.timeout(120)]
MIB = 1 << 20

_HOG = "import sys, time; b = b'x' * (int(sys.argv[1]) << 20); print('full', flush=True); time.sleep(1000)"
_ENTER = "import os, sys; sys.stdin.read(1); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.fixture
def group() -> Iterator[Cgroup]:
    """A group of our own, gone afterwards."""
    group = detect().group(f"innkeeper-test-{os.getpid()}/shrink")
    for step in group.create_steps():
        step.run()
    yield group
    group.kill()
    group.remove()
    group.host.group(group.path.partition("/")[0]).remove_if_unused()


def hog(group: Cgroup, mebibytes: int) -> subprocess.Popen[bytes]:
    """Start a process in the group that holds memory."""
    command = [sys.executable, "-c", _ENTER, sys.executable, "-c", _HOG, str(mebibytes)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    group.enter(process.pid)
    process.stdin.write(b"x")
    process.stdin.close()
    assert process.stdout.readline() == b"full\n"
    process.stdout.close()
    return process


def apply(group: Cgroup, wanted: Limits) -> None:
    """Set limits."""
    for step in group.limit_steps(wanted):
        step.run()


def test_the_largest_process_is_killed_and_counted_and_the_limit_holds(group: Cgroup) -> None:
    large, small = hog(group, 120), hog(group, 4)
    apply(group, Limits(memory_bytes=60 * MIB))
    assert large.wait(30) == -9
    assert small.poll() is None
    reader = group.reader()
    wait_until(lambda: (reader.read(time.monotonic()).oom_kills or 0) >= 1)
    sample = reader.read(time.monotonic())
    reader.close()
    assert sample.memory_limit_bytes == 60 * MIB
    assert (sample.memory_bytes or 0) <= 60 * MIB
    assert group.limits().memory_bytes == 60 * MIB
    small.kill()
    small.wait()


def test_a_limit_that_reclaim_alone_can_reach_kills_nobody(group: Cgroup) -> None:
    process = hog(group, 20)
    apply(group, Limits(memory_bytes=100 * MIB))
    apply(group, Limits(memory_bytes=60 * MIB))
    assert process.poll() is None
    reader = group.reader()
    assert reader.read(time.monotonic()).oom_kills == 0
    reader.close()
    process.kill()
    process.wait()
