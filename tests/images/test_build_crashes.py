"""A build that is killed leaves nothing running, and what it leaves on disk the next clean removes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.kernel.conftest import native, root
from tests.tools.needs import needs
from tests.tools.waiting import wait_until
from tests.tools.workbench import Workbench, workbench

pytestmark = [needs("root", "cgroup.cpu", "busybox"), pytest.mark.timeout(90)]
__all__ = ["native", "root"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(native: NativeBackend, tmp_path: Path) -> Iterator[Workbench]:
    with workbench(native, tmp_path) as made:
        yield made


def begun(bench: Workbench, root: Path) -> subprocess.Popen[str]:
    """Return a build by the command line, in the middle of a RUN."""
    words = [sys.executable, str(ROOT / "innkeeper.py"), "--root", str(root), "--backend", "native", "build", "."]
    process = subprocess.Popen(words, cwd=bench.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("begun" in line and "RUN" not in line for line in process.stderr)
    return process


def test_a_build_that_is_killed_takes_its_container_along(bench: Workbench, native: NativeBackend, root: Path) -> None:
    bench.write("Dockerfile", "FROM base\nRUN echo begun; sleep 1000\n")
    with begun(bench, root) as process:
        assert [guest.name.startswith("build-") for guest in native.guests()] == [True]
        process.kill()

    wait_until(lambda: not native.guests(), timeout_s=20, what="the container ends and goes")
    assert list((root / "builds").iterdir())
    assert any("half made" in line for line in native.clean(Recorder("test")))


def test_ctrl_c_ends_a_build_in_order(bench: Workbench, native: NativeBackend, root: Path) -> None:
    bench.write("Dockerfile", "FROM base\nRUN echo begun; sleep 1000\n")
    with begun(bench, root) as process:
        process.send_signal(2)
        assert process.wait(timeout=30) == 130
    assert bench.leftovers() == []


def test_clean_leaves_a_build_that_lives_alone(bench: Workbench, native: NativeBackend, root: Path) -> None:
    bench.write("Dockerfile", "FROM base\nRUN echo begun; while ! test -e /go; do sleep 0.1; done\n")
    with begun(bench, root) as process:
        native.clean(Recorder("test"))
        (guest,) = native.guests()
        assert guest.pid
        Path(f"/proc/{guest.pid}/root/go").touch()
        assert process.wait(timeout=30) == 0
