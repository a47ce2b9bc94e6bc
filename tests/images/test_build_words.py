"""`inn build`, `inn commit` and `inn diff` as commands: what goes where, and what is said of what makes no sense."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.container import ContainerSpec
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.kernel.conftest import native, root
from tests.tools.needs import needs
from tests.tools.workbench import Workbench, workbench

pytestmark = [needs("root", "cgroup.cpu", "busybox"), pytest.mark.timeout(60)]
__all__ = ["native", "root"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(native: NativeBackend, tmp_path: Path) -> Iterator[Workbench]:
    with workbench(native, tmp_path) as made:
        yield made


def inn(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the state folder of the test."""
    command = [sys.executable, str(ROOT / "innkeeper.py"), "--root", str(root), "--backend", "native", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=50)


def test_steps_go_to_stderr_and_the_id_to_stdout(bench: Workbench, root: Path, tmp_path: Path) -> None:
    bench.write("Other", "FROM base AS one\nARG A\nRUN echo got $A\nFROM scratch\n")
    words = ["-f", "Other", "-t", "a:1", "-t", "b:2", "--build-arg", "A=x", "--label", "l=m", "--target", "one"]

    done = inn(root, "build", *words, "--iidfile", str(tmp_path / "id"), str(bench.folder))

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{bench.native.image_store.resolve('a:1').id}\n"
    assert (tmp_path / "id").read_text() == done.stdout.strip()
    assert {"[one 2/2] RUN echo got $A", "  got x"} <= set(done.stderr.splitlines())
    assert max(len(line) for line in done.stderr.splitlines()) <= 80
    assert {"a:1", "b:2"} <= {image.name for image in bench.native.images()}
    quiet = inn(root, "image", "build", "-q", "--build-arg", "A=x", "-f", "Other", "--target", "one", str(bench.folder))
    assert quiet.stderr == ""


def test_an_error_is_one_line_with_the_place(bench: Workbench, root: Path) -> None:
    bench.write("Dockerfile", "FROM base\nRUN exit 3\n")
    done = inn(root, "build", str(bench.folder))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "inn: Dockerfile, line 2: RUN: ended with exit code 3: exit 3"
    assert inn(root, "build", "-").returncode == 2
    assert "fetch it first" in inn(root, "build", "https://example.com/x.git").stderr


def test_a_guest_is_compared_and_committed(bench: Workbench, root: Path) -> None:
    guest = bench.native.create(
        ContainerSpec("base", ("sh", "-c", "echo x > /x; rm /etc/group"), name="c"), Recorder("t")
    )
    bench.native.start(guest.ref, Recorder("t"))
    bench.native.wait(guest.ref, timeout_s=20)

    assert inn(root, "diff", "c").stdout == "C /etc\nD /etc/group\nA /x\n"
    done = inn(root, "commit", "-m", "said", "-c", 'CMD ["cat", "/x"]', "c", "made")
    assert done.stdout == f"{bench.native.image_store.resolve('made').id}\n"
    bench.native.remove(guest.ref, Recorder("t"))
    assert bench.said("made") == "x\n"


def test_secrets_and_caches_of_mounts_by_the_command_line(bench: Workbench, root: Path, tmp_path: Path) -> None:
    text = "FROM base\nRUN --mount=type=secret,id=a --mount=type=secret,id=b --mount=type=cache,target=/c "
    bench.write("Dockerfile", text + "echo $(cat /run/secrets/a /run/secrets/b) | cat; touch /c/x\n")
    (tmp_path / "a").write_text("from a file,")
    secrets = ["--secret", f"type=file,id=a,src={tmp_path}/a", "--secret", "type=env,id=b,env=FROM_BASE"]

    command = [sys.executable, str(ROOT / "innkeeper.py"), "--root", str(root), "--backend", "native", "build"]
    done = subprocess.run(
        [*command, *secrets, str(bench.folder)], capture_output=True, text=True, timeout=50,
        env={**os.environ, "FROM_BASE": "from here"},
    )  # fmt: skip
    assert "  from a file,from here\n" in done.stderr, done
    for words in ("src=x", "id=a,src=x,env=y", "type=other,id=a", "id=a,mode=0400,src=x"):
        refused = inn(root, "build", "--secret", words, str(bench.folder))
        assert refused.returncode == 2
        assert "--secret" in refused.stderr
    assert "1 cache of mounts" in inn(root, "image", "prune", "--build-cache").stderr
