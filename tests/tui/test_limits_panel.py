"""The limits panel changes limits at once, warns before harm, and takes changes back."""

from __future__ import annotations

from backends.model import Limits
from backends.simulated.backend import SimulatedBackend
from tests.tui.conftest import Open
from tests.tui.driving import Driver
from widgets.confirm import Confirm
from widgets.limit_editor import LimitEditor

MIB = 1024**2
PAIR = ("web-1", "web-2")


async def open_panel(driver: Driver, name: str, *, at: str = "") -> LimitEditor:
    """Open it for a guest, or for those that are marked, with the cursor on a field."""
    await driver.choose(name)
    await driver.press("L")
    await driver.until(lambda: any(isinstance(each, LimitEditor) for each in driver.app.screen.walk_children()))
    editor = driver.app.screen.query_one(LimitEditor)
    await driver.until(lambda: bool(editor.rows))
    if at:
        await go_to(driver, editor, at)
    return editor


async def go_to(driver: Driver, editor: LimitEditor, field: str) -> None:
    await driver.press("g")
    while editor.current is None or editor.current.name != field:
        await driver.press("down")


def limits(driver: Driver, name: str) -> Limits:
    return driver.guest(name).limits


async def test_minus_tightens_and_plus_loosens_the_limit_under_the_cursor(open_screen: Open) -> None:
    async with open_screen() as driver:
        editor = await open_panel(driver, "db")
        before = limits(driver, "db").cpus
        assert before is not None
        await go_to(driver, editor, "cpus")
        await driver.press("minus")
        await driver.until(lambda: (limits(driver, "db").cpus or 9) < before)
        await driver.press("f8")
        await driver.until(lambda: limits(driver, "db").cpus == before)


async def test_steps_in_quick_succession_each_count(open_screen: Open) -> None:
    async with open_screen() as driver:
        await open_panel(driver, "web-1", at="pids")
        await driver.press("minus", "minus", "minus")
        await driver.until(lambda: limits(driver, "web-1").pids == 200)


async def test_equals_sets_an_exact_value_and_refuses_nonsense(open_screen: Open) -> None:
    async with open_screen() as driver:
        await open_panel(driver, "db", at="cpus")
        await driver.press("equals_sign")
        await driver.answer("plenty")
        await driver.see("is no number of cores")
        await driver.answer("0.35")
        await driver.until(lambda: limits(driver, "db").cpus == 0.35)


async def test_none_lifts_a_limit(open_screen: Open) -> None:
    async with open_screen() as driver:
        await open_panel(driver, "db", at="cpus")
        await driver.press("equals_sign")
        await driver.answer("none")
        await driver.until(lambda: limits(driver, "db").cpus is None)


async def test_a_memory_limit_below_use_warns_first_and_is_not_set_when_declined(open_screen: Open) -> None:
    async with open_screen() as driver:
        await open_panel(driver, "web-1", at="memory_bytes")
        await driver.press("equals_sign")
        await driver.answer("2M")
        await driver.asked()
        await driver.see("web-1")
        await driver.press("n")
        await driver.until(lambda: not isinstance(driver.app.screen, Confirm))
        assert limits(driver, "web-1").memory_bytes is None
        assert "none" in driver.line_with("│  Memory  ")


async def test_a_warned_limit_is_set_when_agreed(open_screen: Open) -> None:
    async with open_screen() as driver:
        await open_panel(driver, "web-1", at="memory_bytes")
        await driver.press("equals_sign")
        await driver.answer("2M")
        await driver.asked()
        await driver.press("y")
        await driver.until(lambda: limits(driver, "web-1").memory_bytes == 2 * MIB)


async def test_u_takes_the_change_back_and_ctrl_r_makes_it_again(open_screen: Open) -> None:
    async with open_screen() as driver:
        await open_panel(driver, "web-1", at="pids")
        await driver.press("minus")
        await driver.of_each(["web-1"], lambda guest: guest.limits.pids == 1000)
        await driver.press("u")
        await driver.of_each(["web-1"], lambda guest: guest.limits.pids is None)
        await driver.press("ctrl+r")
        await driver.until(lambda: limits(driver, "web-1").pids == 1000)


async def test_what_cannot_be_set_is_told_with_the_reason(open_screen: Open) -> None:
    async with open_screen() as driver:
        editor = await open_panel(driver, "win11-office")
        await driver.see("processes belong to the guest")
        await go_to(driver, editor, "pids")
        await driver.press("minus")
        await driver.see("Tasks: processes belong to the guest")
        assert not driver.app.station.operations()


async def test_marked_guests_are_limited_together(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.mark(*PAIR)
        await open_panel(driver, "web-2", at="pids")
        await driver.press("minus")
        await driver.of_each(PAIR, lambda guest: guest.limits.pids == 1000)


async def test_one_undo_in_the_list_takes_a_change_of_several_guests_back(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.mark(*PAIR)
        await open_panel(driver, "web-2", at="pids")
        await driver.press("minus")
        await driver.of_each(PAIR, lambda guest: guest.limits.pids == 1000)
        await driver.press("escape", "backslash", "u")
        await driver.of_each(PAIR, lambda guest: guest.limits.pids is None)


async def test_the_panel_shows_that_a_limit_bites(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=8)
    async with open_screen(backend) as driver:
        ref = driver.guest("build-7").ref
        driver.app.station.submit("guest.limit", ref, cpus=0.01)
        await open_panel(driver, "build-7")
        await driver.until(lambda: "held back in" in driver.line_with("│  CPU  "))
