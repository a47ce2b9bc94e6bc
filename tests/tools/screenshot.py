"""Takes a picture of the real program over the guests of this host.

    .venv/bin/python tests/tools/screenshot.py docs/screen.svg --select demo-cpu [--root DIR] [--seconds 110]

Opens the screen without a terminal, watches the guests for a while so that the charts have something to show, and
writes an SVG that needs nothing from elsewhere: it names no font on the web. The README's picture is made so after
`inn demo --no-screen`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from html import escape, unescape
from pathlib import Path

from rich.cells import cell_len

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app.core.settings import settings_for  # noqa: E402 - the checkout must be on the path first
from app.core.workstation import Workstation  # noqa: E402
from app.tui.application import InnkeeperApp  # noqa: E402
from app.tui.screens.main import MainScreen  # noqa: E402

FONTS = '"DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace'


CELL = 12.2
"""Width of a cell in Textual's pictures."""

_TEXT = re.compile(r'<text ([^>]*?) x="([0-9.]+)"([^>]*?) textLength="[0-9.]+"([^>]*)>([^<]*)</text>')


def placed(match: re.Match[str]) -> str:
    """A piece of text with a place for each word, and for each character that another font might bring along.

    Fonts differ in width where they have no braille of their own, and few programs but browsers obey `textLength`.
    """
    before, x, between, after, text = match.groups()
    text, at = unescape(text).replace("\xa0", " "), float(x)
    pieces = []
    for word in re.finditer(r"[!-~]+|[^ ]", text):
        left = at + cell_len(text[: word.start()]) * CELL
        pieces.append(f'<text {before} x="{left:.1f}"{between}{after}>{escape(word[0])}</text>')
    return "".join(pieces)


def offline(svg: str) -> str:
    """The picture without fonts from the web and without a random id."""
    svg = _TEXT.sub(placed, svg)  # all but the window's title, which has no length
    svg = re.sub(r"<!--.*?-->\s*", "", svg)
    svg = re.sub(r"@font-face\s*{[^}]*}\s*", "", svg)
    svg = re.sub(r"font-family:\s*Fira Code[^;]*;", f"font-family: {FONTS};", svg)
    return re.sub(r"terminal-[0-9]+", "terminal", svg)


async def take(app: InnkeeperApp, size: tuple[int, int], seconds: float, select: str | None) -> str:
    """Let the screen run for a while and return its picture."""
    async with app.run_test(size=size) as pilot:
        main = app.screen
        assert isinstance(main, MainScreen)
        await asyncio.sleep(2)
        if select is not None and not main.table.select(app.station.fleet.resolve(select).ref):
            raise SystemExit(f"{select} is not on the screen")
        await asyncio.sleep(seconds)
        await pilot.pause()
        return offline(app.export_screenshot(title="inn"))


def main() -> None:
    """Understand the words of the command and do it."""
    parser = argparse.ArgumentParser(description="take a picture of the screen")
    parser.add_argument("file", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--backend", action="append", default=None)
    parser.add_argument("--size", default="120x36")
    parser.add_argument("--seconds", type=float, default=110.0)
    parser.add_argument("--select", help="the guest under the cursor")
    parser.add_argument("--theme", default="dark")
    asked = parser.parse_args()
    width, height = (int(number) for number in asked.size.split("x"))
    os.environ["INNKEEPER_THEME"] = asked.theme
    os.environ.setdefault("LANG", "C.UTF-8")
    settings = settings_for(root=asked.root, backends=asked.backend)
    with Workstation(settings, sampling=True) as station:
        svg = asyncio.run(take(InnkeeperApp(station), (width, height), asked.seconds, asked.select))
    asked.file.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
