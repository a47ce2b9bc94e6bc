"""Creating a container: who runs when, what it is in, what it gets, and that a failure leaves nothing."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.errors import StartFailed
from backends.oci import rootfs
from backends.oci.errors import NotRunning
from backends.oci.gate import SocketGate, start_by_fifo
from tests.tools.engine import Engine, captured, engine_at, kill, namespace, wait_for
from tests.tools.needs import needs

pytestmark = [needs("root", "busybox"), pytest.mark.timeout(60)]


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine with a bundle of its own; all it makes is removed afterwards."""
    with engine_at(Path(tempfile.mkdtemp(prefix="inn-test-"))) as made:
        yield made


# ── the gate ────────────────────────────────────────────────────────────────────────────────────────


def test_a_created_container_runs_nothing_until_it_is_started(engine: Engine) -> None:
    engine.program("sh", "-c", "echo ran")
    with captured() as (stdio, read):
        created = engine.create(engine.fifo(), stdio=stdio)
        assert "inn-init" in Path(f"/proc/{created.pid}/cmdline").read_text()
        engine.start(created)
        wait_for(created.pidfd)
        assert read() == "ran\n"


def test_a_runtime_that_stays_starts_it_over_its_socket(engine: Engine) -> None:
    engine.program("sh", "-c", "echo $$")
    assert engine.output() == "1\n"
    assert engine.output(gate=SocketGate(is_open=True)) == "1\n"


def test_a_container_that_died_before_its_start_is_told_to_be_stopped(engine: Engine) -> None:
    created = engine.create(engine.fifo())
    kill(created)
    with pytest.raises(NotRunning, match="cannot start a container that has stopped"):
        engine.start(created)


