"""Keys act on guests, ask before they destroy, and tell in one line how it went."""

from __future__ import annotations

import pytest

from backends.model import GuestState
from backends.simulated.backend import SimulatedBackend
from tests.tui.conftest import Open
from tests.tui.driving import in_one_packet
from widgets.confirm import Confirm


async def test_capital_s_stops_the_guest_under_the_cursor(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("web-1")
        await driver.press("S")
        await driver.until(lambda: driver.guest("web-1").state is GuestState.STOPPED)
        await driver.see("stop web-1: done")
        await driver.until(lambda: "stopped" in driver.line_with(" web-1 "))


async def test_s_starts_a_guest_that_does_not_run(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("queue")
        await driver.press("s")
        await driver.until(lambda: driver.guest("queue").state is GuestState.RUNNING)


async def test_p_pauses_and_resumes(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("web-1")
        await driver.press("p")
        await driver.until(lambda: driver.guest("web-1").state is GuestState.PAUSED)
        await driver.until(lambda: "paused" in driver.line_with(" web-1 "))
        await driver.press("p")
        await driver.until(lambda: driver.guest("web-1").state is GuestState.RUNNING)


async def test_what_does_not_apply_says_why_in_one_line(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("web-1")
        await driver.press("s")
        await driver.see("Start: not web-1: it is running")
        assert driver.guest("web-1").state is GuestState.RUNNING


@pytest.mark.parametrize("answer", ["n", "escape", "enter"])
async def test_kill_asks_and_does_nothing_unless_agreed(open_screen: Open, answer: str) -> None:
    async with open_screen() as driver:
        await driver.choose("web-1")
        await driver.press("X")
        await driver.asked()
        await driver.see("Kill web-1?")
        await driver.see("y kill   n Esc leave it")
        await driver.press(answer)
        assert driver.guest("web-1").state is GuestState.RUNNING
        assert not driver.app.station.operations()


async def test_kill_kills_when_agreed(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("web-1")
        await driver.press("X")
        await driver.asked()
        await driver.press("y")
        await driver.until(lambda: driver.guest("web-1").state is GuestState.STOPPED)


async def test_removing_a_running_guest_wants_its_name_typed(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("db")
        await driver.press("D")
        await driver.asked()
        await driver.press("y", "enter")
        await driver.until(lambda: not isinstance(driver.app.screen, Confirm))
        assert driver.guest("db").state is GuestState.RUNNING
        await driver.press("D")
        await driver.asked()
        await driver.type("db")
        await driver.press("enter")
        await driver.until(lambda: all(guest.name != "db" for guest in driver.app.station.fleet.guests()))


async def test_a_key_right_behind_the_enter_of_a_prompt_is_for_what_comes_then(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("web-1")
        in_one_packet(driver.app, "slash", "w", "e", "b", "enter", "X")
        await driver.asked()
        await driver.see("Kill web-1?")
        assert driver.table.filter.text == "web"


async def test_keys_behind_an_enter_that_is_refused_go_on_in_the_prompt(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("db")
        await driver.press("n")
        await driver.see("Name of the new snapshot")
        in_one_packet(driver.app, "ctrl+u", "enter", "o", "n", "e", "enter")
        await driver.see("snapshot create db one: done")


async def test_marked_guests_are_stopped_together(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.mark("web-1", "web-2")
        await driver.press("S")
        for name in ("web-1", "web-2"):
            await driver.until(lambda name=name: driver.guest(name).state is GuestState.STOPPED)  # type: ignore[misc]
        assert driver.guest("db").state is GuestState.RUNNING


async def test_marked_guests_to_which_it_does_not_apply_are_skipped_and_told(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.mark("web-1", "queue")
        await driver.press("s")
        await driver.until(lambda: driver.guest("queue").state is GuestState.RUNNING)
        await driver.see("queue: done")


async def test_an_error_that_is_longer_than_the_screen_is_shown_whole(open_screen: Open) -> None:
    async with open_screen(size=(60, 20)) as driver:
        reason = "the registry says " + "no " * 30 + "and that is all"
        driver.main.say(reason, "bad")
        await driver.see("that is all")
        await driver.see("q quit")
        driver.main.say("short again")
        await driver.until(lambda: "that is all" not in driver.text)


async def test_n_makes_a_snapshot_with_the_name_that_is_typed(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=3)
    async with open_screen(backend) as driver:
        await driver.choose("db")
        await driver.press("n")
        await driver.answer("first")
        await driver.until(lambda: [each.name for each in backend.snapshots(driver.guest("db").ref)] == ["first"])


async def test_an_operation_that_fails_is_one_line_and_no_traceback(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=3)
    async with open_screen(backend) as driver:
        await driver.choose("db")
        backend.faults.hang("stop")
        await driver.press("S")
        await driver.until(lambda: backend.faults.hung == 1)
        await driver.see("stop …")
        backend.faults.die("it fell over")
        await driver.see("it fell over")
        assert "Traceback" not in driver.text


async def test_the_bottom_line_shows_only_what_applies(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("web-1")
        await driver.until(lambda: "S stop" in driver.lines[-1])
        await driver.until(lambda: "s start" not in driver.lines[-1])
        await driver.choose("queue")
        await driver.until(lambda: "s start" in driver.lines[-1])
        await driver.until(lambda: "S stop" not in driver.lines[-1])


async def test_a_shell_in_a_guest_that_runs_no_programs_is_refused_with_the_reason(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("web-1")
        await driver.press("e")
        await driver.see("shell: not web-1")


async def test_the_palette_opens_by_colon_and_runs_a_command(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("web-1")
        await driver.press("colon")
        await driver.until(lambda: "CommandPalette" in type(driver.app.screen).__name__)
        await driver.type("pause")
        await driver.see("Freeze all processes")
        await driver.press("enter")
        await driver.until(lambda: driver.guest("web-1").state is GuestState.PAUSED)


async def test_help_lists_the_keys_that_are_bound(open_screen: Open) -> None:
    async with open_screen(size=(110, 110)) as driver:
        await driver.press("question_mark")
        await driver.see("Help")
        for text in ("Ask a guest to end", "freeze the view", "mark all shown", "Ctrl-P"):
            await driver.see(text)
        await driver.press("escape")
        await driver.see("STATE")


async def test_capital_h_tells_why_a_backend_is_off(open_screen: Open) -> None:
    broken = SimulatedBackend(guests=2, name="broken")
    broken.faults.die("not installed")
    async with open_screen(SimulatedBackend(guests=3), broken) as driver:
        await driver.press("H")
        await driver.see("cannot reach the simulated backend: not installed")
        await driver.see("3 guests")
        await driver.press("escape")
        await driver.see("STATE")


async def test_y_copies_the_name(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("web-1")
        await driver.press("y")
        await driver.see("copied web-1")
        assert driver.app.clipboard == "web-1"


async def test_q_leaves(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.press("q")
        await driver.until(lambda: driver.app.return_code == 0 and not driver.app.is_running)


async def test_what_a_command_needs_is_asked_for_and_checked(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("web-1")
        await driver.press("colon")
        await driver.until(lambda: "CommandPalette" in type(driver.app.screen).__name__)
        await driver.type("restart policy")
        await driver.see("Change when a guest")
        await driver.press("enter")
        await driver.see("when it is started again by itself")
        await driver.type("sometimes")
        await driver.press("enter")
        await driver.see("is no restart policy")
        for _ in "sometimes":
            await driver.press("backspace")
        await driver.type("on-failure:3")
        await driver.press("enter")
        await driver.until(lambda: driver.guest("web-1").restart_policy == "on-failure:3")
