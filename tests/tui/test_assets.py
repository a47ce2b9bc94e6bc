"""Images, networks and operations: seen, filtered, acted on, and never in the way of the guests."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input

from app.tui.screens.asset import AssetScreen
from app.tui.screens.operations import OperationScreen
from backends.errors import Cancelled
from backends.network import Network, NetworkMember
from backends.simulated.backend import SimulatedBackend
from backends.simulated.core import SimulatedCore
from backends.simulated.lifecycle import LifecycleVerbs
from backends.trace import Recorder
from tests.tui.conftest import Open
from tests.tui.driving import Driver
from widgets.log_view import LogView
from widgets.prompt import Prompt
from widgets.units import size


async def look(driver: Driver, key: str, text: str) -> AssetScreen[object]:
    """Open a view and wait until something is to be seen in it."""
    await driver.press(key)
    await driver.until(lambda: isinstance(driver.app.screen, AssetScreen))
    await driver.see(text)
    screen = driver.app.screen
    assert isinstance(screen, AssetScreen)
    return screen


async def choose(driver: Driver, name: str) -> None:
    """Put the cursor on a row."""
    screen = driver.app.screen
    assert isinstance(screen, AssetScreen)
    await driver.until(lambda: any(name in line for line in driver.lines[2:-2]))
    row = next(each for each in screen.table.shown if screen.name_of(each) == name)
    screen.table.select(screen.table.key_of(row))
    await driver.pilot.pause()


async def type_in(driver: Driver, text: str) -> None:
    """Answer a prompt."""
    await driver.until(lambda: isinstance(driver.app.screen, Prompt))
    driver.app.screen.query_one(Input).value = text
    await driver.press("enter")
    await driver.pilot.pause()


async def test_two_shows_images_with_sizes_and_users_and_one_goes_back(open_screen: Open) -> None:
    async with open_screen() as driver:
        await look(driver, "2", "nginx:latest")
        assert "web-1" in driver.line_with("nginx:latest")
        await driver.see("<no name>")
        await driver.see("prune frees")
        await driver.press("1")
        await driver.see("STATE")


async def test_enter_shows_history_users_and_configuration_of_an_image_and_esc_goes_back(open_screen: Open) -> None:
    async with open_screen(size=(110, 50)) as driver:
        await look(driver, "2", "nginx:latest")
        await choose(driver, "nginx:latest")
        await driver.press("enter")
        for text in ("apt-get install -y nginx", "by ", "80/tcp", "NGINX_VERSION=1.27.2", "Used by"):
            await driver.see(text)
        await driver.press("escape")
        await driver.see("USED BY")


async def test_a_pull_is_an_operation_that_every_view_shows(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=5, bytes_per_s=1e6)
    async with open_screen(backend) as driver:
        await look(driver, "2", "nginx:latest")
        await driver.press("p")
        await type_in(driver, "team/tool")
        await driver.until(lambda: "image pull team/tool" in driver.lines[0] and "%" in driver.lines[0])
        await driver.press("1")
        await driver.until(lambda: "image pull team/tool" in driver.lines[0])
        await look(driver, "4", "running")
        await driver.press("enter")
        await driver.see("downloading")
        await driver.see("/s")


async def test_x_gives_up_a_pull_after_a_question_and_nothing_half_made_stays(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=5, bytes_per_s=1e6)
    async with open_screen(backend) as driver:
        operation = driver.app.station.submit("image.pull", backend="simulated", name="team/tool")
        await look(driver, "4", "image pull team/tool")
        await driver.until(lambda: bool(operation.parts))
        await driver.press("x")
        await driver.asked()
        await driver.press("y")
        await driver.until(lambda: operation.is_done)
        assert isinstance(operation.error, Cancelled)
        await driver.until(lambda: "cancelled" in driver.line_with("image pull team/tool "))
        assert "team/tool:latest" not in {image.name for image in backend.images()}


async def test_a_failed_pull_says_why_with_a_hint(open_screen: Open) -> None:
    async with open_screen() as driver:
        driver.app.station.submit("image.pull", backend="simulated", name="flaky")
        await look(driver, "4", "failed")
        await driver.press("enter")
        await driver.see("closed the connection")
        await driver.see("try again")


async def test_the_whole_output_of_a_build_can_be_scrolled(open_screen: Open, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM base\n" + "".join(f"RUN step-{n}\n" for n in range(30)))
    async with open_screen(SimulatedBackend(guests=3)) as driver:
        await look(driver, "2", "nginx:latest")
        await driver.press("B")
        await type_in(driver, str(tmp_path))
        await type_in(driver, "built")
        await driver.until(lambda: isinstance(driver.app.screen, OperationScreen))
        await driver.until(lambda: all(each.is_done for each in driver.app.station.operations()))
        await driver.press("enter")
        await driver.see("step-29")
        log = driver.app.screen.query_one(LogView)
        assert len(log.printed) == 31 - 1 + 30 * 3
        await driver.until(lambda: log.has_focus)
        await driver.press("g")
        await driver.until(lambda: "step 2/31" in driver.text)


async def test_removing_an_image_asks_first_and_says_who_uses_it(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=5)
    async with open_screen(backend) as driver:
        await look(driver, "2", "postgres:latest")
        await choose(driver, "postgres:latest")
        await driver.press("D")
        await driver.see("is used by db")
        await driver.press("n")
        await choose(driver, "unbound:latest")
        await driver.press("D")
        await driver.asked()
        await driver.press("y")
        await driver.until(lambda: "unbound:latest" not in {image.name for image in backend.images()})
        await driver.until(lambda: not any("unbound" in line for line in driver.lines[2:-2]))


async def test_prune_says_what_it_would_free_before_it_does(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=5)
    async with open_screen(backend) as driver:
        await look(driver, "2", "nginx:latest")
        await driver.press("X")
        await driver.see("Prune what?")
        await driver.press("enter")
        await driver.see("Frees")
        assert any(image.is_dangling for image in backend.images())
        await driver.press("y")
        await driver.until(lambda: all(image.users for image in backend.images()))


async def test_prune_can_be_of_those_without_a_name_alone(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=5)
    async with open_screen(backend) as driver:
        await look(driver, "2", "nginx:latest")
        unused = {image.name for image in backend.images() if not image.users and not image.is_dangling}
        assert unused
        await driver.press("X")
        await driver.see("Prune what?")
        await driver.press("down", "enter")
        await driver.see("Frees")
        await driver.press("y")
        await driver.until(lambda: not any(image.is_dangling for image in backend.images()))
        assert unused <= {image.name for image in backend.images()}


async def test_images_are_listed_while_nobody_knows_what_prune_would_free(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=5)
    backend.faults.hang("image_prune")
    async with open_screen(backend) as driver:
        await look(driver, "2", "nginx:latest")
        assert "does not answer" not in driver.text
        await driver.press("X")
        await driver.see("looking what prune would free")
        backend.faults.release()
        await driver.see("Prune what?")


async def test_a_registry_that_wants_a_login_is_given_one_and_asked_again(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=5)
    async with open_screen(backend) as driver:
        await look(driver, "2", "nginx:latest")
        await driver.press("p")
        await type_in(driver, "reg.example/private/tool")
        await driver.see("User at reg.example:")
        await type_in(driver, "anna")
        await driver.see("Password of anna at reg.example:")
        await driver.type("wrong")
        assert "wrong" not in driver.text
        await driver.press("enter")
        await driver.see("refuses the credentials")
        await type_in(driver, "anna")
        await driver.see("Password of anna")
        await type_in(driver, "s3cr3t")
        await driver.until(lambda: "reg.example/private/tool:latest" in {image.name for image in backend.images()})
        await driver.see("reg.example/private/tool:")
        for operation in driver.app.station.operations():
            assert "s3cr3t" not in f"{operation.title} {operation.records} {list(operation.lines)} {operation.error}"


async def test_who_gives_the_login_up_is_told_so_and_asked_again_next_time(open_screen: Open) -> None:
    async with open_screen(SimulatedBackend(guests=5)) as driver:
        await look(driver, "2", "nginx:latest")
        for _ in range(2):
            await driver.press("p")
            await type_in(driver, "reg.example/private/tool")
            await driver.see("User at reg.example:")
            await driver.press("escape")
            await driver.see("not logged in at reg.example")


async def test_five_shows_templates_and_makes_guests_of_them(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=5)
    async with open_screen(backend, size=(80, 24)) as driver:
        await look(driver, "5", "no templates")
        await driver.press("K")
        await driver.see("Keep which guest")
        await driver.type("db")
        await driver.press("enter")
        await type_in(driver, "gold")
        await driver.until(lambda: "postgres" in driver.line_with("gold"))
        await choose(driver, "gold")
        await driver.press("n")
        await type_in(driver, "db-of-gold")
        await driver.until(lambda: "db-of-gold" in driver.line_with("gold "))
        assert any(guest.name == "db-of-gold" for guest in backend.guests())
        await driver.press("enter")
        await driver.see("Own files")
        await driver.press("escape", "D")
        await driver.see("Remove gold?")
        await driver.press("y")
        await driver.until(lambda: not backend.templates())
        assert any(guest.name == "db-of-gold" for guest in backend.guests())


async def test_k_keeps_the_guest_under_the_cursor_as_a_template(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=5)
    async with open_screen(backend) as driver:
        await driver.choose("db")
        await driver.press("K")
        await type_in(driver, "gold")
        await driver.until(lambda: [each.name for each in backend.templates()] == ["gold"])


async def test_six_shows_volumes_makes_counts_and_removes_them(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=5)
    async with open_screen(backend, size=(80, 24)) as driver:
        await look(driver, "6", "old-backups")
        assert "none" in driver.line_with("old-backups")
        assert backend.faults.calls["volume_size"] == 0, "sizes are counted when somebody asks"
        await choose(driver, "data")
        await driver.press("enter")
        await driver.see("not asked for")
        await driver.see("at /srv")
        await driver.press("escape", "z")
        size_bytes = backend.volume_size("data", Recorder("test"))
        await driver.until(lambda: size(size_bytes) in driver.line_with("data"))
        await driver.press("n")
        await type_in(driver, "shop")
        await driver.see("shop")
        await driver.press("D")
        await driver.see("that will be refused")
        await driver.press("escape")
        await driver.press("X")
        await driver.see("Remove 2 volumes that no guest has?")
        await driver.press("y")
        await driver.until(lambda: "shop" not in [each.name for each in backend.volumes()])
        assert "data" in [each.name for each in backend.volumes()]


async def test_the_filter_and_the_order_of_a_view_come_back_with_it(open_screen: Open) -> None:
    async with open_screen() as driver:
        await look(driver, "2", "nginx:latest")
        await driver.press("slash")
        await driver.until(lambda: isinstance(driver.app.screen, Prompt))
        await driver.type("used:no")
        await driver.press("enter")
        await driver.until(lambda: not any("nginx:latest" in line for line in driver.lines[2:-2]))
        await look(driver, "3", "shop")
        await look(driver, "2", "/used:no")
        await driver.press("escape")
        await driver.see("nginx:latest")


async def test_three_shows_networks_and_their_members_with_addresses(open_screen: Open) -> None:
    async with open_screen(size=(110, 40)) as driver:
        await look(driver, "3", "shop")
        assert "10.50.0.0/24" in driver.line_with("shop")
        await choose(driver, "shop")
        await driver.press("enter")
        for text in ("web-1", "10.50.0.2", "also nginx.shop", "Guests on it"):
            await driver.see(text)


async def test_a_guest_of_several_networks_is_shown_with_what_it_moves_on_each(open_screen: Open) -> None:
    class Busy(SimulatedBackend):
        """web-1 receives 5 MiB a second over shop, and nothing else moves."""

        def networks(self) -> list[Network]:
            return [replace(each, members=tuple(_moving(each, member) for member in each.members))
                    for each in super().networks()]  # fmt: skip

    def _moving(network: Network, member: NetworkMember) -> NetworkMember:
        is_busy = (network.name, member.guest) == ("shop", "web-1")
        return replace(member, rx_bytes=int(time.monotonic() * 5 * 1024**2) if is_busy else 7, tx_bytes=7)

    backend = Busy(guests=5)
    async with open_screen(backend, size=(110, 40)) as driver:
        await look(driver, "3", "shop")
        await choose(driver, "shop")
        await driver.press("enter")
        await driver.until(lambda: re.search(r"web-1 .* \d\.\d+M +0 ", driver.line_with("10.50.0.2")) is not None)
        await driver.press("escape")
        await choose(driver, "bridge")
        await driver.press("enter")
        await driver.until(lambda: re.search(r"web-1 .* 0 +0 ", driver.text) is not None)


async def test_a_network_is_made_joined_left_and_removed(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=5)
    async with open_screen(backend) as driver:

        def members() -> list[str]:
            return [
                member.guest for network in backend.networks() if network.name == "lab" for member in network.members
            ]

        await look(driver, "3", "shop")
        await driver.press("n")
        await type_in(driver, "lab")
        await type_in(driver, "")
        await driver.see("lab")
        await choose(driver, "lab")
        await driver.press("w")
        await driver.see("which guest?")
        await driver.type("db")
        await driver.press("enter")
        await driver.until(lambda: members() == ["db"])
        await driver.press("W")
        await driver.see("Disconnect from lab")
        await driver.press("enter")
        await driver.until(lambda: members() == [])
        await driver.press("D")
        await driver.asked()
        await driver.press("y")
        await driver.until(lambda: "lab" not in {network.name for network in backend.networks()})


async def test_a_stuck_backend_stops_neither_the_view_nor_the_way_back(open_screen: Open) -> None:
    backend = SimulatedBackend(guests=5)
    backend.faults.hang("images")
    async with open_screen(backend) as driver:
        await driver.press("2")
        await driver.see("simulated does not answer")
        await driver.press("1")
        await driver.see("STATE")
        backend.faults.release()


class WithoutImages(LifecycleVerbs):
    """A backend that has guests and nothing else."""


@pytest.mark.parametrize("key, text", [("2", "no images here"), ("3", "no networks here")])
async def test_a_backend_without_the_capability_is_told_in_one_line(open_screen: Open, key: str, text: str) -> None:
    plain: SimulatedCore = WithoutImages(guests=3)
    async with open_screen(plain) as driver:
        await driver.press(key)
        await driver.see(text)


async def test_hostile_names_of_images_reach_the_terminal_as_harmless_text(open_screen: Open) -> None:
    async with open_screen(SimulatedBackend(guests=5, hostile=True), size=(160, 40)) as driver:
        screen = await look(driver, "2", "owned")
        for index in range(len(screen.table.shown)):
            screen.table.move_to(index)
            await driver.pilot.pause(0.02)
            assert "\x1b" not in driver.text
            assert "\x07" not in driver.text


async def test_help_of_a_view_lists_its_verbs(open_screen: Open) -> None:
    async with open_screen(size=(110, 60)) as driver:
        await look(driver, "2", "nginx:latest")
        await driver.press("question_mark")
        for text in ("Fetch an image from its registry", "create a container from it", "show the networks"):
            await driver.see(text)
