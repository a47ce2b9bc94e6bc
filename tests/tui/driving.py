"""What a person does with the screen: press keys, look, wait until something is to be seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from textual import events
from textual.pilot import Pilot

from app.tui.application import InnkeeperApp
from app.tui.screens.main import MainScreen
from backends.model import Guest
from widgets.confirm import Confirm
from widgets.guest_table import GuestTable
from widgets.prompt import Prompt


class Driver:
    """A person in front of the screen."""

    def __init__(self, app: InnkeeperApp, pilot: Pilot[Any]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def main(self) -> MainScreen:
        """The first screen, also below others."""
        screen = self.app.screen_stack[0]
        assert isinstance(screen, MainScreen)
        return screen

    @property
    def table(self) -> GuestTable:
        """The table of guests."""
        return self.main.query_one(GuestTable)

    @property
    def text(self) -> str:
        """All that is on the screen now."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text for strip in strips)

    @property
    def lines(self) -> list[str]:
        """The same, line by line."""
        return self.text.split("\n")

    def line_with(self, text: str) -> str:
        """The first line that has the text; empty if none has."""
        return next((line for line in self.lines if text in line), "")

    def guest(self, name: str) -> Guest:
        """A guest as the core knows it now."""
        return self.app.station.fleet.resolve(name)

    async def press(self, *keys: str) -> None:
        """Press keys."""
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        """Type a text."""
        names = {" ": "space", "-": "minus", ".": "full_stop", ":": "colon", ">": "greater_than_sign",
                 "!": "exclamation_mark", "/": "slash", "_": "underscore"}  # fmt: skip
        await self.pilot.press(*[names.get(character, character) for character in text])

    async def until(self, condition: Callable[[], Any], timeout_s: float = 6.0) -> None:
        """Wait until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"did not come about; the screen shows:\n{self.text}")
            await self.pilot.pause(0.01)

    async def see(self, text: str, timeout_s: float = 6.0) -> None:
        """Wait until the text is on the screen."""
        await self.until(lambda: text in self.text, timeout_s)

    async def choose(self, name: str) -> None:
        """Put the cursor on a guest."""
        await self.until(lambda: any(row.name == name for row in self.table.rows))
        assert self.table.select(next(row.ref for row in self.table.rows if row.name == name))
        await self.pilot.pause()

    async def mark(self, *names: str) -> None:
        """Mark guests."""
        for name in names:
            await self.choose(name)
            await self.press("space")

    async def answer(self, text: str) -> None:
        """Wait for a prompt, write this in place of what it offers, and press Enter."""
        await self.until(lambda: isinstance(self.app.screen, Prompt))
        await self.press("ctrl+u")
        await self.type(text)
        await self.press("enter")

    async def asked(self) -> None:
        """Wait for a question that is to be confirmed, and until it is to be seen."""
        await self.until(lambda: isinstance(self.app.screen, Confirm) and self.text.strip())

    async def of_each(self, names: Iterable[str], holds: Callable[[Guest], Any]) -> None:
        """Wait until it holds of each of these guests and nothing more is done to them."""
        pending = self.app.station.fleet.pending
        for guest in names:
            await self.until(
                lambda name=guest: holds(self.guest(name)) and pending(self.guest(name).ref) is None  # type: ignore[misc]
            )


def in_one_packet(app: InnkeeperApp, *keys: str) -> None:
    """Type keys so fast that all are there before the first is looked at."""
    for key in keys:
        app.post_message(events.Key(key, key if len(key) == 1 else None))
