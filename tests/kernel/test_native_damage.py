"""A file that a power cut or a hand has spoiled: the other containers, the list and the spawner go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backends.container import ContainerSpec
from backends.errors import Damaged
from backends.model import Guest, GuestState
from backends.native import protocol
from backends.native.backend import NativeBackend
from backends.native.store import CONFIG, RECORD, STATUS
from backends.trace import Recorder
from tests.tools.containers import now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(60)]
Run = Callable[..., Guest]
R = Recorder("test")


@pytest.mark.parametrize("name", [CONFIG, RECORD, STATUS])
@pytest.mark.parametrize("text", ["", "[]", '{"a": '])
def test_a_damaged_container_is_listed_as_such_beside_the_others(
    native: NativeBackend, root: Path, name: str, text: str
) -> None:
    damaged, whole = (native.create(ContainerSpec("host", ("true",)), R) for _ in range(2))
    path = root / "containers" / damaged.ref.id / name
    before = path.read_text()
    path.write_text(text)
    try:
        found = {guest.ref.id: guest for guest in native.guests()}
        assert found[whole.ref.id].name == whole.name
        assert found[damaged.ref.id].state is GuestState.LOST
        assert f"{name} is damaged" in found[damaged.ref.id].note
        with pytest.raises(Damaged, match=name):
            native.inspect(damaged.ref)
    finally:
        path.write_text(before)


def test_the_spawner_and_clean_go_on_beside_a_damaged_container(native: NativeBackend, root: Path) -> None:
    damaged = native.create(ContainerSpec("host", ("true",)), R)
    path = root / "containers" / damaged.ref.id / STATUS
    before = path.read_text()
    path.write_text("")
    mark = native._store.run_folder(damaged.ref.id) / "alive"  # as a supervisor leaves it that died
    mark.parent.mkdir(parents=True)
    mark.touch()
    try:
        other = native.run(ContainerSpec("host", ("sleep", "1000")), R)
        assert now(native, other).state is GuestState.RUNNING
        assert any("is damaged" in line for line in native.clean(R))
        assert damaged.name in {path.name for path in (root / "names").iterdir()}
    finally:
        path.write_text(before)
        native.start(damaged.ref, R)


def test_a_supervisor_mends_the_status_that_was_damaged_while_its_container_lived(
    native: NativeBackend, run: Run, root: Path
) -> None:
    guest = run("sh", "-c", "sleep 1000 & wait")
    path = root / "containers" / guest.ref.id / STATUS
    with native._supervisor(guest.ref).connect() as sock:
        path.write_text("")
        protocol.send(sock, {"op": "stop", "signal": 9, "timeout_s": 5})
        wait_until(lambda: not native._store.is_supervised(guest.ref.id))
    found = now(native, guest)
    assert (found.state, found.exit_code) == (GuestState.STOPPED, 137)
