"""Containers run by an installed runc or crun, with the same supervisor, log, limits, network and secrets."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.container import ContainerSpec, ExecSpec, RestartPolicy, Secret
from backends.errors import InnkeeperError, StartFailed, Unsupported
from backends.kernel.cgroup import detect
from backends.model import Guest, GuestState, Limits
from backends.native.backend import NativeBackend
from backends.native.drivers import command
from backends.trace import Recorder
from tests.tools.containers import log_of, now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(120)]
Run = Callable[..., Guest]
Inside = Callable[..., str]
R = Recorder("test")


def is_installed(name: str) -> bool:
    try:
        command.find(name)
    except Unsupported:
        return False
    return True


def works(name: str) -> bool:
    return is_installed(name) and not (name == "crun" and detect().mode == "hybrid")


def is_alive(pid: int | None) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture(params=["runc", "crun"])
def driver(request: pytest.FixtureRequest) -> str:
    """Each driver that works here."""
    if not works(request.param):
        pytest.skip(f"{request.param} is not installed, or does not run with these cgroups")
    return str(request.param)


def test_a_program_runs_with_our_user_limits_network_and_options(native: NativeBackend, run: Run, driver: str) -> None:
    line = "id -u; id -G; hostname; ls /sys/class/net; ulimit -n; grep -E 'CapEff|Seccomp:' /proc/self/status; exit 3"
    guest = run("sh", "-c", line, driver=driver, groups=("4242",), ulimits=("nofile=77",), cap_drop=("CHOWN",), pids=30)
    assert native.wait(guest.ref, timeout_s=60) == 3
    words = log_of(native, guest).split()
    assert words[:4] == ["0", "0", "4242", guest.ref.id]
    assert {"eth0", "lo"} <= set(words)
    assert words[-5:] == ["77", "CapEff:", "00000000a80425fa", "Seccomp:", "2"]


def test_a_user_by_name_is_looked_up_in_the_image(native: NativeBackend, run: Run, driver: str) -> None:
    guest = run("sh", "-c", "id -u; echo $HOME", driver=driver, user="daemon", network="none")
    native.wait(guest.ref, timeout_s=60)
    assert log_of(native, guest).split() == ["1", "/usr/sbin"]
    with pytest.raises(StartFailed, match="nosuchuser"):
        run("true", driver=driver, user="nosuchuser", network="none")


def test_programs_can_be_run_beside_it(native: NativeBackend, run: Run, output_of: Inside, driver: str) -> None:
    guest = run("sleep", "1000", driver=driver, network="none")
    assert output_of(guest, "cat /proc/1/comm; readlink /proc/self/ns/pid; id -un", user="daemon").split() == [
        "sleep", os.readlink(f"/proc/{now(native, guest).pid}/ns/pid"), "daemon",
    ]  # fmt: skip
    with open(os.devnull, "r+b") as null:
        session = native.exec(guest.ref, ExecSpec(("sh", "-c", "exit 9")), (null.fileno(),) * 3)
        assert session.wait() == 9
        with pytest.raises(StartFailed) as caught:
            native.exec(guest.ref, ExecSpec(("nosuch",)), (null.fileno(),) * 3)
    assert caught.value.exit_code == 127


def test_terminals_have_their_size_from_the_start(native: NativeBackend, run: Run, driver: str) -> None:
    guest = run("sh", "-c", "stty size; sleep 1000", driver=driver, terminal=True, size=(33, 77), network="none")
    wait_until(lambda: "33 77" in log_of(native, guest), timeout_s=20)
    session = native.exec(guest.ref, ExecSpec(("stty", "size"), terminal=True, size=(11, 44)))
    assert session.terminal_fd is not None
    assert os.read(session.terminal_fd, 100).split() == [b"11", b"44"]
    assert session.wait() == 0
    session.close()


@pytest.mark.parametrize("args, code", [(("nosuch",), 127), (("/etc/passwd",), 126)])
def test_what_does_not_start_has_dockers_exit_codes_and_leaves_nothing(
    native: NativeBackend, run: Run, root: Path, driver: str, args: tuple[str, ...], code: int
) -> None:
    guest = native.create(ContainerSpec("host", args, driver=driver), R)
    before = Path("/proc/self/mountinfo").read_text()
    with pytest.raises(StartFailed) as caught:
        native.start(guest.ref, R)
    assert caught.value.exit_code == code
    assert driver in caught.value.message
    assert list((root / "run/drivers" / driver).iterdir()) == []
    assert Path("/proc/self/mountinfo").read_text() == before
    assert now(native, guest).state == GuestState.CREATED


def test_it_can_be_limited_paused_stopped_and_started_again(
    native: NativeBackend, run: Run, output_of: Inside, driver: str
) -> None:
    guest = run("sh", "-c", "trap 'exit 4' TERM; echo up; while :; do sleep 0.1; done", driver=driver, network="none")
    wait_until(lambda: log_of(native, guest) == "up\n", timeout_s=20)
    native.set_limits(guest.ref, {"pids": 20}, R)
    assert native.limits(guest.ref).pids == 20
    native.pause(guest.ref, R)
    assert now(native, guest).state == GuestState.PAUSED
    native.resume(guest.ref, R)
    native.stop(guest.ref, R, timeout_s=20)
    assert now(native, guest).exit_code == 4
    native.start(guest.ref, R)
    wait_until(lambda: log_of(native, guest) == "up\nup\n", timeout_s=20)


def test_secrets_and_a_first_process_are_there_too(
    native: NativeBackend, run: Run, output_of: Inside, driver: str, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.setenv("INN_TEST_TOKEN", "t0ken-value")
    guest = run("sleep", "1000", driver=driver, init=True, secrets=(Secret("token", "env:INN_TEST_TOKEN", 0o440),),
                network="none")  # fmt: skip
    text = output_of(guest, "cat /run/secrets/token; stat -c ' %a' /run/secrets/token; cat /proc/1/comm")
    assert text.split() == ["t0ken-value", "440", "init"]
    kept = [path for path in root.rglob("*") if path.is_file() and b"t0ken-value" in path.read_bytes()]
    assert kept == []


def test_it_is_started_again_by_policy(native: NativeBackend, run: Run, driver: str) -> None:
    line = "echo run; [ -e /tmp/again ] && sleep 1000; touch /tmp/again; exit 1"
    guest = run("sh", "-c", line, driver=driver, restart=RestartPolicy("on-failure"), network="none")
    wait_until(lambda: log_of(native, guest) == "run\nrun\n", timeout_s=30)


def test_when_its_supervisor_is_killed_nothing_is_left(
    native: NativeBackend, run: Run, root: Path, driver: str
) -> None:
    guest = run("sleep", "1000", driver=driver)
    pid = now(native, guest).pid
    supervisor = native._store.supervisor_pid(guest.ref.id)
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: now(native, guest).state == GuestState.STOPPED, timeout_s=30)
    wait_until(lambda: not is_alive(pid), timeout_s=10)
    assert list((root / "run/drivers" / driver).iterdir()) == []


def test_the_plan_says_what_the_runtime_is_called_for(native: NativeBackend, driver: str) -> None:
    plan = native.explain(ContainerSpec("host", ("true",), driver=driver))
    calls = [step.by_hand() for _, step in plan if step.kind == "runtime"]
    assert [word for call in calls for word in ("create", "start") if f" {word} " in call] == ["create", "start"]


def test_a_driver_that_cannot_work_is_refused_before_anything_is_made(
    native: NativeBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if detect().mode == "hybrid" and is_installed("crun"):
        with pytest.raises(Unsupported, match="hybrid"):
            native.create(ContainerSpec("host", ("true",), driver="crun"), R)
    monkeypatch.setattr(command, "_PATH", "/nonexistent")
    with pytest.raises(Unsupported, match="not installed"):
        native.create(ContainerSpec("host", ("true",), driver="runc"), R)
    with pytest.raises(InnkeeperError, match="not known"):
        native.create(ContainerSpec("host", ("true",), driver="docker", limits=Limits()), R)
    assert list((root / "names").iterdir()) == []


def test_a_clone_of_more_layers_than_fit_into_a_page_starts(
    native: NativeBackend, root: Path, output_of: Inside, driver: str
) -> None:
    spec = ContainerSpec("host", ("sleep", "1000"), network="none", driver=driver, volumes=("/data",))
    guest = native.create(spec, R)
    upper = root / "containers" / guest.ref.id / "upper"
    for number in range(80):
        (upper / f"file{number}").write_text(str(number))
        native.snapshot_create(guest.ref, f"s{number}", R)
    clone = native.clone(guest.ref, None, R)
    native.start(clone.ref, R)
    assert output_of(clone, "ls -d /file* | wc -l; touch /data/x && ls /data") == "80\nx\n"
