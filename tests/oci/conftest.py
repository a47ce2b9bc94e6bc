"""A bundle of busybox with a state folder of its own, of which nothing is left afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.bundles import Bundle
from tests.tools.needs import needs

pytestmark = needs("root", "busybox")


@pytest.fixture
def bundle() -> Iterator[Bundle]:
    """A bundle whose program sleeps."""
    made = Bundle.make(Path(tempfile.mkdtemp(prefix="inn-oci-")))
    made.process["args"] = ["sleep", "1000"]
    terminals = {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["newinstance", "ptmxmode=0666"],
    }
    made.config["mounts"].append(terminals)
    made.write()
    yield made
    made.remove()


@pytest.fixture(autouse=True)
def _from_anywhere(tmp_path: Path) -> Iterator[None]:
    """Callers of a runtime are nowhere in particular."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)
