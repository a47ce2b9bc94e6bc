"""The verbs of a container's life, as tests say them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.tools.bundles import Answer, Bundle
from tests.tools.waiting import wait_until

LAUNCHER = Path(__file__).parents[2] / "innkeeper.py"


def command(bundle: Bundle, *words: str) -> list[str]:
    """Return the words that call `inn oci`."""
    return [sys.executable, str(LAUNCHER), "oci", "--root", str(bundle.folder / "state"), *words]


def left_behind(bundle: Bundle, *words: str, fds: Sequence[int] = ()) -> Answer:
    """Call `inn oci` for a program that stays and has the same output: into files, as pipes would not end."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        words = (*command(bundle, *words),)
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=60, pass_fds=fds)
        out.seek(0)
        err.seek(0)
        return Answer(done.returncode, out.read(), err.read())


def create(bundle: Bundle, name: str, *options: str) -> None:
    """Create a container that waits for its start."""
    done = left_behind(bundle, "create", "--bundle", str(bundle.folder), *options, name)
    assert (done.code, done.err) == (0, ""), done


def start(bundle: Bundle, name: str) -> None:
    """Let it run."""
    done = bundle.oci("start", name)
    assert (done.code, done.err) == (0, ""), done


def running(bundle: Bundle, name: str) -> dict[str, Any]:
    """Return the state of a new container that runs."""
    done = left_behind(bundle, "run", "--detach", "--bundle", str(bundle.folder), name)
    assert (done.code, done.err) == (0, ""), done
    return state(bundle, name)


def state(bundle: Bundle, name: str) -> dict[str, Any]:
    """Return what `state` says."""
    done = bundle.oci("state", name)
    assert done.code == 0, done
    found: dict[str, Any] = json.loads(done.out)
    return found


def has_status(bundle: Bundle, name: str, status: str) -> None:
    """Wait until it has a status."""
    wait_until(lambda: state(bundle, name)["status"] == status, what=f"{name} {status}")


def is_refused(done: Answer, *words: str) -> bool:
    """Say whether a command failed and said so in these words."""
    said = done.err.replace('\\"', '"')  # as the text log quotes it
    return done.code != 0 and all(word in said for word in words)


def groups_of(name: str) -> list[str]:
    """Return the control groups of that name that are there, in any hierarchy."""
    return [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{name}") if path.is_dir()]


def mounts() -> list[str]:
    """Return where this mount namespace has something mounted."""
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
