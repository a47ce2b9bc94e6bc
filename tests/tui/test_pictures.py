"""A few pictures of the screen, compared with kept ones.

INNKEEPER_UPDATE_PICTURES=1 takes them anew. Look at the difference before you keep it: they are SVG files in
tests/tui/pictures, and a browser shows them.
"""

from __future__ import annotations

import difflib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from html import unescape
from pathlib import Path

import pytest

from app.core.settings import Pace
from app.tui.host import HostFigures, HostReader
from backends.metrics import Sample
from backends.model import GuestRef
from backends.simulated.backend import SimulatedBackend
from tests.tui.conftest import Open
from tests.tui.driving import Driver

PICTURES = Path(__file__).parent / "pictures"
NOON_S = 1_800_000_000.0
STILL = Pace(early_s=0.05, list_every_s=3600.0, quick_list_s=0.0, stop_within_s=0.4)


class Clock:
    """Time that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Steady(SimulatedBackend):
    """Between two of its samples lies one second, however fast they come."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(guests=6, clock=clock, epoch_s=NOON_S)
        self._moves = clock

    def sample(self) -> Mapping[GuestRef, Sample]:
        self._moves.now_s += 1
        return super().sample()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Stop the time that reaches the screen, and give the host fixed figures."""
    stopped = Clock()
    monkeypatch.setattr("app.tui.rows.time.time", lambda: NOON_S + stopped.now_s)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    figures = HostFigures("host", 4, 12.5, 3 * 1024**3, 8 * 1024**3)
    monkeypatch.setattr(HostReader, "read_if_due", lambda self: setattr(self, "figures", figures))
    monkeypatch.setattr("app.core.workstation.Workstation.own_cpu_pct", lambda self: 1.0)
    yield stopped
    monkeypatch.undo()
    time.tzset()


def picture_of(driver: Driver) -> str:
    """The screen as SVG, without what differs from run to run."""
    svg = driver.app.export_screenshot(title="Innkeeper")
    return re.sub(r"terminal-[0-9]+", "terminal", svg)


def words_of(svg: str) -> list[str]:
    """The text in a picture, for a difference that can be read."""
    return [unescape(text).replace("\xa0", " ") for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def compare(name: str, svg: str) -> None:
    kept = PICTURES / f"{name}.svg"
    if os.environ.get("INNKEEPER_UPDATE_PICTURES"):
        PICTURES.mkdir(exist_ok=True)
        kept.write_text(svg, encoding="utf-8")
    before = kept.read_text(encoding="utf-8")
    if before != svg:
        lines = difflib.unified_diff(words_of(before), words_of(svg), "kept", "now", lineterm="", n=1)
        raise AssertionError(f"{name} looks different (no lines: only colours differ)\n" + "\n".join(lines))


async def table(driver: Driver) -> None:
    await driver.choose("db")
    await driver.until(lambda: "S stop" in driver.lines[-1])


async def limits(driver: Driver) -> None:
    await table(driver)
    await driver.press("L")
    await driver.see("held back")


async def card(driver: Driver) -> None:
    await table(driver)
    await driver.press("enter")
    await driver.see("Use and limits")
    await driver.until(lambda: "S stop" in driver.lines[-1])


@pytest.mark.parametrize(
    "theme, view, size",
    [
        ("terminal", table, (80, 18)), ("light", table, (100, 18)), ("dark", limits, (100, 28)),
        ("terminal-light", card, (90, 26)),
    ],
    ids=["table", "table-light", "limits-dark", "card"],
)  # fmt: skip
async def test_the_screen_looks_as_it_did(
    open_screen: Open,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    theme: str,
    view: Callable[[Driver], object],
    size: tuple[int, int],
) -> None:
    monkeypatch.setenv("INNKEEPER_THEME", theme)
    backend = Steady(clock)
    async with open_screen(backend, size=size, interval_s=3600.0, pace=STILL) as driver:
        await driver.until(lambda: any(row.rates.cpu_pct is not None for row in driver.table.rows))
        await view(driver)  # type: ignore[misc]
        await driver.pilot.pause()
        compare(request.node.callspec.id, picture_of(driver))
