"""`inn bench compare`: real figures of the host and of a container, and nothing left of either."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.needs import needs

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [needs("root", "sysbench", "iperf3"), pytest.mark.timeout(120)]


@pytest.fixture
def root() -> Iterator[Path]:
    """A state folder of the test's own, with nothing that lives in it afterwards."""
    with tempfile.TemporaryDirectory(prefix="inn-test-bench-") as name:
        yield Path(name)
        inn(Path(name), "clean")


def inn(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "innkeeper.py"), "--root", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_each_part_has_a_figure_of_the_host_and_one_of_the_container(root: Path) -> None:
    links = set(os.listdir("/sys/class/net"))

    done = inn(root, "bench", "compare", "--no-vm", "--rounds", "1", "--seconds", "1", "--json")

    assert done.returncode == 0, done.stderr
    host, container = json.loads(done.stdout)["places"]
    assert (host["name"], container["name"]) == ("host", "container")
    parts = {"cpu", "memory-write", "memory-read", "disk-write", "disk-read", "network"}
    assert {name for name, figure in container["figures"].items() if figure["of_host"] > 0} == parts
    assert 0 < container["start_s"] < 20
    assert container["disk_bytes"] > 0
    # The line to the other host carries a gigabit, and both have all of it but for headers.
    assert 0.7e6 < host["figures"]["network"]["median"] < 1e6
    assert json.loads(inn(root, "ps", "-a", "--json").stdout) == []
    assert not {name for name in set(os.listdir("/sys/class/net")) - links if name.startswith("innfar")}


def test_parts_that_do_not_exist_are_refused_with_those_that_do(root: Path) -> None:
    done = inn(root, "bench", "compare", "--only", "gpu")

    assert done.returncode == 2
    assert "there is no part 'gpu'" in done.stderr
    assert "cpu, memory-write" in done.stderr
