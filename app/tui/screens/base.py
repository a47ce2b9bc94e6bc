"""What all screens of guests share: the core's news, one line of words, one of keys."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from textual import on
from textual.binding import Binding
from textual.screen import Screen

from app.tui.actions import Actions
from app.tui.asker import Answer
from app.tui.key_line import Hint, KeyLine
from app.tui.messages import Batch, CoreChanged
from app.tui.roster import Roster
from app.tui.status import status_lines, work_spans
from backends.assets import SnapshotComparing
from backends.errors import InnkeeperError
from widgets.bar import Bar
from widgets.guest_row import GuestRow
from widgets.line import Line, Role, Span, line
from widgets.line_view import LineView
from widgets.log_view import LogView
from widgets.snapshot_tree import SnapshotTree

if TYPE_CHECKING:
    from app.core.workstation import Workstation
    from app.tui.application import InnkeeperApp
    from app.tui.details import Details

V = TypeVar("V", bound=LineView)

MESSAGE_S = 12.0
"""How long a line of news stands."""

STICKY_S = 4.0
"""How long an error is not replaced by a success."""

TAB_BINDINGS = [
    Binding(str(number), f"tab({number})", "page", show=False, id=f"tab.{number}") for number in range(1, 10)
]
PAGE_BINDINGS = [
    Binding("left_square_bracket", "step_tab(-1)", "previous page", show=False, id="tab.previous"),
    Binding("right_square_bracket", "step_tab(1)", "next page", show=False, id="tab.next"),
    Binding("l", "open('logs')", "logs", show=False, id="open.logs"),
    Binding("N", "open('snapshots')", "snapshots", show=False, id="open.snapshots"),
    Binding("exclamation_mark", "open('trace')", "what was done to it", show=False, id="open.trace"),
    Binding("i", "open('inspect')", "inspect", show=False, id="open.inspect"),
    Binding("E", "open('changes')", "what it changed of its image", show=False, id="open.changes"),
    Binding("H", "backends", "host and backends", show=False, id="open.backends"),
    Binding("y", "copy", "copy the names to the clipboard", show=False, id="open.copy"),
]


class BaseScreen(Screen[None]):
    """A screen that shows guests and can act on them."""

    MORE_HINTS: ClassVar[tuple[Hint, ...]] = ()
    """Keys of its own, shown where there is room."""

    ALWAYS_HINTS: ClassVar[tuple[Hint, ...]] = (("?", "help"), ("q", "quit"))

    def __init__(self, roster: Roster) -> None:
        super().__init__()
        self.roster = roster
        self.details: Details | None = None
        self.actions = Actions(self)
        self._key_line = KeyLine(self)
        self.is_up = False
        """Answers may come before it is composed and after it is gone."""

        self._said: Line = ()
        self._said_at_s = 0.0

    @property
    def innkeeper(self) -> InnkeeperApp:
        """The app, as what it is."""
        return cast("InnkeeperApp", self.app)

    @property
    def station(self) -> Workstation:
        """The core."""
        return self.roster.station

    def on_mount(self) -> None:
        self.is_up = True

    def on_unmount(self) -> None:
        self.is_up = False

    # ---- what a screen of its own adds

    def core_changed(self, batch: Batch) -> None:
        """The core has news; the roster is up to date."""
        if self.is_current:
            for event in batch.ended:
                self.actions.tell_ended(event)
        self.show_message()
        self.show_keys()

    def progressed(self, batch: Batch) -> None:
        """Nothing happened but that operations are further."""
        self.show_status()

    def chosen_rows(self) -> list[GuestRow]:
        """The guests that a command is for."""
        return []

    def message_right(self) -> list[Span]:
        """What stands at the right of the line of news."""
        return []

    # ---- lines at the bottom

    def on_descendant_focus(self) -> None:
        self.show_keys()

    def on_core_changed(self, message: CoreChanged) -> None:
        if message.batch.is_only_progress:
            self.progressed(message.batch)
        else:
            self.core_changed(message.batch)

    def say(self, text: str, role: Role = "") -> None:
        """Tell the user something in one line; an error stands a while before good news replace it."""
        fresh = time.monotonic() - self._said_at_s < STICKY_S
        if role == "good" and fresh and any(of == "bad" for _, of in self._said):
            return
        self._said, self._said_at_s = line((f" {text}", role)), time.monotonic()
        self.show_message()

    def show_status(self) -> None:
        """Draw the line at the top."""
        if not self.is_up:
            return
        app = self.innkeeper
        left, right = status_lines(
            app.host.figures,
            self.roster.statuses,
            interval_s=self.station.interval_s,
            own_cpu_pct=self.roster.own_cpu_pct,
            frozen=self.roster.is_frozen,
            width=self.size.width,
            work=work_spans(self.station.running_operations(), app.progress),
        )
        self.query_one("#status", Bar).set(left, right)

    def show_message(self) -> None:
        """Draw the line of news; old news goes."""
        if not self.is_up:
            return
        if self._said and time.monotonic() - self._said_at_s > MESSAGE_S:
            self._said = ()
        self.query_one("#message", Bar).set(self._said, tuple(self.message_right()))

    def show_keys(self) -> None:
        """Draw the line of keys that apply now."""
        if self.is_up:
            self._key_line.show(self.query_one("#keys", Bar), self.MORE_HINTS, self.ALWAYS_HINTS)

    async def action_act(self, names: str) -> None:
        """Do the first of these commands that applies to what is chosen."""
        self.actions.act(names.split())

    def action_backends(self) -> None:
        from app.tui.screens.backends import BackendScreen

        self.app.push_screen(BackendScreen(self.roster, self.innkeeper.host))

    def action_copy(self) -> None:
        """Put the names on the user's own clipboard, also over SSH (OSC 52)."""
        names = "\n".join(row.name for row in self.chosen_rows())
        if names:
            self.app.copy_to_clipboard(names)
            self.say(f"copied {names.replace(chr(10), ' ')}")

    def action_view(self, name: str) -> None:
        """Show one of the views."""
        self.innkeeper.show_view(name)

    def action_create(self) -> None:
        """Make a container: from the image of the guest under the cursor, or one that is typed."""
        rows = self.chosen_rows()
        self.innkeeper.open_form(rows[0].guest.image or "" if rows else "", rows[0].ref.backend if rows else None)

    # ---- pages

    def action_tab(self, number: int) -> None:
        from app.tui.pages import PAGES

        if self.details is not None and self.details.display:
            self.details.show_tab(list(PAGES)[number - 1])
            self.show_message()

    def action_step_tab(self, by: int) -> None:
        if self.details is not None and self.details.display:
            self.details.step_tab(by)
            self.show_message()

    def action_open(self, tab: str) -> None:
        """Show a page of the details."""
        if self.details is not None:
            self.details.show_tab(tab, focus=True)
            self.show_message()

    @on(LogView.Changed)
    def _log_changed(self) -> None:
        self.show_message()

    @on(LogView.SearchWanted)
    def _search_log(self) -> None:
        from widgets.prompt import Prompt

        log = self._view(LogView)
        if log is None:
            return
        before = log.pattern.pattern if log.pattern is not None else ""
        self.app.push_screen(Prompt("Search the log:", before, hint="a regular expression", check=log.search))

    @on(LogView.SaveWanted)
    def _save_log(self) -> None:
        from widgets.prompt import Prompt

        log, rows = self._view(LogView), self.chosen_rows()
        if log is None:
            return
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in (rows[0].name if rows else "guest"))

        def done(path: str | None) -> None:
            if path:
                self._write_log(Path(path).expanduser(), log.text())

        self.app.push_screen(Prompt("Save the log to:", f"{name}.log"), done)

    def _write_log(self, path: Path, text: str) -> None:
        def write() -> str:
            try:
                path.write_text(text, encoding="utf-8")
            except OSError as error:
                raise InnkeeperError(f"cannot write {path}: {error.strerror}") from error
            return f"saved {text.count(chr(10))} lines to {path}"

        def reply(answer: Answer[str]) -> None:
            self.say(answer.error.message if answer.error else answer.value, "bad" if answer.error else "good")

        self.innkeeper.asker.ask("files", "save", write, reply)

    @on(SnapshotTree.Wanted)
    def _snapshot_wanted(self, event: SnapshotTree.Wanted) -> None:
        row = self.details.row if self.details is not None else None
        if row is not None and event.verb == "compare":
            from app.tui.screens.differences import Differences

            backend = self.roster.backend(row.ref)
            if backend is None or not isinstance(backend, SnapshotComparing):
                self.say("its backend cannot compare snapshots", "warn")
                return
            self.app.push_screen(Differences(backend, row.ref, event.name))
        elif row is not None:
            self.actions.snapshot(event.verb, row, event.name)

    def _view(self, kind: type[V]) -> V | None:
        view = self.details.view if self.details is not None else None
        return view if isinstance(view, kind) else None
