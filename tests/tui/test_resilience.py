"""A backend that hangs, dies or lies does not take the screen along."""

from __future__ import annotations

import re

import pytest

from app.core.settings import Pace
from backends.simulated.backend import SimulatedBackend
from backends.simulated.names import HOSTILE
from tests.tui.conftest import Open

PATIENT = Pace(
    early_s=0.01, list_every_s=0.1, quick_list_s=0.02, dirty_gap_s=0.0, lost_after_s=30.0, backoff_first_s=0.05,
    backoff_most_s=0.2, open_timeout_s=0.5, stop_within_s=0.4,
)  # fmt: skip


async def test_keys_answer_while_a_backend_hangs_and_its_guests_grey_out_with_their_age(open_screen: Open) -> None:
    stuck, well = SimulatedBackend(guests=4, name="simulated"), SimulatedBackend(guests=4, name="other", seed=2)
    async with open_screen(stuck, well, pace=PATIENT) as driver:
        await driver.until(lambda: len(driver.table.rows) == 8)
        stuck.faults.hang()
        await driver.see("no answer")
        await driver.press("t")
        assert "virtual machines" not in driver.text
        first = driver.table.selected
        await driver.press("down")
        assert driver.table.selected != first
        moving = len(driver.app.station.history(driver.app.station.fleet.resolve("other/db").ref))
        await driver.until(
            lambda: len(driver.app.station.history(driver.app.station.fleet.resolve("other/db").ref)) > moving + 2
        )
        stuck.faults.release()
        await driver.until(lambda: "no answer" not in driver.text)


async def test_acting_on_a_guest_whose_backend_hangs_leaves_the_keys_alive(open_screen: Open) -> None:
    stuck = SimulatedBackend(guests=4)
    async with open_screen(stuck, pace=PATIENT) as driver:
        await driver.choose("db")
        stuck.faults.hang()
        await driver.press("enter")
        for key in ("3", "4", "5", "6", "8", "L", "escape", "n", "escape"):
            await driver.press(key)
        await driver.press("escape")
        await driver.see("STATE")
        await driver.press("S", "j", "t")
        assert not driver.table.order.grouped


async def test_a_backend_that_dies_shows_lost_and_comes_back(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=4)
    async with open_screen(backend) as driver:
        backend.faults.die("the daemon was stopped")
        await driver.see("lost")
        await driver.until(lambda: "no answer" in driver.line_with(" db "))
        backend.faults.revive()
        await driver.until(lambda: "lost" not in driver.lines[0])
        await driver.until(lambda: "no answer" not in driver.text)


@pytest.mark.parametrize("size", [(40, 24), (80, 24), (120, 40), (200, 50)])
async def test_the_state_cell_itself_says_that_a_guest_was_seen_some_time_ago(
    open_screen: Open, size: tuple[int, int]
) -> None:
    backend = SimulatedBackend(guests=4)
    async with open_screen(backend, size=size) as driver:
        await driver.until(lambda: "● running" in driver.line_with(" db "))
        backend.faults.die("the daemon was stopped")
        await driver.until(lambda: re.search(r"\? \d+s ago +db ", driver.line_with(" db ")))
        assert "running" not in driver.line_with(" db ")[:20]
        await driver.until(lambda: "✗ simulated lost" in driver.lines[0])
        backend.faults.revive()
        await driver.until(lambda: "● running" in driver.line_with(" db "))


async def test_a_backend_that_cannot_be_opened_says_why_and_the_others_work(open_screen: Open) -> None:
    broken, well = SimulatedBackend(guests=2, name="broken"), SimulatedBackend(guests=4)
    broken.faults.die("not installed")
    async with open_screen(broken, well, size=(160, 24)) as driver:
        await driver.see("cannot reach the simulated backend: not")
        assert len(driver.table.rows) == 4


async def test_where_nothing_works_the_screen_says_why_and_shows_the_host_all_the_same(open_screen: Open) -> None:
    broken = SimulatedBackend(guests=2)
    broken.faults.die("not installed")
    async with open_screen(broken, size=(160, 24), settled=False) as driver:
        await driver.see("no source of guests works (H tells more): cannot reach the simulated backend: not installed")
        await driver.until(lambda: re.search(r"mem +[0-9.]+[KMGT]/", driver.lines[0]))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("keys", [["enter", "2", "3", "4", "5"], ["enter", "6", "7", "8"], ["L"], ["X"], ["D"], ["n"]])
async def test_hostile_names_reach_no_terminal_unharmed(open_screen: Open, keys: list[str]) -> None:
    backend = SimulatedBackend(guests=18, hostile=True)
    async with open_screen(backend, size=(130, 40)) as driver:
        await driver.until(lambda: len(driver.table.rows) == 18)
        for row in driver.table.rows:
            if row.guest.name not in HOSTILE:
                continue
            driver.table.select(row.ref)
            for key in keys:
                await driver.press(key)
                await driver.pilot.pause(0.02)
                shown = driver.text.replace("\n", "")
                assert shown.isprintable(), [character for character in shown if not character.isprintable()]
            while len(driver.app.screen_stack) > 1:
                await driver.press("escape")


async def test_names_with_markup_are_shown_as_they_are(open_screen: Open) -> None:
    async with open_screen(SimulatedBackend(guests=18, hostile=True), size=(104, 40)) as driver:
        await driver.see("[bold red]markup[")


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (20, 5), (10, 3), (200, 50), (300, 100)])
async def test_every_size_works_and_so_does_changing_it(open_screen: Open, size: tuple[int, int]) -> None:
    async with open_screen(size=size) as driver:
        for key in ("down", "enter", "2", "escape", "L", "escape", "o", "escape", "question_mark", "escape"):
            await driver.press(key)
        for other in ((132, 43), (30, 8), size):
            await driver.pilot.resize_terminal(*other)
            await driver.pilot.pause()
        assert driver.app.is_running
        assert len(driver.lines) == size[1]
