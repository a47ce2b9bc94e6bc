"""The host goes down and comes up: what is told of containers then, and which are started again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.container import ContainerSpec, RestartPolicy
from backends.model import Guest, GuestState
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.kernel.test_native_survival import kill_and_wait, spawner_pid, supervisor_pid
from tests.tools.containers import now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(60)]
Run = Callable[..., Guest]
R = Recorder("test")
FOREVER = ("sleep", "1000")


def lose_power(native: NativeBackend, root: Path) -> None:
    """Do what a power cut does: all processes and all of /run are gone, and the next boot has another id."""
    keepers = [
        supervisor_pid(native, guest)
        for guest in native.guests()
        if guest.state in (GuestState.RUNNING, GuestState.PAUSED)
    ]
    kill_and_wait(spawner_pid(root))
    for pid in keepers:
        kill_and_wait(pid)
    for guest in native.guests():
        native._group(guest.ref.id).kill()
        native._group(guest.ref.id).remove()
        shutil.rmtree(root / "run" / "containers" / guest.ref.id, ignore_errors=True)
        path = root / "containers" / guest.ref.id / "status.json"
        status = json.loads(path.read_text())
        if status["boot_id"]:
            path.write_text(json.dumps(status | {"boot_id": "of the boot before"}))
        native._roster.forget(guest.ref.id)


def names(guests: list[Guest]) -> list[str]:
    return [guest.name for guest in guests]


def test_after_a_power_cut_states_are_right_and_nothing_starts_by_itself(
    native: NativeBackend, run: Run, root: Path
) -> None:
    alive = run(*FOREVER, stop_timeout_s=0.0, restart=RestartPolicy("always"))
    paused, created = run(*FOREVER), native.create(ContainerSpec("host", FOREVER), R)
    native.pause(paused.ref, R)

    lose_power(native, root)

    for guest in (alive, paused):
        assert (now(native, guest).state, now(native, guest).pid) == (GuestState.STOPPED, None)
        assert now(native, guest).note == "the host was restarted"
    assert now(native, created).state is GuestState.CREATED


def test_boot_starts_what_its_policy_wants_in_order(native: NativeBackend, run: Run, root: Path) -> None:
    run(*FOREVER, stop_timeout_s=0.0, name="plain")
    run(
        *FOREVER,
        stop_timeout_s=0.0,
        name="last",
        restart=RestartPolicy("always"),
        labels={"innkeeper.boot.order": "10"},
    )
    run(*FOREVER, stop_timeout_s=0.0, name="second", restart=RestartPolicy("unless-stopped"))
    run(*FOREVER, stop_timeout_s=0.0, name="third", restart=RestartPolicy("on-failure", 3))
    run(
        *FOREVER,
        stop_timeout_s=0.0,
        name="first",
        restart=RestartPolicy("always"),
        labels={"innkeeper.boot.order": "-1"},
    )
    for name, policy in (
        ("stopped-always", "always"),
        ("stopped-unless", "unless-stopped"),
        ("stopped-f", "on-failure"),
    ):
        native.stop(run(*FOREVER, stop_timeout_s=0.0, name=name, restart=RestartPolicy(policy)).ref, R, timeout_s=0)
    native.create(ContainerSpec("host", FOREVER, name="never-ran", restart=RestartPolicy("always")), R)
    lose_power(native, root)
    wanted = ["first", "second", "third", "stopped-always", "last"]
    assert names(list(native.boot_plan())) == wanted

    done = native.boot(R)

    assert [(guest.name, error) for guest, error in done] == [(name, None) for name in wanted]
    live = {guest.name: guest for guest in native.guests() if guest.state is GuestState.RUNNING}
    assert set(live) == set(wanted)
    assert {guest.restarts for guest in live.values()} == {0}
    assert list(native.boot(R)) == []


def test_what_was_ended_with_the_host_comes_back_with_it(native: NativeBackend, run: Run, root: Path) -> None:
    for name, policy in (("a", "always"), ("b", "unless-stopped"), ("c", "on-failure"), ("d", "no")):
        run(*FOREVER, stop_timeout_s=0.0, name=name, restart=RestartPolicy(policy))
    waiting = run("sh", "-c", "exit 1", name="e", restart=RestartPolicy("always"))
    wait_until(lambda: now(native, waiting).restarts >= 3)

    done = native.halt(R)

    assert {guest.name for guest, error in done if error is None} == {"a", "b", "c", "d", "e"}
    assert {guest.state for guest in native.guests()} == {GuestState.STOPPED}
    lose_power(native, root)
    assert names(list(native.boot_plan())) == ["a", "b", "c", "e"]


def test_one_that_cannot_start_does_not_keep_the_others(native: NativeBackend, run: Run, root: Path) -> None:
    run(*FOREVER, stop_timeout_s=0.0, name="broken", restart=RestartPolicy("always"))
    run(*FOREVER, stop_timeout_s=0.0, name="whole", restart=RestartPolicy("always"))
    lose_power(native, root)
    broken = next(guest for guest in native.guests() if guest.name == "broken")
    path = root / "containers" / broken.ref.id / "config.json"
    config = json.loads(path.read_text())
    config["process"]["args"] = ["/no/such/program"]
    path.write_text(json.dumps(config))

    done = native.boot(R)

    assert [(guest.name, error is None) for guest, error in done] == [("broken", False), ("whole", True)]


def test_cleaning_after_a_power_cut_does_not_take_a_containers_start_at_boot(
    native: NativeBackend, run: Run, root: Path
) -> None:
    guest = run(*FOREVER, stop_timeout_s=0.0, restart=RestartPolicy("on-failure"))
    lose_power(native, root)
    native.clean(R)
    assert now(native, guest).note == "the host was restarted"
    assert names(list(native.boot_plan())) == [guest.name]
