"""The limits panel: a limit is changed and one sees it bite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from app.core.limits import LIMIT_FIELDS, LimitField
from app.tui.asker import Answer, Asker
from app.tui.limit_book import Facts, LimitBook, evidence, names_line
from app.tui.messages import Batch, CoreChanged
from app.tui.roster import Roster
from backends.base import Backend
from backends.capabilities import Limiting
from backends.errors import InnkeeperError, Unsupported
from backends.model import Guest, GuestRef
from widgets.bar import Bar
from widgets.glyphs import GLYPHS
from widgets.guest_row import GuestRow
from widgets.limit_editor import LimitEditor
from widgets.line import Line, Role, Span, line
from widgets.line_view import LineView
from widgets.text import clean

if TYPE_CHECKING:
    from app.tui.application import InnkeeperApp


class LimitScreen(ModalScreen[None]):
    """Limits of one or several guests. Each change is submitted at once, after a question if it would hurt."""

    DEFAULT_CSS = """
    LimitScreen { align: center bottom; background: transparent; }
    LimitScreen > Vertical {
        width: 100; max-width: 100%; height: auto; max-height: 100%;
        border: round $primary; background: $panel;
    }
    LimitScreen LimitEditor { height: 14; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,L", "dismiss(None)", "back", show=False, id="limit.back"),
        Binding("u", "again('limit.undo')", "take the last change back", show=False, id="limit.undo"),
        Binding("ctrl+r", "again('limit.redo')", "make it again", show=False, id="limit.redo"),
    ]

    def __init__(self, roster: Roster, refs: Sequence[GuestRef]) -> None:
        super().__init__()
        self.roster, self.refs = roster, list(refs)
        self.book = LimitBook()
        self._said: Span = ("", "")
        self._is_up = False
        """Answers may come before it is composed and after it is gone."""

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            names = [self.roster.name(ref) for ref in self.refs]
            title = f"Limits of {names[0]}" if len(names) == 1 else f"Limits of {len(names)} guests"
            box.border_title = Content(title)  # never a plain text: that would be read as markup
            box.border_subtitle = "- + step  = exact  0 lift  u undo  ^R redo  Esc back"
            yield LimitEditor()
            yield Bar(id="evidence")
            yield Bar(id="meaning")
            yield Bar(id="outcome")

    def on_unmount(self) -> None:
        self._is_up = False

    def on_mount(self) -> None:
        self._is_up = True
        self._ask_all()
        self._draw()

    # ---- facts

    def _ask_all(self) -> None:
        for ref in self.refs:
            row, backend = self.roster.by_ref.get(ref), self.roster.backend(ref)
            if row is not None and backend is not None:
                self._ask_facts(row.guest, backend)

    def _ask_facts(self, guest: Guest, backend: Backend) -> None:
        ref = guest.ref

        def question() -> Facts:
            if not isinstance(backend, Limiting):
                raise Unsupported(f"{backend.title} cannot set limits")
            return Facts(backend.limits(ref), backend.limit_fields(guest))

        def reply(answer: Answer[Facts]) -> None:
            if answer.error is not None:
                self.tell(answer.error.message, "bad")
            else:
                self.book.facts[ref] = answer.value
            self._draw()

        self._asker.ask(f"limits {ref.backend}", f"facts {ref}", question, reply)

    @property
    def _asker(self) -> Asker:
        return cast("InnkeeperApp", self.app).asker

    def on_core_changed(self, message: CoreChanged) -> None:
        batch: Batch = message.batch
        mine = [(event.ref, event.error) for event in batch.ended if event.ref is not None and event.ref in self.refs]
        for ref, error in mine:
            if self.roster.station.fleet.pending(ref) is None:
                self.book.settle(ref)
            name = self.roster.name(ref)
            if error is not None:
                self.tell(f"{name}: {error.message}", "bad")
            else:
                self.tell(f"{name}: in force", "good")
        if mine or batch.fleet:
            self._ask_all()
        self._draw()

    # ---- drawing

    def _draw(self) -> None:
        if not self._is_up:
            return
        editor = self.query_one(LimitEditor)
        if self.book.facts:
            guest = self._one()
            editor.show_rows([self.book.row(field, guest) for field in LIMIT_FIELDS.values()])
        self.query_one("#evidence", Bar).set(self._evidence())
        row = editor.current
        field = LIMIT_FIELDS.get(row.name) if row is not None else None
        self.query_one("#meaning", Bar).set(
            line((f" {field.meaning}", "dim"), (f"  {field.source}", "accent")) if field else ()
        )
        self.query_one("#outcome", Bar).set(line(self._said))

    def _one(self) -> GuestRow | None:
        """The guest, if it is a single one."""
        return self.roster.by_ref.get(self.refs[0]) if len(self.refs) == 1 else None

    def _evidence(self) -> Line:
        row = self._one()
        if row is None:
            return names_line(map(self.roster.name, self.refs))
        return evidence(row.rates, row.guest.oom_kills)

    def tell(self, text: str, role: Role = "") -> None:
        """One line at the bottom of the panel."""
        self._said = (" " + clean(text), role)
        if self._is_up:
            self.query_one("#outcome", Bar).set(line(self._said))

    # ---- changing

    @on(LineView.Moved)
    def _moved(self) -> None:
        self._draw()

    @on(LimitEditor.Refused)
    def _refused(self, event: LimitEditor.Refused) -> None:
        self.tell(event.why, "warn")

    @on(LimitEditor.Wanted)
    def _wanted(self, event: LimitEditor.Wanted) -> None:
        field = LIMIT_FIELDS[event.name]
        if event.act == "exact":
            self._ask_exact(field)
            return
        changes: dict[GuestRef, Any] = {}
        for ref in self.book.facts:
            now = self.book.value(ref, field.name)
            new = None if event.act == "lift" else field.step_up(now) if event.act == "up" else field.step_down(now)
            if new != now:
                changes[ref] = new
        if not changes:
            self.tell(f"{field.title}: {'there is no limit' if event.act != 'down' else 'it is as low as it goes'}")
        self._change(field, changes)

    def _ask_exact(self, field: LimitField) -> None:
        from widgets.prompt import Prompt

        values = {self.book.value(ref, field.name) for ref in self.book.facts}
        before = field.format(values.pop()) if len(values) == 1 else ""

        def check(text: str) -> str:
            try:
                field.parse(text)
            except InnkeeperError as error:
                return error.message.removeprefix(f"{field.option}: ")  # the option is the command line's word
            return ""

        def done(text: str | None) -> None:
            if text is not None:
                self._change(field, dict.fromkeys(self.book.facts, field.parse(text)))

        hint = "none lifts it; unit: " + field.unit
        self.app.push_screen(Prompt(f"{field.title}:", before, hint=hint, check=check), done)

    def _change(self, field: LimitField, wanted: Mapping[GuestRef, Any]) -> None:
        """Ask what it would hurt, then do it."""
        for name in dict.fromkeys(ref.backend for ref in wanted):
            members = {ref: value for ref, value in wanted.items() if ref.backend == name}
            backend = self.roster.backend(next(iter(members)))
            if backend is None:
                self.tell(f"{name} does not answer", "bad")
            else:
                self._ask_warnings(backend, field, members)

    def _ask_warnings(self, backend: Backend, field: LimitField, wanted: Mapping[GuestRef, Any]) -> None:
        station = self.roster.station
        guests = {ref: row.guest for ref in wanted if (row := self.roster.by_ref.get(ref)) is not None}
        for ref in guests:
            self.book.want(ref, field.name, wanted[ref])
        self._draw()

        def question() -> list[str]:
            if not isinstance(backend, Limiting):
                return ["its backend cannot set limits"]
            return [
                f"{self.roster.name(ref)}: {text}"
                for ref, guest in guests.items()
                for text in backend.limit_warnings(guest, {field.name: wanted[ref]}, station.last_sample(ref))
            ]

        def reply(answer: Answer[list[str]]) -> None:
            if answer.error is not None:
                self._give_up(field, guests)
                self.tell(answer.error.message, "bad")
            elif answer.value:
                self._confirm(field, {ref: wanted[ref] for ref in guests}, answer.value)
            else:
                self._submit(field, {ref: wanted[ref] for ref in guests})

        key = f"warn {field.name} {sorted(map(str, wanted.items()))}"
        self._asker.ask(f"limits {backend.name}", key, question, reply)

    def _confirm(self, field: LimitField, wanted: Mapping[GuestRef, Any], warnings: Sequence[str]) -> None:
        from widgets.confirm import Confirm

        value = field.format(next(iter(wanted.values())))
        details = [line((f"{GLYPHS.warning} {text}", "warn")) for text in warnings]

        def done(agreed: bool | None) -> None:
            if agreed:
                self._submit(field, wanted)
            else:
                self._give_up(field, wanted)

        self.app.push_screen(Confirm(f"Set {field.title} to {value}?", details, verb="set it"), done)

    def _give_up(self, field: LimitField, refs: Mapping[GuestRef, Any]) -> None:
        for ref in refs:
            self.book.give_up(ref, field.name)
        self._draw()

    def _submit(self, field: LimitField, wanted: Mapping[GuestRef, Any]) -> None:
        group = object()  # one change to the user, so one undo takes it back
        for ref, value in wanted.items():
            try:
                self.roster.station.submit("guest.limit", ref, group=group, **{field.name: value})
            except InnkeeperError as error:
                self.tell(error.message, "bad")

    def action_again(self, command: str) -> None:
        for ref in self.refs:
            try:
                self.roster.station.submit(command, ref)
            except InnkeeperError as error:
                self.tell(error.message, "warn")
