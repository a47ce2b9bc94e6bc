"""Health checks: programs run in a container from time to time, and what is told of their answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backends.container import ExecSpec, HealthCheck
from backends.model import Guest, GuestState
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu"), pytest.mark.timeout(60)]
Run = Callable[..., Guest]
R = Recorder("test")


def check(line: str, **options: float | int) -> HealthCheck:
    return HealthCheck(("sh", "-c", line), **({"interval_s": 0.1, "timeout_s": 5.0} | options))  # type: ignore[arg-type]


def results(native: NativeBackend, guest: Guest) -> list[dict[str, object]]:
    found: list[dict[str, object]] = native.inspect(guest.ref)["state"]["health"]["log"]
    return found


def becomes(native: NativeBackend, guest: Guest, health: str) -> None:
    wait_until(lambda: now(native, guest).health == health, what=f"{health}; it is {now(native, guest)}")


def test_it_is_starting_until_the_first_answer_and_then_healthy(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000", health=check("echo all is well", interval_s=0.5))
    assert now(native, guest).health == "starting"
    becomes(native, guest, "healthy")
    wait_until(lambda: results(native, guest))
    first = results(native, guest)[0]
    assert (first["exit_code"], first["output"]) == (0, "all is well\n")


def test_so_many_failures_in_a_row_make_it_unhealthy_and_one_success_healthy(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000", health=check("test -e /root/well || { echo ill >&2; exit 1; }", retries=2))
    becomes(native, guest, "unhealthy")
    wait_until(lambda: native.inspect(guest.ref)["state"]["health"]["failing_streak"] >= 2)
    native.exec(guest.ref, ExecSpec(("touch", "/root/well")), (0, 1, 2)).wait()
    becomes(native, guest, "healthy")

    def told() -> list[str]:
        events = native.events(since_s=0.0)
        return [event.attributes["health"] for event in events if event.action == "health_status"]

    wait_until(lambda: told() == ["unhealthy", "healthy"], what="the event, which is written after the state")


def test_only_the_last_five_results_are_kept_with_little_of_their_output(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000", health=check("head -c 100000 /dev/zero | tr '\\0' x", interval_s=0.05))
    first = wait_until(lambda: results(native, guest))[0]
    wait_until(lambda: first not in results(native, guest))
    assert len(results(native, guest)) == 5
    assert {len(str(result["output"])) for result in results(native, guest)} == {4096}


def test_one_that_does_not_answer_in_time_is_killed_with_what_it_started(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000", health=check("sleep 999; sleep 998", timeout_s=0.2, retries=1))
    becomes(native, guest, "unhealthy")
    wait_until(lambda: "no answer within 0.2 s" in str(results(native, guest)))
    # The next check may run already, but never two of them.
    commands = [process.command for process in native.processes(guest.ref)]
    assert sum(command == "sleep 999" for command in commands) <= 1


def test_failures_while_it_starts_do_not_count(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000", health=check("exit 1", start_period_s=1000.0, retries=1))
    wait_until(lambda: len(results(native, guest)) >= 3)
    assert now(native, guest).health == "starting"


def test_a_check_that_cannot_be_run_fails(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000", health=HealthCheck(("no-such-program",), interval_s=0.1, retries=1))
    becomes(native, guest, "unhealthy")
    wait_until(lambda: results(native, guest))
    assert results(native, guest)[0]["exit_code"] == 127


def test_a_paused_container_is_not_asked_and_an_ended_one_has_no_health(native: NativeBackend, run: Run) -> None:
    guest = run("sleep", "1000", health=check("true"))
    becomes(native, guest, "healthy")
    native.pause(guest.ref, R)
    native.resume(guest.ref, R)
    native.kill(guest.ref, R)
    native.wait(guest.ref, timeout_s=30)
    wait_until(lambda: now(native, guest).state is GuestState.STOPPED)
    assert now(native, guest).health == ""


def test_checks_leave_no_process_and_no_descriptor_behind(native: NativeBackend, run: Run) -> None:
    from pathlib import Path

    from tests.kernel.test_native_survival import supervisor_pid

    guest = run("sleep", "1000", health=check("true", interval_s=0.05))
    keeper = Path(f"/proc/{supervisor_pid(native, guest)}")
    becomes(native, guest, "healthy")

    def rounds(count: int) -> None:
        for _ in range(count):
            last = results(native, guest)[-1]
            wait_until(lambda last=last: last not in results(native, guest))  # type: ignore[misc]

    def open_files() -> int:
        return len(list((keeper / "fd").iterdir()))

    idle = min(open_files() for _ in range(500))
    rounds(3)
    wait_until(lambda: open_files() <= idle)
    first = str(now(native, guest).pid)
    wait_until(lambda: (keeper / "task" / keeper.name / "children").read_text().split() == [first])
