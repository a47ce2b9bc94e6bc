"""The table of guests does what its keys say."""

from __future__ import annotations

from textual import events

from backends.model import GuestState
from backends.simulated.backend import SimulatedBackend
from tests.tui.conftest import Open
from tests.tui.driving import Driver


def names(driver: Driver) -> list[str]:
    return [row.name for row in driver.table.shown if not isinstance(row, str)]


def chosen_name(driver: Driver) -> str | None:
    return driver.table.current.name if driver.table.current else None


async def test_every_guest_has_a_line_with_its_state_in_words(open_screen: Open) -> None:
    async with open_screen() as driver:
        for row in driver.table.rows:
            await driver.until(lambda row=row: row.guest.state.value in driver.line_with(f" {row.name} "))  # type: ignore[misc]


async def test_simulated_guests_are_always_called_simulated(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.see("SIMULATED")
        await driver.see("simulated guests")


async def test_figures_move_by_themselves(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.until(lambda: driver.line_with(" build-7 ").strip())
        before = driver.line_with(" build-7 ")
        await driver.until(lambda: driver.line_with(" build-7 ") != before)


async def test_t_turns_groups_into_one_flat_list(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.see("virtual machines")
        await driver.press("t")
        assert "virtual machines" not in driver.text
        assert names(driver) == sorted(names(driver))


async def test_a_hides_what_does_not_run_and_shows_it_again(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.see(" queue ")
        await driver.press("a")
        assert "queue" not in names(driver)
        await driver.see("1 hidden")
        await driver.press("a")
        assert "queue" in names(driver)


async def test_the_filter_works_while_it_is_typed_and_escape_clears_it(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.press("slash")
        await driver.type("web")
        assert set(names(driver)) == {"web-1", "web-2"}
        await driver.press("enter")
        assert set(names(driver)) == {"web-1", "web-2"}
        await driver.press("escape")
        assert len(names(driver)) == 8


async def test_what_is_typed_faster_than_the_prompt_comes_up_is_not_lost(open_screen: Open) -> None:
    async with open_screen() as driver:
        for key, character in (
            ("slash", "/"),
            *((each, each) for each in "webx"),
            ("backspace", "\x08"),
            ("enter", "\r"),
        ):
            driver.app.post_message(events.Key(key, character))
        await driver.until(lambda: driver.table.filter.text == "web" and driver.app.screen is driver.main)
        assert set(names(driver)) == {"web-1", "web-2"}


async def test_escape_within_the_filter_brings_the_old_one_back(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.press("slash", "d", "b", "enter", "slash", "x", "escape")
        assert driver.table.filter.text == "db"


async def test_a_filter_that_cannot_be_understood_says_so(open_screen: Open) -> None:
    async with open_screen() as driver:
        driver.table.set_filter("[")
        await driver.see("unterminated character set")


async def test_o_and_a_letter_sort_and_capital_o_reverses(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.press("t", "o", "m")
        memory = [row.rates.memory_bytes or -1 for row in driver.table.shown if not isinstance(row, str)]
        assert driver.table.order.sort == "memory_bytes"
        assert memory[0] == max(memory)
        await driver.press("o", "n", "O")
        assert names(driver) == sorted(names(driver), reverse=True)


async def test_a_click_on_a_heading_sorts_by_it(open_screen: Open) -> None:
    async with open_screen() as driver:
        x = driver.lines[1].index("CPU%")
        await driver.pilot.click("#guests", offset=(x, 0))
        assert driver.table.order.sort == "cpu_pct"


async def test_the_cursor_stays_on_its_guest_when_the_order_changes(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("web-1")
        await driver.press("t")
        assert chosen_name(driver) == "web-1"
        await driver.press("O")
        assert chosen_name(driver) == "web-1"


async def test_arrows_and_vi_keys_move_over_group_headings(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.press("g")
        seen = [chosen_name(driver)]
        for key in ("j", "down") * 4:
            await driver.press(key)
            seen.append(chosen_name(driver))
        assert None not in seen
        await driver.press("G")
        assert chosen_name(driver) == names(driver)[-1]
        await driver.press("k", "up", "home")
        assert chosen_name(driver) == names(driver)[0]


async def test_space_marks_star_marks_all_and_backslash_clears(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.press("g", "space", "space")
        assert {row.name for row in driver.table.chosen} == set(names(driver)[:2])
        await driver.press("asterisk")
        assert len(driver.table.marks) == 8
        await driver.see("8 marked")
        await driver.press("backslash")
        assert not driver.table.marks


async def test_v_marks_from_the_last_mark_to_the_cursor(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.press("g", "space", "j", "j", "v")
        assert {row.name for row in driver.table.chosen} == set(names(driver)[:4])


async def test_z_freezes_the_view_and_lets_it_go_on(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.press("z")
        await driver.see("FROZEN")
        before = driver.line_with(" build-7 ")
        passes = len(driver.app.station.history(driver.guest("build-7").ref))
        await driver.until(lambda: len(driver.app.station.history(driver.guest("build-7").ref)) > passes + 3)
        assert driver.line_with(" build-7 ") == before
        await driver.press("z")
        await driver.until(lambda: driver.line_with(" build-7 ") != before)


async def test_angle_brackets_change_the_rhythm(open_screen: Open) -> None:
    async with open_screen(interval_s=1.0) as driver:
        await driver.press("less_than_sign")
        assert driver.app.station.interval_s == 2.0
        await driver.see("every 2 s")
        await driver.press("greater_than_sign", "greater_than_sign")
        assert driver.app.station.interval_s == 0.5


async def test_columns_can_be_left_out(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.until(lambda: "READ/s" in driver.lines[1])
        await driver.press("b")
        index = [column for column in driver.text.split("\n") if "READ/s" in column and "[x]" in column]
        assert index
        while "READ/s" not in next(line for line in driver.lines if "[" in line and driver_line(driver) in line):
            await driver.press("down")
        await driver.press("space", "escape")
        await driver.until(lambda: "READ/s" not in driver.lines[1])


def driver_line(driver: Driver) -> str:
    """The text of the line under the cursor of the dialog."""
    from widgets.line import text_of
    from widgets.line_view import LineView

    view = driver.app.screen.query_one(LineView)
    return text_of(view.lines[view.cursor])[:12]


async def test_a_narrow_terminal_drops_columns_by_priority(open_screen: Open) -> None:
    async with open_screen(size=(80, 24)) as driver:
        heading = driver.lines[1]
        for title in ("STATE", "NAME", "CPU%", "MEM", "READ/s", "TX/s"):
            assert title in heading
        for title in ("PIDS", "NOTE"):
            assert title not in heading


async def test_a_new_guest_appears_and_a_removed_one_goes(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=3)
    async with open_screen(backend) as driver:
        gone = driver.guest("db")
        driver.app.station.submit("guest.remove", gone.ref, force=True)
        await driver.until(lambda: "db" not in names(driver))


async def test_a_guest_that_stops_elsewhere_is_shown_stopped(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=3)
    async with open_screen(backend) as driver:
        driver.app.station.submit("guest.kill", driver.guest("db").ref)
        await driver.until(lambda: driver.guest("db").state is GuestState.STOPPED)
        await driver.until(lambda: "stopped" in driver.line_with(" db "))
