"""A screen over simulated guests, driven by keys, with an event loop that refuses to block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from app.core.paths import paths_for
from app.core.settings import Pace, Settings
from app.core.workstation import Workstation
from app.tui.application import InnkeeperApp
from backends.base import Backend
from backends.simulated.backend import SimulatedBackend
from tests.tui.driving import Driver
from tests.tui.settling import until_at_rest

QUICK = Pace(
    early_s=0.01, list_every_s=0.1, quick_list_s=0.02, dirty_gap_s=0.0, lost_after_s=0.3, backoff_first_s=0.05,
    backoff_most_s=0.2, open_timeout_s=0.5, stop_within_s=0.4,
)  # fmt: skip

Open = Callable[..., AbstractAsyncContextManager[Driver]]


@pytest.fixture(autouse=True)
def blocking_calls_fail() -> Iterator[BlockBuster]:
    """Any blocking call of ours on the event loop raises; core threads may block as they like."""
    with blockbuster_ctx(scanned_modules=["app", "widgets"]) as guard:
        guard.functions["os.path.abspath"].deactivate()  # Textual asks it for the path of a screen's style sheet
        for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
            guard.functions[name].deactivate()  # the core's locks are held for microseconds; a hang shows elsewhere
        yield guard


@pytest.fixture(autouse=True)
def keys_wait_for_the_screen_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What moves on the screen, and other work on this machine, hold no key press up."""
    for place in ("textual.app", "textual.pilot"):
        monkeypatch.setattr(f"{place}.wait_for_idle", until_at_rest)


@pytest.fixture
def open_screen(tmp_path: Path) -> Open:
    """Return what opens the screen over a backend; leaving it lets go of what hangs."""

    @asynccontextmanager
    async def opened(
        backend: Backend | None = None,
        *more: Backend,
        size: tuple[int, int] = (110, 28),
        interval_s: float = 0.05,
        pace: Pace = QUICK,
        settled: bool = True,
    ) -> AsyncIterator[Driver]:
        backends = (backend or SimulatedBackend(guests=8), *more)
        settings = Settings(paths_for(tmp_path), interval_s=interval_s, pace=pace)
        station = Workstation(settings, backends=backends, sampling=True)
        app = InnkeeperApp(station)
        try:
            async with app.run_test(size=size) as pilot:
                driver = Driver(app, pilot)
                if settled:
                    await driver.until(lambda: bool(driver.table.rows))
                yield driver
        finally:
            for each in backends:
                if isinstance(each, SimulatedBackend):
                    each.faults.release()
            station.close()

    return opened
