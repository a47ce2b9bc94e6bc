"""The limits panel: a limit is changed and one sees it bite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from app.core.limits import LIMIT_FIELDS, LimitField
from app.tui.asker import Answer
from app.tui.messages import Batch, CoreChanged
from app.tui.roster import Roster
from backends.base import Backend, Limiting
from backends.errors import InnkeeperError, Unsupported
from backends.model import Guest, GuestRef, Limits
from widgets.bar import Bar
from widgets.glyphs import GLYPHS
from widgets.guest_card import uses
from widgets.limit_editor import LimitEditor, LimitRow
from widgets.line import Role, Span, line
from widgets.line_view import LineView
from widgets.text import clean
from widgets.units import percent, with_unit

if TYPE_CHECKING:
    from app.tui.application import InnkeeperApp

NOTHING = object()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a backend said of one guest's limits."""

    limits: Limits
    reasons: Mapping[str, str]
    """Field of Limits → why it cannot be set, or ""."""


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
        self._facts: dict[GuestRef, Facts] = {}
        self._targets: dict[tuple[GuestRef, str], Any] = {}
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
                self._facts[ref] = answer.value
            self._draw()

        self._asker.ask(f"limits {ref.backend}", f"facts {ref}", question, reply)

    @property
    def _asker(self) -> Any:
        return cast("InnkeeperApp", self.app).asker

    def on_core_changed(self, message: CoreChanged) -> None:
        batch: Batch = message.batch
        mine = [event for event in batch.ended if event.ref in self.refs]
        for event in mine:
            if self.roster.station.fleet.pending(event.ref) is None:  # type: ignore[arg-type]
                self._targets = {key: value for key, value in self._targets.items() if key[0] != event.ref}
            name = self.roster.name(event.ref)  # type: ignore[arg-type]
            if event.error is not None:
                self.tell(f"{name}: {event.error.message}", "bad")
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
        if self._facts:
            editor.show_rows([self._row(field) for field in LIMIT_FIELDS.values()])
        self._show_evidence()
        row = editor.current
        field = LIMIT_FIELDS.get(row.name) if row is not None else None
        self.query_one("#meaning", Bar).set(
            line((f" {field.meaning}", "dim"), (f"  {field.source}", "accent")) if field else ())
        self.query_one("#outcome", Bar).set(line(self._said))

    def _row(self, field: LimitField) -> LimitRow:
        values = {self._value(ref, field.name) for ref in self._facts}
        value = field.format(values.pop()) if len(values) == 1 else "differ"
        pending = any((ref, field.name) in self._targets for ref in self._facts)
        why = next((facts.reasons.get(field.name, "this backend has no such limit") for facts in self._facts.values()
                    if facts.reasons.get(field.name, "no")), "")
        use = None
        if len(self.refs) == 1 and (row := self.roster.by_ref.get(self.refs[0])) is not None:
            use = next((each for each in uses(row) if each.name == field.name), None)
        return LimitRow(field.name, field.title, value, use.used if use else "", use.share if use else None,
                        use.bite if use else "", clean(why), field.meaning, pending)

    def _value(self, ref: GuestRef, name: str) -> Any:
        wanted = self._targets.get((ref, name), NOTHING)
        return getattr(self._facts[ref].limits, name) if wanted is NOTHING else wanted

    def _show_evidence(self) -> None:
        row = self.roster.by_ref.get(self.refs[0])
        if row is None or len(self.refs) > 1:
            names = ", ".join(self.roster.name(ref) for ref in self.refs)
            self.query_one("#evidence", Bar).set(line((f" {names}", "dim")))
            return
        rates = row.rates
        told = [(f"CPU {with_unit(rates.cpu_pct, '%')}", False)]
        for title, value, alarm in (
            ("held back", rates.cpu_throttled_pct, 10.0), ("waits for CPU", rates.cpu_pressure_pct, 20.0),
            ("for memory", rates.memory_pressure_pct, 10.0), ("for disk", rates.io_pressure_pct, 20.0),
        ):
            if value is not None:
                told.append((f"{title} {percent(value)} %", value >= alarm))
        kills = rates.oom_kills if rates.oom_kills is not None else row.guest.oom_kills
        if kills is not None:
            told.append((f"OOM kills {kills}", kills > 0))
        spans: list[Span] = [(" now ", "head")]
        for text, alarming in told:
            spans.append((f" {GLYPHS.warning if alarming else ''}{text} ", "warn" if alarming else ""))
        self.query_one("#evidence", Bar).set(tuple(spans))

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
        for ref in self._facts:
            now = self._value(ref, field.name)
            new = None if event.act == "lift" else field.step_up(now) if event.act == "up" else field.step_down(now)
            if new != now:
                changes[ref] = new
        if not changes:
            self.tell(f"{field.title}: {'there is no limit' if event.act != 'down' else 'it is as low as it goes'}")
        self._change(field, changes)

    def _ask_exact(self, field: LimitField) -> None:
        from widgets.prompt import Prompt

        values = {self._value(ref, field.name) for ref in self._facts}
        before = field.format(values.pop()) if len(values) == 1 else ""

        def check(text: str) -> str:
            try:
                field.parse(text)
            except InnkeeperError as error:
                return error.message
            return ""

        def done(text: str | None) -> None:
            if text is not None:
                self._change(field, dict.fromkeys(self._facts, field.parse(text)))

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
            self._targets[ref, field.name] = wanted[ref]  # the next step goes on from here
        self._draw()

        def question() -> list[str]:
            if not isinstance(backend, Limiting):
                return ["its backend cannot set limits"]
            return [
                f"{self.roster.name(ref)}: {text}" for ref, guest in guests.items()
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
            self._targets.pop((ref, field.name), None)
        self._draw()

    def _submit(self, field: LimitField, wanted: Mapping[GuestRef, Any]) -> None:
        for ref, value in wanted.items():
            try:
                self.roster.station.submit("guest.limit", ref, **{field.name: value})
            except InnkeeperError as error:
                self.tell(error.message, "bad")

    def action_again(self, command: str) -> None:
        for ref in self.refs:
            try:
                self.roster.station.submit(command, ref)
            except InnkeeperError as error:
                self.tell(error.message, "warn")
