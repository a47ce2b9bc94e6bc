"""The first screen: every guest, live."""

from __future__ import annotations

import time
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container

from app.core.settings import MIN_INTERVAL_S
from app.tui.actions import COMMAND_BINDINGS
from app.tui.messages import Batch
from app.tui.screens.base import PAGE_BINDINGS, BaseScreen
from app.tui.views import VIEW_BINDINGS, VIEW_HINT
from backends.model import GuestRef
from widgets.bar import Bar
from widgets.glyphs import GLYPHS
from widgets.guest_column import BY_NAME
from widgets.guest_row import GuestRow
from widgets.guest_table import GuestTable
from widgets.line import Span
from widgets.news_bar import NewsBar
from widgets.text import clean

BESIDE_WIDTH = 180
"""From here on the details stand beside the table."""

BELOW_SIZE = (120, 30)
"""And from this width and height on below it."""

ASKED_SIZE = (60, 20)
"""On a smaller terminal only if they are asked for."""

MIN_TABLE, MIN_DETAILS = 5, 12
"""Lines they need when one stands below the other."""

INTERVALS_S = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
"""Rhythms that < and > step through."""


class MainScreen(BaseScreen):
    """Status, table, details beside or below it, one line of news, one of keys."""

    DEFAULT_CSS = """
    MainScreen #body { height: 1fr; layout: vertical; }
    MainScreen #body.-beside { layout: horizontal; }
    MainScreen #body.-beside #guests { width: 3fr; }
    MainScreen #body.-beside Details { width: 2fr; border-left: solid $border; padding: 0 0 0 1; }
    MainScreen #body.-below Details { height: 1fr; border-top: solid $border; }
    """
    MORE_HINTS = (("l", "logs"), ("Enter", "details"), ("/", "filter"), ("o", "sort"), (":", "all commands"))
    ALWAYS_HINTS = (VIEW_HINT, ("?", "help"), ("q", "quit"))
    BINDINGS: ClassVar[list[BindingType]] = [
        *COMMAND_BINDINGS,
        *PAGE_BINDINGS,
        *VIEW_BINDINGS,
        Binding("slash", "filter", "filter", show=False, id="view.filter"),
        Binding("o", "sort", "sort by", show=False, id="view.sort"),
        Binding("b", "columns", "choose columns", show=False, id="view.columns"),
        Binding("z", "freeze", "freeze the view", show=False, id="view.freeze"),
        Binding("less_than_sign", "pace(1)", "slower", show=False, id="view.slower"),
        Binding("greater_than_sign", "pace(-1)", "faster", show=False, id="view.faster"),
        Binding("d", "toggle_details", "details beside or below the table", show=False, id="view.details"),
        Binding("escape", "clear", "clear filter and marks", show=False, id="view.clear"),
        Binding("tab", "focus_next", "next pane", show=False, id="focus.next"),
        Binding("shift+tab", "focus_previous", "previous pane", show=False, id="focus.previous"),
    ]

    def compose(self) -> ComposeResult:
        yield Bar(id="status")
        with Container(id="body"):
            yield GuestTable(id="guests")
        yield NewsBar(id="message")
        yield Bar(id="keys")

    def on_mount(self) -> None:
        super().on_mount()
        self.table = self.query_one(GuestTable)
        self.table.focus()
        self._wants_details: bool | None = None  # not asked for: where there is plenty of room
        self._table_height: int | str = ""
        self.call_after_refresh(self._place_details)
        self.roster.update()
        self.show_rows(Batch(fleet=True))
        self.set_interval(1.0, self._pulse)

    def chosen_rows(self) -> list[GuestRow]:
        return self.table.chosen if self.is_up else []

    # ---- news

    def core_changed(self, batch: Batch) -> None:
        super().core_changed(batch)
        self.show_rows(batch)

    def show_rows(self, batch: Batch) -> None:
        """Bring table, details and status line up to date."""
        if not self.is_up:
            return
        if not self.roster.is_frozen:
            self.table.empty_text = self._why_empty()
            self.roster.wants_history = self.table.shows("cpu_history")
            self.table.update(self.roster.rows, sampled=bool(batch.sampled))
            if batch.fleet:
                self._share_height()
        self.show_status()
        self.show_message()
        self.show_keys()
        if self.details is not None and self.details.display and not self.roster.is_frozen:
            self.details.core_changed(batch)

    def _why_empty(self) -> str:
        if self.roster.rows:
            filtered = bool(self.table.filter.text)
            return "no guest fits the filter: Esc clears it" if filtered else "all guests are hidden: a shows them"
        if any(status.state == "connecting" for status in self.roster.statuses):
            return f"reading guests {GLYPHS.ellipsis}"
        reasons = [status.error.message for status in self.roster.statuses if status.error is not None]
        if reasons and not any(status.state == "up" for status in self.roster.statuses):
            return f"no source of guests works (H tells more): {clean('; '.join(reasons))}"
        return "no guests yet; C makes one, as does: inn run --name web host sleep 1000"

    def _pulse(self) -> None:
        """Nothing came from the core for a while: ages go on all the same."""
        if time.monotonic() - self.roster.updated_s > max(1.2, 0.9 * self.station.interval_s):
            host = self.innkeeper.host
            self.innkeeper.asker.ask("host", "host", host.read_if_due, lambda _: None)  # else samples bring its figures
            self.roster.update()
            self.show_rows(Batch())

    def message_right(self) -> list[Span]:
        table = self.table
        spans: list[Span] = []
        if table.marks:
            spans.append((f" {len(table.marks)} marked ", "strong"))
        if table.filter.text:
            spans.append((f" /{table.filter.text} ", "accent"))
            if table.filter.problem:
                spans.append((f" {table.filter.problem} ", "bad"))
        if table.hidden_count:
            spans.append((f" {table.hidden_count} hidden ", "dim"))
        spans.append((f" sorted by {BY_NAME[table.order.sort].title} ", "dim"))
        return spans

    @on(GuestTable.ViewChanged)
    def _view_changed(self) -> None:
        self.table.empty_text = self._why_empty()
        self.show_message()

    @on(GuestTable.Selected)
    def _selected(self, event: GuestTable.Selected) -> None:
        self.show_keys()
        if self.details is not None:
            self.details.show_guest(event.ref)

    @on(GuestTable.Opened)
    def _opened(self, event: GuestTable.Opened) -> None:
        self._push(event.ref, "overview")

    def _push(self, ref: GuestRef, tab: str) -> None:
        from app.tui.screens.detail import DetailScreen

        self.app.push_screen(DetailScreen(self.roster, ref, tab))

    def action_open(self, tab: str) -> None:
        """Show a page of the selected guest over the whole screen."""
        if self.table.current is None:
            self.say("no guest is chosen")
        else:
            self._push(self.table.current.ref, tab)

    # ---- details beside or below the table

    def on_resize(self) -> None:
        if self.is_up:
            self._place_details()
            self.show_rows(Batch())

    def action_toggle_details(self) -> None:
        is_shown = self.details is not None and self.details.display
        self._wants_details = not is_shown
        self._place_details()
        if self._wants_details and (self.details is None or not self.details.display):
            self.say("the terminal is too small for details beside the table; Enter shows them")

    def _place_details(self) -> None:
        """Beside the table on a wide terminal, below it on a high one, else not at all."""
        place = self._place()
        body = self.query_one("#body")
        body.set_class(place == "-beside", "-beside")
        body.set_class(place == "-below", "-below")
        if place and self.details is None:
            from app.tui.details import Details

            self.details = Details(self.roster, "charts", id="details", numbered=False)
            self.details.ref = self.table.selected
            body.mount(self.details)
        if self.details is not None:
            self.details.display = bool(place)
        self._share_height()

    def _place(self) -> str:
        width, height = self.size
        if self._wants_details is False:
            return ""
        if width >= BESIDE_WIDTH:
            return "-beside"
        least_width, least_height = ASKED_SIZE if self._wants_details else BELOW_SIZE
        return "-below" if width >= least_width and height >= least_height else ""

    def _share_height(self) -> None:
        """Above details the table takes no more room than its guests need: charts want height."""
        height: int | str = "1fr"
        if self.query_one("#body").has_class("-below"):
            groups = len({row.group for row in self.roster.rows})
            room = self.size.height - 3
            # One more for the heading, and one so that it does not look cut off.
            height = max(MIN_TABLE, min(len(self.roster.rows) + groups + 2, room * 3 // 5, room - MIN_DETAILS))
        if self._table_height != height:
            self._table_height = self.table.styles.height = height

    # ---- view keys

    def action_filter(self) -> None:
        from widgets.prompt import Prompt

        before = self.table.filter.text

        def done(text: str | None) -> None:
            self.table.set_filter(before if text is None else text)

        self.app.push_screen(
            Prompt("/", before, hint="web  !db  kind:vm  state:running  cpu>50", on_change=self.table.set_filter), done
        )

    def action_clear(self) -> None:
        self.table.action_clear_marks()
        if self.table.filter.text:
            self.table.set_filter("")

    def action_sort(self) -> None:
        from app.tui.screens.choose import SortChooser

        self.app.push_screen(SortChooser(self.table.order.sort), self._sort_by)

    def _sort_by(self, name: str | None) -> None:
        if name is not None:
            self.table.set_sort(name)

    def action_columns(self) -> None:
        from app.tui.screens.choose import ColumnChooser

        self.app.push_screen(
            ColumnChooser(self.table.hidden_columns),
            lambda hidden: None if hidden is None else self.table.set_hidden_columns(hidden),
        )

    def action_freeze(self) -> None:
        self.roster.is_frozen = not self.roster.is_frozen
        self.roster.update()
        self.show_rows(Batch())

    def action_pace(self, slower: int) -> None:
        now = self.station.interval_s
        if slower > 0:
            wanted = next((each for each in INTERVALS_S if each > now), now)
        else:
            wanted = next((each for each in reversed(INTERVALS_S) if each < now), now)
        self.station.set_interval(max(MIN_INTERVAL_S, wanted))
        self.show_rows(Batch())
