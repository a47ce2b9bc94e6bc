"""The details of one guest: card, charts, logs, processes, snapshots, trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.model import GuestState
from backends.simulated.backend import SimulatedBackend
from tests.tui.conftest import Open
from tests.tui.driving import Driver
from widgets.history_chart import HistoryChart, Series
from widgets.log_view import LogView
from widgets.prompt import Prompt


async def open_tab(driver: Driver, name: str, *keys: str) -> None:
    await driver.choose(name)
    await driver.press(*keys)
    await driver.until(lambda: type(driver.app.screen).__name__ == "DetailScreen")


async def test_enter_shows_what_a_guest_is_uses_and_may_use(open_screen: Open) -> None:
    async with open_screen() as driver:
        await open_tab(driver, "db", "enter")
        await driver.see("Use and limits")
        guest = driver.guest("db")
        for text in (guest.ref.id, guest.addresses[0], "postgres", "running", "of 256M"):
            await driver.see(text)
        await driver.press("escape")
        await driver.see("STATE")


async def test_a_wide_terminal_shows_charts_of_the_selected_guest_beside_the_table(open_screen: Open) -> None:
    async with open_screen(size=(200, 50)) as driver:
        await driver.see("Net receive")
        await driver.choose("db")
        await driver.until(lambda: "db" in driver.lines[1].split()[-1])
        await driver.until(lambda: "STATE" in driver.lines[1])
        await driver.press("d")
        await driver.until(lambda: "Net receive" not in driver.text)


async def test_charts_draw_the_limit_as_a_line(open_screen: Open) -> None:
    async with open_screen(size=(110, 40)) as driver:
        await open_tab(driver, "db", "enter")
        await driver.press("2")
        await driver.see("limit │─")
        await driver.see("⣿")


async def test_numbers_and_brackets_change_the_page(open_screen: Open) -> None:
    async with open_screen() as driver:
        await open_tab(driver, "db", "enter")
        await driver.press("4")
        await driver.see("COMMAND")
        await driver.press("left_square_bracket")
        await driver.until(lambda: "COMMAND" not in driver.text)
        await driver.press("right_square_bracket")
        await driver.see("COMMAND")


async def test_l_follows_the_log_and_the_keys_change_how_it_looks(open_screen: Open) -> None:
    async with open_screen() as driver:
        await open_tab(driver, "db", "l")
        log = driver.app.screen.query_one(LogView)
        await driver.until(lambda: bool(log.printed))
        await driver.see("follow")
        await driver.press("t")
        first = log.printed[0]
        await driver.until(lambda: any(first.text[:10] in line and ":" in line[:9] for line in driver.lines))
        await driver.press("w")
        await driver.see("wrap")
        await driver.press("f")
        assert not log.follows


async def test_the_log_is_searched_and_hits_are_counted(open_screen: Open) -> None:
    async with open_screen() as driver:
        await open_tab(driver, "db", "l")
        log = driver.app.screen.query_one(LogView)
        await driver.until(lambda: bool(log.printed))
        await driver.press("slash")
        await driver.until(lambda: isinstance(driver.app.screen, Prompt))
        await driver.type("started")
        await driver.press("enter")
        await driver.see("/started 1 hits")


async def test_the_log_is_saved_to_a_file(open_screen: Open, tmp_path: Path) -> None:
    async with open_screen() as driver:
        await open_tab(driver, "db", "l")
        log = driver.app.screen.query_one(LogView)
        await driver.until(lambda: bool(log.printed))
        await driver.press("ctrl+s")
        await driver.until(lambda: isinstance(driver.app.screen, Prompt))
        await driver.press("ctrl+u")
        target = tmp_path / "db.log"
        await driver.type(str(target))
        await driver.press("enter")
        await driver.see("saved")
        assert "started" in target.read_text()


async def test_a_log_goes_on_after_the_guest_is_started_again(open_screen: Open) -> None:
    async with open_screen() as driver:
        await open_tab(driver, "db", "l")
        log = driver.app.screen.query_one(LogView)
        await driver.until(lambda: sum(each.text == "started" for each in log.printed) == 1)
        await driver.press("S")
        await driver.until(lambda: driver.guest("db").state is GuestState.STOPPED)
        await driver.see("ended")
        await driver.press("s")
        await driver.until(lambda: log.printed and log.printed[-1].text != "" and "following" in driver.text)


async def test_snapshots_are_made_restored_and_removed_after_a_question(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=3)
    async with open_screen(backend) as driver:
        await open_tab(driver, "db", "N")
        await driver.see("no snapshots")
        ref = driver.guest("db").ref
        for name in ("one", "two"):
            await driver.press("n")
            await driver.until(lambda: isinstance(driver.app.screen, Prompt))
            await driver.press("ctrl+u")
            await driver.type(name)
            await driver.press("enter")
            await driver.until(lambda name=name: name in driver.text and "hint" not in driver.text)  # type: ignore[misc]
            await driver.until(lambda name=name: any(s.name == name for s in backend.snapshots(ref)))  # type: ignore[misc]
        await driver.see("└─ two")
        await driver.press("g", "enter")
        await driver.asked()
        await driver.press("y")
        await driver.until(lambda: next(s for s in backend.snapshots(ref) if s.name == "one").is_current)
        await driver.press("G", "D")
        await driver.asked()
        await driver.see("two")
        await driver.press("y")
        await driver.until(lambda: [s.name for s in backend.snapshots(ref)] == ["one"])
        await driver.until(lambda: "└─ two" not in driver.text)


async def test_the_trace_shows_the_steps_that_were_done(open_screen: Open) -> None:
    async with open_screen() as driver:
        await driver.choose("db")
        await driver.press("p")
        await driver.until(lambda: driver.guest("db").state is GuestState.PAUSED)
        await driver.press("exclamation_mark")
        await driver.see("(simulated)")
        await driver.press("7")
        await driver.see("pause db")
        await driver.see("1 steps")


async def test_inspect_shows_all_that_is_known(open_screen: Open) -> None:
    async with open_screen() as driver:
        await open_tab(driver, "db", "i")
        await driver.see('"exit_code"')


async def test_a_guest_that_goes_away_under_its_details_is_told(open_screen: Open) -> None:
    async with open_screen() as driver:
        await open_tab(driver, "db", "enter")
        driver.app.station.submit("guest.remove", driver.guest("db").ref, force=True)
        await driver.see("this guest no longer exists")
        await driver.press("escape")
        await driver.see("STATE")


@pytest.mark.parametrize("key", ["1", "2", "3", "4", "5", "6", "7", "8"])
async def test_every_page_shows_a_stopped_guest_without_trouble(open_screen: Open, key: str) -> None:
    async with open_screen() as driver:
        await open_tab(driver, "queue", "enter")
        await driver.press(key)
        await driver.pilot.pause(0.3)
        await driver.until(lambda: "queue" in driver.lines[1])


async def test_the_line_of_keys_shows_what_the_page_in_view_understands(open_screen: Open) -> None:
    async with open_screen(size=(120, 30)) as driver:
        await driver.choose("db")
        await driver.press("enter")
        await driver.until(lambda: "D remove" in driver.lines[-1] and "Esc back" in driver.lines[-1])
        await driver.press("5")
        await driver.press("tab")
        await driver.until(lambda: "Enter restore" in driver.lines[-1] and "D remove it" in driver.lines[-1])
        await driver.until(lambda: driver.lines[-1].count(" D ") == 1)
        await driver.press("l")
        await driver.until(lambda: "f follow" in driver.lines[-1] and "/ search" in driver.lines[-1])


async def test_d_shows_details_below_the_table_on_a_small_terminal_too(open_screen: Open) -> None:
    async with open_screen(size=(80, 24)) as driver:
        await driver.choose("db")
        assert "Memory" not in driver.text
        await driver.press("d")
        await driver.see("Memory")
        await driver.until(lambda: " db " in driver.text)
        await driver.press("d")
        await driver.until(lambda: "Memory" not in driver.text)


async def test_few_guests_leave_the_room_to_the_charts(open_screen: Open) -> None:
    async with open_screen(SimulatedBackend(guests=4), size=(120, 40)) as driver:
        await driver.see("Net send")
        await driver.until(lambda: driver.table.size.height == 8)
    async with open_screen(SimulatedBackend(guests=40), size=(120, 40)) as driver:
        await driver.see("Net send")
        await driver.until(lambda: driver.table.size.height == 37 * 3 // 5)


async def test_tabs_keep_their_words_on_a_narrow_terminal(open_screen: Open) -> None:
    async with open_screen(size=(80, 24)) as driver:
        await driver.choose("db")
        await driver.press("enter")
        await driver.see("1 Overview")
        await driver.until(lambda: "2 Char" in driver.lines[1])
        await driver.until(lambda: "8 Insp" in driver.lines[1])


async def test_charts_that_show_nothing_leave_their_height_to_the_others(open_screen: Open) -> None:
    async with open_screen(SimulatedBackend(guests=8), size=(120, 40)) as driver:
        await driver.choose("build-7")
        await driver.see("Net send")
        chart = driver.main.query_one(HistoryChart)
        busy, idle = (1.0, 50.0, 100.0), (0.0, None, 0.0)
        wave = Series("Wave", "%", "cpu", busy)
        still = Series("Still", "bytes/s", "net", idle, floor=1024.0)
        held = Series("Held", "bytes/s", "io", idle, limit=4096.0, floor=1024.0)

        def titles() -> dict[str, int]:
            return {name: y for y in range(chart.size.height) for name in ("Wave", "Still", "Held")
                    if name in chart.render_line(y).text}  # fmt: skip

        chart.plot([wave, wave, still, still, held, held], 1.0)
        assert titles()["Held"] - titles()["Still"] == 3
        assert titles()["Still"] == (chart.size.height - 3) // 2
        chart.plot([still] * 6, 1.0)
        assert titles()["Still"] == 2 * (chart.size.height // 3)
