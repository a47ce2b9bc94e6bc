"""The form that makes a container: checked while one types, never lost, and told as a command line."""

from __future__ import annotations

import pytest

from app.tui.screens.create import CreateScreen
from app.tui.screens.image_facts import ImageFacts
from backends.model import GuestState
from backends.simulated.backend import SimulatedBackend
from tests.tui.conftest import Open
from tests.tui.driving import Driver, in_one_packet

SMALL = (80, 24)


async def open_form(driver: Driver, image: str = "postgres") -> CreateScreen:
    """Open it from the guest that is made from an image."""
    await driver.choose({"postgres": "db", "nginx": "web-1"}[image])
    await driver.press("C")
    await driver.until(lambda: isinstance(driver.app.screen, CreateScreen))
    screen = driver.app.screen
    assert isinstance(screen, CreateScreen)
    await driver.see("$ inn ")
    await driver.until(lambda: screen.row("name").input.has_focus)
    return screen


async def to_field(driver: Driver, name: str) -> None:
    """Go to a field by the keyboard alone."""
    screen = driver.app.screen
    assert isinstance(screen, CreateScreen)
    for _ in range(20):
        if screen.row(name).input.has_focus:
            return
        await driver.press("tab")
    raise AssertionError(f"{name} is not reached")


async def test_what_the_image_says_stands_in_the_form(open_screen: Open) -> None:
    async with open_screen(size=SMALL) as driver:
        await open_form(driver)
        for text in ("5432:5432", "/var/lib/postgresql/data", "LANG=en_US.utf8", "$ inn "):
            await driver.see(text)
        assert "-e LANG" not in driver.text  # it has that from its image


async def test_a_container_is_created_and_started_by_keys_alone(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=8)
    async with open_screen(backend, size=SMALL) as driver:
        await open_form(driver)
        await driver.type("shop")
        await to_field(driver, "cpus")
        await driver.type("0.5")
        await to_field(driver, "network")
        await driver.type("shop")
        await driver.until(lambda: "--cpus 0.5" in driver.text.replace("\n", ""))
        await driver.press("f10")
        await driver.until(lambda: any(each.name == "shop" for each in backend.guests()))
        await driver.until(lambda: driver.guest("shop").state is GuestState.RUNNING)
        guest = driver.guest("shop")
        assert (guest.limits.cpus, guest.networks, guest.ports) == (0.5, ("shop",), ("5432->5432/tcp",))
        await driver.see("STATE")


async def test_what_makes_no_sense_is_said_while_one_types_and_nothing_is_lost(open_screen: Open) -> None:
    async with open_screen(size=SMALL) as driver:
        screen = await open_form(driver)
        await driver.type("kept")
        await to_field(driver, "memory")
        await driver.type("much")
        await driver.see("'much' is no")
        assert "$ inn " not in driver.text
        await driver.press("f10")
        await driver.see("Memory:")
        assert screen.row("name").input.value == "kept"
        assert not driver.app.station.operations()


async def test_what_only_the_backend_knows_is_said_too(open_screen: Open) -> None:
    async with open_screen(size=SMALL) as driver:
        screen = await open_form(driver)
        await driver.type("db")
        await driver.press("f9")
        await driver.see("there is already a guest 'db'")
        assert driver.app.screen is screen
        assert screen.row("name").input.value == "db"


async def test_what_is_typed_while_the_image_is_asked_is_kept(open_screen: Open) -> None:
    async with open_screen(size=SMALL) as driver:
        screen = await open_form(driver)
        screen.row("name").input.insert_text_at_cursor("shop")
        # The answer comes before the letters are heard of.
        screen._take_facts("postgres", ImageFacts({"Env": ["A=1"]}, [], []))
        await driver.see("--name shop")
        assert screen.row("name").input.value == "shop"


async def test_esc_by_mistake_loses_nothing(open_screen: Open) -> None:
    async with open_screen(size=SMALL) as driver:
        await open_form(driver)
        await driver.type("precious")
        await driver.press("escape")
        await driver.see("C brings it back")
        screen = await open_form(driver)
        assert screen.row("name").input.value == "precious"


async def test_y_copies_the_command_line(open_screen: Open) -> None:
    async with open_screen(size=SMALL) as driver:
        screen = await open_form(driver)
        await driver.type("shop")
        await driver.press("ctrl+y")
        assert driver.app.clipboard == screen.command_line
        root = driver.app.station.settings.paths.state_dir  # not where `inn` would look by itself
        assert driver.app.clipboard.startswith(f"inn --root {root} run -d --name shop")


async def test_buttons_and_switches_all_fit_a_small_terminal(open_screen: Open) -> None:
    async with open_screen(size=SMALL) as driver:
        await open_form(driver)
        for text in ("Create and start", "--init", "-t terminal", "Restart"):
            await driver.see(text)


@pytest.mark.parametrize("key", ["down", "enter"])
async def test_the_keys_that_people_try_go_from_field_to_field(open_screen: Open, key: str) -> None:
    async with open_screen(size=SMALL) as driver:
        screen = await open_form(driver)
        await driver.press(key)
        await driver.until(lambda: screen.row("command").input.has_focus)
        await driver.press("up")
        await driver.until(lambda: screen.row("name").input.has_focus)


async def test_a_form_that_is_filled_in_one_packet_is_filled_as_it_was_typed(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=8)
    async with open_screen(backend, size=SMALL) as driver:
        await driver.choose("db")
        in_one_packet(driver.app, "C", "h", "u", "r", "r", "y", "down", "r", "u", "n", "tab", "1", "f9")
        await driver.until(lambda: any(each.name == "hurry" for each in backend.guests()))
        await driver.see("STATE")
        assert driver.guest("hurry").limits.cpus == 1


async def test_a_problem_that_is_longer_than_a_line_is_shown_whole(open_screen: Open) -> None:
    async with open_screen(size=SMALL) as driver:
        screen = await open_form(driver)
        screen.row("ports").input.value = "an" * 20 + "/tcp"
        await driver.until(lambda: "such as 8080:80" in driver.text)