@pytest.mark.parametrize(
    "program,code,words",
    [
        ("foo", 127, r'exec: "foo": executable file not found in \$PATH'),
        ("/foo", 127, 'exec: "/foo": stat /foo: no such file or directory'),
        ("/etc", 126, 'exec: "/etc": is a directory'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_a_program_that_cannot_be_is_an_error_of_create_in_runcs_words(
    engine: Engine, program: str, code: int, words: str
) -> None:
    engine.program(program)
    with pytest.raises(StartFailed, match=words) as caught:
        engine.create(engine.fifo())
    assert caught.value.exit_code == code


def test_a_program_that_the_kernel_refuses_is_an_error_of_start(engine: Engine) -> None:
    bad = engine.bundle.folder / "rootfs" / "bin" / "bad"
    bad.write_bytes(b"\x7fELF no more")
    bad.chmod(0o755)
    engine.program("bad")
    created = engine.create(engine.fifo())
    with pytest.raises(StartFailed, match="exec /bin/bad: exec format error") as caught:
        engine.start(created)
    assert caught.value.exit_code == 126


def test_two_starts_of_one_container_run_it_once(engine: Engine) -> None:
    engine.program("true")
    created = engine.create(engine.fifo())
    engine.start(created)
    wait_for(created.pidfd)
    with pytest.raises(NotRunning):
        start_by_fifo(str(engine.bundle.folder / "fifo"), created.pidfd)


# ── hooks ───────────────────────────────────────────────────────────────────────────────────────────


def test_hooks_run_in_order_each_in_its_namespaces_with_the_state_on_their_input(engine: Engine) -> None:
    seen = engine.bundle.folder / "seen"
    seen.mkdir(mode=0o777)
    engine.config["mounts"].append(
        {"destination": "/seen", "type": "bind", "source": str(seen), "options": ["bind", "rw"]}
    )
    for kind in ("prestart", "createRuntime", "createContainer"):
        engine.hook(
            kind, f"cat > {seen}/{kind}; readlink /proc/self/ns/mnt > {seen}/{kind}.ns; echo {kind} >> {seen}/order"
        )
    engine.config["hooks"]["startContainer"] = [
        {"path": "/bin/sh", "args": ["sh", "-c", "cat > /seen/startContainer; echo startContainer >> /seen/order"]}
    ]
    engine.program("sh", "-c", "echo program >> /seen/order")
    created = engine.create(engine.fifo())
    inside, ours = namespace(created.pid, "mount"), namespace("self", "mount")
    assert not (seen / "startContainer").exists()
    engine.start(created)
    wait_for(created.pidfd)
    order = ["prestart", "createRuntime", "createContainer", "startContainer", "program"]
    assert (seen / "order").read_text().split() == order
    states = {kind: json.loads((seen / kind).read_text()) for kind in order[:-1]}
    assert [states[kind]["status"] for kind in order[:-1]] == ["created", "creating", "creating", "created"]
    assert [states[kind]["pid"] for kind in order[:-1]] == [created.pid, created.pid, 1, 1]
    assert {state["bundle"] for state in states.values()} == {str(engine.bundle.folder)}
    found = {kind: (seen / f"{kind}.ns").read_text().strip() for kind in order[:3]}
    assert found == {"prestart": ours, "createRuntime": ours, "createContainer": inside}


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_ends_the_creation_and_nothing_is_left(engine: Engine, kind: str) -> None:
    before = mounts_and_children(engine)
    engine.hook(kind, "echo no luck >&2; exit 3")
    with pytest.raises(StartFailed, match=rf"error running {kind} hook #0: exit status 3.*no luck"):
        engine.create(engine.fifo())
    assert not engine.groups[-1].exists()
    assert mounts_and_children(engine) == before


def test_a_hook_that_is_not_there_is_told(engine: Engine) -> None:
    engine.config["hooks"] = {"createRuntime": [{"path": "/nowhere/hook"}]}
    with pytest.raises(StartFailed, match="fork/exec /nowhere/hook: no such file or directory"):
        engine.create()


def test_a_hook_that_takes_too_long_is_killed(engine: Engine) -> None:
    engine.hook("createRuntime", "exec sleep 1000", timeout=1)
    with pytest.raises(StartFailed, match=r"hook ran past specified timeout of 1\.0s"):
        engine.create()


def test_a_start_hook_that_fails_keeps_the_program_from_running(engine: Engine) -> None:
    engine.config["hooks"] = {"startContainer": [{"path": "/bin/false"}]}
    engine.program("sh", "-c", "echo ran")
    with captured() as (stdio, read):
        created = engine.create(engine.fifo(), stdio=stdio)
        with pytest.raises(StartFailed, match="error running startContainer hook #0: exit status 1"):
            engine.start(created)
        wait_for(created.pidfd)
        assert read() == ""


def test_hooks_of_a_container_get_its_environment_where_they_name_none(engine: Engine) -> None:
    engine.config["process"]["env"].append("WHO=me")
    check = {"path": "/bin/sh", "args": ["sh", "-c", 'test "$WHO" = me']}
    engine.config["hooks"] = {"startContainer": [check]}
    engine.program("true")
    engine.start(engine.create(engine.fifo()))


# ── failures ────────────────────────────────────────────────────────────────────────────────────────


class Note:
    """A step that is done, or fails, and notes when it is taken back."""

    kind = "note"

    def __init__(self, notes: list[str], name: str, *, fails: bool = False) -> None:
        self._notes, self._name, self._fails = notes, name, fails

    def describe(self) -> str:
        return f"note {self._name}"

    def by_hand(self) -> str:
        return ""

    def run(self) -> None:
        if self._fails:
            raise OSError(5, "no such luck")
        self._notes.append(f"did {self._name}")

    def undo(self) -> None:
        self._notes.append(f"undid {self._name}")


def mounts_and_children(engine: Engine) -> tuple[list[str], list[str]]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(engine.bundle.folder) in line], children


def test_what_was_done_on_the_host_is_taken_back_last_first(engine: Engine) -> None:
    notes: list[str] = []
    steps = [Note(notes, "one"), Note(notes, "two"), Note(notes, "three", fails=True)]
    with pytest.raises(StartFailed, match="cannot note three: no such luck"):
        engine.create(host_steps=lambda pid: steps)
    assert notes == ["did one", "did two", "undid two", "undid one"]
    assert not engine.groups[-1].exists()


@pytest.mark.parametrize("where", ["before_mounts", "in_container"])
def test_a_step_that_fails_inside_leaves_no_group_process_or_mount(engine: Engine, where: str) -> None:
    before = mounts_and_children(engine)
    steps: dict[str, Any] = {where: [Note([], "it", fails=True)]}
    with pytest.raises(StartFailed, match="cannot note it: no such luck"):
        engine.create(**steps)
    assert not engine.groups[-1].exists()
    assert mounts_and_children(engine) == before


def test_a_group_that_was_there_and_empty_is_used_and_stays_after_a_failure(engine: Engine) -> None:
    engine.program("nothing-of-that-name")
    engine.create_group()
    with pytest.raises(StartFailed):
        engine.create()
    assert engine.groups[0].exists()


def test_a_group_with_processes_in_it_is_refused(engine: Engine) -> None:
    engine.running()
    with pytest.raises(StartFailed, match="container's cgroup is not empty: 1 process"):
        engine.create(group=engine.groups[0])


def test_nothing_of_ours_can_be_imported_from_the_image(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = engine.bundle.folder / "rootfs" / "evil.py"
    evil.write_text("raise SystemExit(7)")

    class Import(Note):
        def run(self) -> None:
            __import__("evil")

    # The last steps before execve run among the image's files; an import there finds nothing.
    original = rootfs.enter_steps
    monkeypatch.setattr(rootfs, "enter_steps", lambda scene: [*original(scene), Import([], "import")])
    with pytest.raises(StartFailed, match="No module named 'evil'"):
        engine.create()


def test_a_user_who_is_not_root_is_let_through_the_fifo(engine: Engine) -> None:
    engine.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    engine.program("id", "-u")
    gate = engine.fifo()
    os.chmod(engine.bundle.folder / "fifo", 0o622)
    assert engine.output(gate=gate) == "1000\n"


def test_what_waits_at_the_gate_shows_nothing_of_its_caller(engine: Engine) -> None:
    created = engine.create()
    assert Path(f"/proc/{created.pid}/cmdline").read_bytes().rstrip(b"\0") == b"inn-init"
    # Not dumpable: nobody without the host's own rights sees its binary or memory.
    assert os.stat(f"/proc/{created.pid}/environ").st_uid == 0
    engine.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    created = engine.create()
    assert os.stat(f"/proc/{created.pid}/environ").st_uid == 0
