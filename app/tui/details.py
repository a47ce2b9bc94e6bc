"""The details of one guest: tabs over pages, used beside the table and as a screen of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.timer import Timer

from app.tui.asker import Answer
from app.tui.messages import Batch
from app.tui.pages import PAGES, Page
from app.tui.roster import Roster
from backends.base import Backend
from backends.errors import InnkeeperError
from backends.model import GuestRef
from widgets.bar import Bar
from widgets.guest_row import GuestRow
from widgets.line import Line, Span, line, width_of
from widgets.line_view import LineView

if TYPE_CHECKING:
    from app.tui.screens.base import BaseScreen

T = TypeVar("T")

SETTLE_S = 0.15
"""A cursor that runs over many guests draws and asks for none of them: on a slow line each picture costs a second."""


class Details(Vertical):
    """Shows one guest. Pages are made when first looked at, and only the one in view is kept up to date."""

    DEFAULT_CSS = """
    Details { height: 1fr; width: 1fr; }
    Details > LineView { height: 1fr; width: 1fr; }
    Details > #tabs { height: 1; }
    """

    def __init__(self, roster: Roster, tab: str = "overview", *, id: str | None = None, numbered: bool = True) -> None:
        """`numbered`: the digits are keys of its pages here, and are shown."""
        super().__init__(id=id)
        self._numbered = numbered
        self.roster = roster
        self.tab = tab
        self.ref: GuestRef | None = None
        self._pages: dict[str, Page] = {}
        self._views: dict[str, LineView] = {}
        self._settle: Timer | None = None
        self._moved_s = 0.0

    @property
    def owner(self) -> BaseScreen:
        """The screen it is on."""
        return cast("BaseScreen", self.screen)

    @property
    def row(self) -> GuestRow | None:
        """The guest as of now."""
        return self.roster.by_ref.get(self.ref) if self.ref is not None else None

    @property
    def page(self) -> Page:
        """The page in view."""
        return self._pages[self.tab]

    @property
    def view(self) -> LineView:
        """What the page in view is drawn in."""
        return self._views[self.tab]

    def compose(self) -> ComposeResult:
        yield Bar(id="tabs")

    def on_mount(self) -> None:
        self.show_tab(self.tab)

    def on_unmount(self) -> None:
        for page in self._pages.values():
            page.hide()

    # ---- what is shown

    def show_guest(self, ref: GuestRef | None) -> None:
        """Show another guest."""
        if ref == self.ref:
            return
        self.ref = ref
        for page in self._pages.values():
            page.forget()
        self._show_tabs()
        is_running = time.monotonic() - self._moved_s < SETTLE_S
        self._moved_s = time.monotonic()
        self._show_page(at_once=not is_running)

    def show_tab(self, name: str, *, focus: bool = False) -> None:
        """Show a page."""
        if self.tab in self._pages and self.tab != name:
            self.page.hide()
        self.tab = name
        if name not in self._pages:
            page = self._pages[name] = PAGES[name](self)
            self._views[name] = page.make()
            self.mount(self._views[name])
        for other, view in self._views.items():
            view.display = other == name
        if focus and self.view.focusable:
            self.view.focus()
        self._show_tabs()
        self._show_page()

    def step_tab(self, by: int) -> None:
        """Show the next or previous page."""
        names = list(PAGES)
        self.show_tab(names[(names.index(self.tab) + by) % len(names)])

    def core_changed(self, batch: Batch) -> None:
        """The core has news."""
        row = self.row
        self._show_tabs()
        if row is not None and self.tab in self._pages:
            self.page.news(row, batch)

    def _show_page(self, *, at_once: bool = True) -> None:
        """Draw what is known at once unless the cursor runs, ask for the rest when it rests."""
        if self._settle is not None:
            self._settle.stop()
            self._settle = None
        row = self.row
        if row is None or self.tab not in self._pages:
            return
        if at_once:
            self.page.draw(row)
        if self.page.asks or not at_once:
            self._settle = self.set_timer(SETTLE_S, self._settled)

    def _settled(self) -> None:
        row = self.row
        if row is not None:
            self.page.draw(row)
            self.page.show(row)

    def _show_tabs(self) -> None:
        if not self.is_mounted or not self.is_attached:
            return
        row = self.row
        name = line((f" {row.name} " if row is not None else "", "strong"))
        bar = self.query_one("#tabs", Bar)
        # The narrower the terminal, the less is told of the pages that are not in view.
        for length in (20, 4, 0):
            tabs = self._tabs(length)
            if width_of(tabs) + width_of(name) < bar.size.width:
                break
        bar.set(tabs, name)

    def _tabs(self, length: int) -> Line:
        spans: list[Span] = []
        for number, (name, page) in enumerate(PAGES.items(), 1):
            here = name == self.tab
            title = page.title if here else page.title[:length]
            sign = f" {number}" if self._numbered or not title else ""
            end = " " if here or length > 4 else ""
            spans += [(sign, "dim"), (f" {title}{end}" if title else " ", "hit" if here else "")]
        return tuple(spans)

    def on_resize(self) -> None:
        self._show_tabs()

    # ---- questions

    def ask(
        self,
        key: str,
        question: Callable[[Backend], T],
        reply: Callable[[T], object],
        failed: Callable[[InnkeeperError], object] | None = None,
    ) -> None:
        """Ask the guest's backend off the event loop; an answer that comes after the cursor moved on is dropped."""
        ref = self.ref
        backend = self.roster.backend(ref) if ref is not None else None
        if ref is None or backend is None:
            return

        def answered(answer: Answer[T]) -> None:
            if ref != self.ref or not self.owner.is_up:
                return
            if answer.error is None:
                reply(answer.value)
            elif failed is not None:
                failed(answer.error)

        self.owner.innkeeper.asker.ask(f"data {ref.backend}", key, lambda: question(backend), answered)
