"""What the views of images, networks and the others share: table, details beside or over it, what a verb needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widget import Widget

from app.core.commands import COMMANDS
from app.tui.facts import FactBook, Question
from app.tui.messages import Batch
from app.tui.roster import Roster
from app.tui.screens.base import BaseScreen
from app.tui.shelf import Shelf
from app.tui.views import VIEW_BINDINGS, VIEW_HINT, view_names
from backends.base import Backend
from backends.errors import InnkeeperError
from widgets.bar import Bar
from widgets.line import Line, Span, line, width_of
from widgets.line_view import LineView
from widgets.list_table import ListTable
from widgets.news_bar import NewsBar
from widgets.text import clean

R = TypeVar("R")

BESIDE_WIDTH = 150
"""From here on the details stand beside the table."""


class AssetScreen(BaseScreen, Generic[R]):
    """Status, views, table with details, news, keys. What is in the table, a subclass says."""

    DEFAULT_CSS = """
    AssetScreen #body { height: 1fr; layout: horizontal; }
    AssetScreen #list { width: 1fr; }
    AssetScreen #pane { width: 1fr; display: none; }
    AssetScreen #body.-beside #list { width: 11fr; }
    AssetScreen #body.-beside #pane { display: block; width: 10fr; border-left: solid $border; padding: 0 0 0 1; }
    AssetScreen #body.-zoomed #list { display: none; }
    AssetScreen #body.-zoomed #pane { display: block; width: 1fr; padding: 0 1; border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *VIEW_BINDINGS,
        Binding("slash", "filter", "filter", show=False, id="view.filter"),
        Binding("o", "sort", "sort by", show=False, id="view.sort"),
        Binding("escape", "clear", "back; clear filter and marks", show=False, id="view.clear"),
        Binding("tab", "focus_next", "next pane", show=False, id="focus.next"),
        Binding("shift+tab", "focus_previous", "previous pane", show=False, id="focus.previous"),
        Binding("y", "copy", "copy the names to the clipboard", show=False, id="open.copy"),
        Binding("H", "backends", "host and backends", show=False, id="open.backends"),
        Binding("ctrl+r,f5", "reload", "read again now", show=False, id="view.reload"),
    ]
    ALWAYS_HINTS = (VIEW_HINT, ("?", "help"), ("q", "quit"))

    view_name: ClassVar[str] = ""
    every_s: ClassVar[float] = 3.0
    """How often the lists are read while the view is open."""

    def __init__(self, roster: Roster) -> None:
        super().__init__(roster)
        self.table: ListTable[R]
        self.pane: Widget
        self.is_zoomed = False
        self.facts = FactBook(self, self.view_name, self.show_details)

    # ---- what a subclass says

    def make_table(self) -> ListTable[R]:
        """Return its table."""
        raise NotImplementedError

    def make_pane(self) -> Widget:
        """Return what the details are drawn in."""
        view = LineView(id="pane")
        view.empty_text = "nothing chosen"
        return view

    def make_shelf(self) -> Shelf[Any] | None:
        """Return what asks backends; None if nothing is asked."""
        return None

    def rows(self) -> list[R]:
        """Return what is known now."""
        raise NotImplementedError

    def question(self, row: R) -> Question | None:
        """Return a key and what to ask the row's backend for its details; None: nothing more is known."""
        return None

    def backend_of(self, row: R) -> str:
        """Return the name of the row's backend."""
        raise NotImplementedError

    def detail_lines(self, row: R, facts: Any, width: int) -> list[Line]:
        """Return the details; facts are the answer to the question, or None."""
        raise NotImplementedError

    def name_of(self, row: R) -> str:
        """Return what the row is called, for the clipboard."""
        raise NotImplementedError

    def summary(self) -> list[Span]:
        """Return what stands at the right of the names of the views."""
        return []

    # ---- life

    def compose(self) -> ComposeResult:
        yield Bar(id="status")
        yield Bar(id="views")
        with Container(id="body"):
            yield self.make_table()
            yield self.make_pane()
        yield NewsBar(id="message")
        yield Bar(id="keys")

    def on_mount(self) -> None:
        super().on_mount()
        self.table = self.query_one(ListTable)
        self.pane = self.query_one("#pane")
        self.shelf = self.make_shelf()
        kept = self.innkeeper.memory.get(self.view_name)
        if isinstance(kept, tuple):
            self.table.sort_name, self.table.is_reversed, text = kept
            self.table.set_filter(text)
        self.table.focus()
        self.call_after_refresh(self._place)
        self.roster.update()
        self.refresh_list()
        self.core_changed(Batch(fleet=True))
        self.set_interval(1.0, self._pulse)

    def on_unmount(self) -> None:
        if self.is_up:
            kept = (self.table.sort_name, self.table.is_reversed, self.table.filter_text)
            self.innkeeper.memory[self.view_name] = kept
        super().on_unmount()

    def on_resize(self) -> None:
        if self.is_up:
            self._place()

    def _place(self) -> None:
        body = self.query_one("#body")
        body.set_class(self.is_zoomed, "-zoomed")
        body.set_class(not self.is_zoomed and self.size.width >= BESIDE_WIDTH, "-beside")
        self.show_views()
        self.show_status()
        self.call_after_refresh(self.show_details)

    @property
    def shows_details(self) -> bool:
        """True if the details are in view."""
        return self.is_zoomed or self.size.width >= BESIDE_WIDTH

    # ---- news

    def _pulse(self) -> None:
        self.refresh_list(older_than_s=self.every_s)
        self.show_list()

    def refresh_list(self, *, older_than_s: float = 0.0) -> None:
        """Ask for the lists again."""
        if self.shelf is not None:
            self.shelf.refresh(older_than_s=older_than_s)

    def core_changed(self, batch: Batch) -> None:
        if not self.is_up:
            return
        self.show_status()
        if batch.fleet or batch.ended or batch.backends:
            self.refresh_list()
            self.facts.forget_asked()
        self.show_list()
        super().core_changed(batch)

    def show_list(self) -> None:
        """Bring table and details up to date."""
        if not self.is_up:
            return
        self.table.empty_text = self.why_empty()
        self.table.update(self.rows())
        self.show_views()
        self.show_message()
        self.show_details()

    def why_empty(self) -> str:
        """Say why the table is empty."""
        if self.table.rows:
            return "nothing fits the filter: Esc clears it"
        shelf = self.shelf
        if shelf is None:
            return "nothing yet"
        if shelf.errors:
            return clean("; ".join(f"{name}: {error.message}" for name, error in shelf.errors.items()))
        late = shelf.late()
        if late:
            return clean(", ".join(f"{name} does not answer" for name, _ in late))
        if shelf.backends():
            return f"no {self.view_name}" if shelf.has_answer else f"reading the {self.view_name}"
        if any(status.state == "connecting" for status in self.roster.statuses):
            return f"reading the {self.view_name}"
        names = ", ".join(clean(status.title) for status in self.roster.statuses if status.state == "up")
        return f"no {self.view_name} here: {names} has none" if names else "no backend answers; H tells more"

    def show_views(self) -> None:
        """Draw the names of the views."""
        bar, summary = self.query_one("#views", Bar), line(*self.summary())
        # The narrower the terminal, the less is told of the views that are not shown.
        for length in (20, 4):
            names = view_names(self.view_name, length)
            if width_of(names) + width_of(summary) < bar.size.width:
                break
        bar.set(names, summary)

    def message_right(self) -> list[Span]:
        table = self.table
        spans: list[Span] = []
        if self.shelf is not None:
            spans += [(f" {clean(name)}: no answer for {age:.0f} s ", "warn") for name, age in self.shelf.late()]
            if table.rows:
                spans += [
                    (f" {clean(name)}: {clean(error.message)} ", "warn") for name, error in self.shelf.errors.items()
                ]
        if table.marks:
            spans.append((f" {len(table.marks)} marked ", "strong"))
        if table.filter_text:
            spans.append((f" /{clean(table.filter_text)} ", "accent"))
        if table.filter_problem:
            spans.append((f" {clean(table.filter_problem)} ", "bad"))
        if table.hidden_count:
            spans.append((f" {table.hidden_count} hidden ", "dim"))
        return spans

    # ---- details

    def show_details(self) -> None:
        """Draw the details of the row under the cursor, and ask for what is not known of it."""
        if not self.is_up or not self.shows_details:
            return
        row = self.table.current
        if row is None:
            self.draw_details(None, None)
            return
        asked = self.question(row)
        self.draw_details(row, self.facts.known(asked))
        self.facts.want(asked, self.backend_of(row))

    def draw_details(self, row: R | None, facts: Any) -> None:
        """Draw them."""
        view = self.pane
        assert isinstance(view, LineView)
        view.show(self.detail_lines(row, facts, max(40, view.size.width - 3)) if row is not None else [])

    @on(LineView.Moved)
    def _moved(self) -> None:
        self.show_details()
        self.show_keys()

    @on(LineView.Picked)
    def _picked(self) -> None:
        if self.table.current is not None:
            self.zoom(True)

    @on(ListTable.ViewChanged)
    def _view_changed(self) -> None:
        self.table.empty_text = self.why_empty()
        self.show_message()
        self.show_details()

    def zoom(self, is_zoomed: bool) -> None:
        """Show the details alone, or the table again."""
        self.is_zoomed = is_zoomed
        self._place()
        if is_zoomed:
            self.call_after_refresh(self.focus_pane)
        else:
            self.table.focus()
        self.show_keys()

    def focus_pane(self) -> None:
        """Give the keys to the details."""
        self.pane.focus()

    # ---- keys

    def action_clear(self) -> None:
        """One step back: from the details, from marks and filter, from the view."""
        if self.is_zoomed:
            self.zoom(False)
        elif self.table.marks or self.table.filter_text:
            self.table.action_clear_marks()
            self.table.set_filter("")
        else:
            self.dismiss(None)

    def action_filter(self) -> None:
        from widgets.prompt import Prompt

        self.zoom(False)
        before = self.table.filter_text

        def done(text: str | None) -> None:
            self.table.set_filter(before if text is None else text)

        hint = self.table.filter_hint
        self.app.push_screen(Prompt("/", before, hint=hint, on_change=self.table.set_filter), done)

    def action_sort(self) -> None:
        from app.tui.screens.choose import SortChooser

        def done(name: str | None) -> None:
            if name is not None:
                self.table.set_sort(name)

        self.app.push_screen(SortChooser(self.table.sort_name, self.table.columns), done)

    def action_reload(self) -> None:
        self.refresh_list()
        self.say(f"reading the {self.view_name} again")

    def action_copy(self) -> None:
        names = "\n".join(self.name_of(row) for row in self.table.chosen)
        if names:
            self.app.copy_to_clipboard(names)
            self.say(f"copied {names.replace(chr(10), ' ')}")

    def action_do(self, name: str) -> None:
        """Do a command to what is chosen, or to nothing in particular."""
        getattr(self, "do_" + name.replace(".", "_"))()

    # ---- for the verbs of subclasses

    def home(self, command: str) -> Backend | None:
        """Return the backend that a command without a row is for: that of the row under the cursor, else the first."""
        capability = COMMANDS[command].capability
        able = self.shelf.backends(capability) if self.shelf is not None else []
        here = self.backend_of(self.table.current) if self.table.current is not None else ""
        chosen = next((each for each in able if each.name == here), able[0] if able else None)
        if chosen is None:
            self.say(f"no backend here can {COMMANDS[command].verb}", "warn")
        return chosen

    def can(self, command: str, rows: Sequence[R]) -> bool:
        """Say why not if a command cannot be done to the rows."""
        if not rows:
            self.say("nothing is chosen")
            return False
        for name in {self.backend_of(row) for row in rows}:
            try:
                why = COMMANDS[command].why_not(self.station.backend(name), None)
            except InnkeeperError as error:
                why = error.message
            if why is not None:
                self.say(f"{COMMANDS[command].title}: {why}", "warn")
                return False
        return True

    def submit(self, command: str, backend: str, **arguments: object) -> None:
        """Begin a command on one backend."""
        self.actions.submit(command, None, backend=backend, **arguments)
