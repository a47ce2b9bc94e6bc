"""Secrets reach the program and nothing else: no disk, no log, no other process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from backends.container import ContainerSpec, RestartPolicy, Secret
from backends.errors import InnkeeperError, StartFailed, UsageError
from backends.model import Guest
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import log_of, now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.shared_state, pytest.mark.timeout(120)]
Run = Callable[..., Guest]
Inside = Callable[..., str]
R = Recorder("test")


@pytest.fixture
def value() -> str:
    """Something that is nowhere else."""
    return "s3cr3t-" + os.urandom(12).hex()


@pytest.fixture
def secret(value: str) -> Iterator[Secret]:
    """A secret in a file outside the state folder, which goes before anybody looks at the disk."""
    folder = Path("/dev/shm") / f"inn-test-{os.getpid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "key"
    path.write_text(value)
    yield Secret("key", f"file:{path}", 0o440, 0, 7)
    path.unlink(missing_ok=True)
    folder.rmdir()


def files_with(folder: Path, value: bytes) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with suppress(OSError):
                if value in path.read_bytes():
                    found.append(str(path))
    return found


def processes_with(value: bytes) -> list[str]:
    """Return what of the processes' own files in /proc holds it, this process's left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or entry.name == str(os.getpid()):
            continue
        for name in ("cmdline", "environ", "comm"):
            with suppress(OSError):
                if value in (entry / name).read_bytes():
                    found.append(f"{entry}/{name}")
    return found


def test_a_secret_is_a_read_only_file_in_memory(run: Run, output_of: Inside, secret: Secret, value: str) -> None:
    guest = run("sleep", "1000", secrets=(secret,), network="none")
    text = output_of(guest, "stat -c '%a %u %g' /run/secrets/key; cat /run/secrets/key; stat -f -c %T /run/secrets")
    assert text.split() == ["440", "0", "7", f"{value}ramfs"]
    flags = output_of(guest, "grep /run/secrets /proc/self/mountinfo").split()[5].split(",")
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(flags)
    assert "Read-only" in output_of(guest, "(echo x > /run/secrets/key) 2>&1; (echo x > /run/secrets/new) 2>&1")


def test_the_value_is_nowhere_else(
    native: NativeBackend, run: Run, output_of: Inside, root: Path, secret: Secret, value: str
) -> None:
    recorder = Recorder("test")
    spec = ContainerSpec("host", ("sleep", "1000"), secrets=(secret,), network="none")
    guest = native.create(spec, recorder)
    native.start(guest.ref, recorder)
    assert value in output_of(guest, "cat /run/secrets/key")
    output_of(guest, "true")
    told = json.dumps([native.inspect(guest.ref), [asdict(step) for step in native.trace(guest.ref)],
                       [asdict(step) for step in recorder.records]], default=str)  # fmt: skip
    assert value not in told
    assert "/run/secrets/key" in told
    assert processes_with(value.encode()) == []
    assert files_with(root, value.encode()) == []
    assert value not in output_of(guest, "cat /proc/*/environ /proc/*/cmdline 2>/dev/null; ls -l /proc/*/fd; env")
    native.stop(guest.ref, R, timeout_s=0)
    assert files_with(root, value.encode()) == []


def test_the_supervisor_keeps_it_from_the_swap(native: NativeBackend, run: Run, secret: Secret) -> None:
    guest = run("sleep", "1000", secrets=(secret,), network="none")
    supervisor = native._store.supervisor_pid(guest.ref.id)
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{supervisor}/status").read_text().splitlines())
    assert int(lines["VmLck"].split()[0]) > 0
    links = {os.readlink(link) for link in Path(f"/proc/{supervisor}/fd").iterdir()}
    assert "/memfd:secrets (deleted)" in links


def test_no_descriptor_of_the_secrets_is_open_in_the_container(run: Run, output_of: Inside, secret: Secret) -> None:
    guest = run("sleep", "1000", secrets=(secret,), network="none")
    assert "memfd" not in output_of(guest, "ls -l /proc/1/fd /proc/self/fd")


def test_a_secret_of_a_variable_needs_it_at_each_start(
    native: NativeBackend, run: Run, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INN_TEST_TOKEN", value)
    guest = run("cat", "/run/secrets/token", secrets=(Secret("token", "env:INN_TEST_TOKEN"),), network="none")
    native.wait(guest.ref, timeout_s=60)
    assert log_of(native, guest) == value
    monkeypatch.delenv("INN_TEST_TOKEN")
    with pytest.raises(InnkeeperError, match="INN_TEST_TOKEN is not set"):
        native.start(guest.ref, R)


def test_a_start_by_policy_has_them_though_nobody_is_there_to_give_them(
    native: NativeBackend, run: Run, secret: Secret, value: str
) -> None:
    line = "cat /run/secrets/key; echo; [ -e /tmp/again ] && sleep 1000; touch /tmp/again; exit 3"
    guest = run("sh", "-c", line, secrets=(secret,), restart=RestartPolicy("on-failure"), network="none")
    os.unlink(secret.source.removeprefix("file:"))
    wait_until(lambda: log_of(native, guest) == f"{value}\n{value}\n", timeout_s=30)


def test_after_its_supervisor_was_killed_a_file_is_read_anew(
    native: NativeBackend, run: Run, output_of: Inside, secret: Secret, value: str
) -> None:
    guest = run("sleep", "1000", secrets=(secret,), restart=RestartPolicy("always"), network="none")
    pid = now(native, guest).pid
    assert pid is not None
    supervisor = native._store.supervisor_pid(guest.ref.id)
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: now(native, guest).pid not in (None, pid), timeout_s=30)
    assert output_of(guest, "cat /run/secrets/key") == value


@pytest.mark.parametrize("source", ["file:/nonexistent", "env:INN_NO_SUCH_VARIABLE", "web:x", "file:/"])
def test_a_secret_that_cannot_be_read_is_refused_before_anything_is_made(
    native: NativeBackend, root: Path, source: str
) -> None:
    with pytest.raises(UsageError, match="secret key"):
        native.create(ContainerSpec("host", ("true",), secrets=(Secret("key", source),)), R)
    assert list((root / "names").iterdir()) == []


def test_a_hostile_folder_for_secrets_leads_nowhere(native: NativeBackend, root: Path, secret: Secret) -> None:
    rootfs, victim = root / "hostile", root / "victim"
    (rootfs / "run").mkdir(parents=True)
    victim.mkdir()
    (rootfs / "run/secrets").symlink_to(victim)
    native.image_import("hostile", str(rootfs), R)
    guest = native.create(ContainerSpec("hostile", ("/x",), secrets=(secret,), network="none"), R)
    with pytest.raises(StartFailed):
        native.start(guest.ref, R)
    assert list(victim.iterdir()) == []
