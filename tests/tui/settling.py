"""When a screen has done all that it can do now: what a key press waits for."""

from __future__ import annotations

import asyncio

FRAME_S = 1 / 60


async def until_at_rest(min_s: float = FRAME_S, max_s: float = 1.0) -> None:
    """Wait one frame, and then until every task of the event loop waits for something.

    Takes the place of Textual's wait_for_idle, which waits until the process uses hardly any processor time: over
    guests that move twenty times a second, or beside other work, that is its limit of a second, twice for each key.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + max_s
    await asyncio.sleep(max(min_s, FRAME_S))
    while loop._ready and loop.time() < end:  # type: ignore[attr-defined]  # noqa: ASYNC110 - nothing tells that end
        await asyncio.sleep(0)
