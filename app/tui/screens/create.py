"""The form that makes a container from an image, and shows the command line that would do the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.timer import Timer
from textual.widgets import Input

from app.core.draft import FIELDS, SWITCHES, Draft, ImageDefaults
from app.core.run_line import run_line
from app.tui.asker import Answer
from app.tui.messages import Batch
from app.tui.roster import Roster
from app.tui.screens.base import BaseScreen
from app.tui.screens.image_facts import ImageFacts, image_facts
from backends.base import Backend
from backends.capabilities import Creating
from backends.container import ContainerSpec
from backends.errors import BackendUnavailable, InnkeeperError
from backends.events import OperationEnded
from backends.model import Guest
from widgets.bar import Bar
from widgets.choice_row import ChoiceRow
from widgets.form_row import FormRow
from widgets.glyphs import GLYPHS
from widgets.line import EMPTY, line, wrap
from widgets.line_view import LineView
from widgets.news_bar import NewsBar
from widgets.text import clean

SETTLE_S = 0.4
"""What is typed is shown to the backend when the fingers rest."""

_MOVES = {"down": 1, "enter": 1, "tab": 1, "up": -1, "shift+tab": -1}
"""Keys that go from field to field, and which way."""

BUTTONS = ("Create and start", "Create", "Start anew", "Back")


class CreateScreen(BaseScreen):
    """A line a field. Nothing that was written is lost: what is left is there again next time."""

    DEFAULT_CSS = """
    CreateScreen #form { height: 1fr; max-width: 120; overflow-y: auto; }
    CreateScreen #meaning { margin: 1 0 0 0; }
    CreateScreen #line { height: 3; margin: 1 0 0 0; }
    """
    AUTO_FOCUS = ""
    """The first field would have the keys for a moment, and letters meant for the name."""

    ALWAYS_HINTS = (("Esc", "back"), ("F1", "help"))
    MORE_HINTS = (("Tab", "next"), ("F10", "create and start"), ("F9", "create"), ("^Y", "copy the command line"))
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back; what is written stays", show=False, id="form.back"),
        Binding("f10,ctrl+s", "make(True)", "create and start", show=False, id="form.start"),
        Binding("f9", "make(False)", "create", show=False, id="form.create"),
        Binding("ctrl+y", "copy_line", "copy the command line", show=False, id="form.copy"),
        Binding("y", "copy_line", "copy the command line", show=False, id="form.copy_too"),
        Binding("q", "back", "back; what is written stays", show=False, id="form.back_too"),
        Binding("tab", "app.focus_next", "next field", show=False, id="focus.next", priority=True),
        Binding("shift+tab", "app.focus_previous", "previous field", show=False, id="focus.previous", priority=True),
    ]

    def __init__(self, roster: Roster, image: str, backend: str | None) -> None:
        super().__init__(roster)
        self._image, self._wanted = image, backend
        self.draft = Draft({"image": image})
        self._backend_problem = ""
        self._asked_image = ""
        self._operation_id: int | None = None
        self._settle: Timer | None = None
        self._early: list[events.Key | Callable[[], object]] = []
        """Keys, and what they led to, before the form had the keys."""

        self._has_begun = False

    def compose(self) -> ComposeResult:
        yield Bar(id="status")
        yield Bar(id="title")
        with Vertical(id="form"):
            for each in FIELDS:
                yield FormRow(each.name, each.title, each.hint)
            yield ChoiceRow([title for _, title, _ in SWITCHES], id="switches", has_states=True, lead=16)
            yield Bar(id="meaning")
            yield Bar(id="problem")
            yield LineView(id="line")
            yield ChoiceRow(BUTTONS, id="buttons")
        yield NewsBar(id="message")
        yield Bar(id="keys")

    def on_mount(self) -> None:
        super().on_mount()
        kept = self.innkeeper.memory.get(f"draft {self._image}")
        if isinstance(kept, Draft):
            self.draft = kept
            self.say("as you left it; Start anew forgets it")
        self.query_one("#line", LineView).empty_text = ""
        self._put()
        self._to_first()
        self.call_after_refresh(self._begin)

    def _to_first(self) -> None:
        self.set_focus(self.row("name" if self._image else "image").input)

    def _begin(self) -> None:
        self._has_begun = True
        for early in self._early:
            if isinstance(early, events.Key):
                self.take_early(early)
            else:
                self._when_typed(early)
        self.show_status()
        self._look()
        self._ask_facts()

    def on_resize(self) -> None:
        if self.is_up:
            self.call_after_refresh(self._show)

    @property
    def backend(self) -> Backend | None:
        """Where it is made: the backend it was asked for, else the first that makes containers."""
        able: list[Backend] = []
        for status in self.roster.statuses:
            try:
                each = self.station.backend(status.name)
            except BackendUnavailable:
                continue
            if isinstance(each, Creating):
                able.append(each)
        return next((each for each in able if each.name == self._wanted), able[0] if able else None)

    def row(self, name: str) -> FormRow:
        """A line of the form."""
        return self.query_one(f"#field-{name}", FormRow)

    def _put(self, before: Draft | None = None) -> None:
        """Write the draft into the fields; but what was typed since they showed `before`, and is to be heard of yet."""
        for each in FIELDS:
            row = self.row(each.name)
            if before is None or row.input.value == before.text(each.name):
                row.put(self.draft.text(each.name))
        on = frozenset(index for index, (name, _, _) in enumerate(SWITCHES) if name in self.draft.switches)
        self.query_one("#switches", ChoiceRow).turn_on(on)

    # ---- keys in a hurry

    def take_early(self, event: events.Key) -> bool:
        """Take a key that was typed before the form had the keys; False if it is no such key."""
        moves = _MOVES.get(event.key, 0)
        if not moves and not event.is_printable:
            return False
        if not self._has_begun:
            self._early.append(event)
            return True
        field = self.focused
        if not isinstance(field, Input):
            return False
        if moves:
            (self.focus_next if moves > 0 else self.focus_previous)()
        elif event.character is not None:
            field.insert_text_at_cursor(event.character)
        return True

    def _when_typed(self, then: Callable[[], object]) -> None:
        """Go on when all keys that came before are in their fields, and take in what is written there."""
        if not self._has_begun:
            self._early.append(then)
            return
        fields = [self.row(each.name) for each in FIELDS]
        left = len(fields)

        def heard() -> None:
            nonlocal left
            left -= 1
            if left or not self.is_up:
                return
            for row in fields:
                if row.input.value != self.draft.text(row.field_name):
                    self.draft = self.draft.written(row.field_name, row.input.value)
            then()

        for row in fields:
            row.input.call_later(heard)

    # ---- what the image says

    def _ask_facts(self) -> None:
        """Ask for what the image brings along, and for names to offer."""
        backend, image = self.backend, self.draft.text("image").strip()
        if backend is None:
            return
        self._asked_image = image

        def reply(answer: Answer[ImageFacts]) -> None:
            if self.is_up and answer.error is None:
                self._take_facts(image, answer.value)

        self.innkeeper.asker.ask(f"form {backend.name}", "facts", lambda: image_facts(backend, image), reply)

    def _take_facts(self, image: str, facts: ImageFacts) -> None:
        self.row("image").suggest(facts.images)
        self.row("network").suggest(facts.networks)
        if facts.config is None or image != self.draft.text("image").strip():
            return
        defaults, before = ImageDefaults.of(facts.config), self.draft
        self.draft = before.filled(defaults)
        if defaults.command:
            self.row("command").hint(f"the image's own: {clean(defaults.command)}")
        self._put(before)
        self._look()

    # ---- looking at what is written

    @on(FormRow.Changed)
    def _changed(self, event: FormRow.Changed) -> None:
        self.draft = self.draft.written(event.row.field_name, event.text)
        self._look()

    def _look(self) -> None:
        """Say at once what makes no sense; what only the backend knows when the fingers rest."""
        self._backend_problem = ""
        self._show()
        if self._settle is not None:
            self._settle.stop()
        self._settle = self.set_timer(SETTLE_S, self._settled)

    def _settled(self) -> None:
        if self.draft.text("image").strip() != self._asked_image:
            self._ask_facts()
        backend = self.backend
        if backend is None or not isinstance(backend, Creating) or self.draft.problems():
            return
        draft, creating = self.draft, backend
        spec = draft.spec()

        def reply(answer: Answer[object]) -> None:
            if self.is_up and draft is self.draft:
                self._backend_problem = answer.error.message if answer.error is not None else ""
                self._show()

        self.innkeeper.asker.ask(f"form {backend.name}", "explain", lambda: creating.explain(spec), reply)

    def _show(self) -> None:
        if not self.is_up:
            return
        backend = self.backend
        where = f"in {clean(backend.title)}" if backend is not None else "no backend here makes containers"
        self.query_one("#title", Bar).set(line((" Create a container ", "title"), (where, "dim")))
        problems = self.draft.problems()
        for each in FIELDS:
            self.row(each.name).mark(each.name in problems)
        here = self._field_here()
        problem = problems.get(here) or next(iter(problems.values()), "") or self._backend_problem
        view = self.query_one("#line", LineView)
        width = max(30, view.size.width - 1)
        told = line((f" {GLYPHS.warning} {problem}", "bad" if problems else "warn")) if problem else EMPTY
        first, *rest = wrap(told, width, 3)
        self.query_one("#problem", Bar).set(first)
        self.query_one("#meaning", Bar).set(line((f" {self._meaning(here)}", "dim")))
        if problems:
            view.show([*rest, line((" the command line stands here when all of the form makes sense", "dim"))])
        else:
            view.show([*rest, *wrap(line((" $ ", "dim"), (self.command_line, "accent")), width, 3)])

    @property
    def command_line(self) -> str:
        """The command line that does the same; empty while something makes no sense."""
        try:
            return run_line(self.draft.spec(), self.station.settings.paths)
        except InnkeeperError:
            return ""

    def _field_here(self) -> str:
        focused = self.focused
        parent = focused.parent if focused is not None else None
        if isinstance(parent, FormRow):
            return parent.field_name
        return ""

    def _meaning(self, here: str) -> str:
        if here:
            return next(each.meaning for each in FIELDS if each.name == here)
        switches = self.query_one("#switches", ChoiceRow)
        if switches.has_focus:
            return SWITCHES[switches.at][2] + " Space turns it on and off."
        if self.query_one("#line", LineView).has_focus:
            return "What the form asks for, for a shell; y copies it."
        return ""

    def on_descendant_focus(self) -> None:
        super().on_descendant_focus()
        self._show()

    @on(ChoiceRow.Turned)
    def _turned(self) -> None:
        self._show()

    @on(ChoiceRow.Chosen)
    def _chosen(self, event: ChoiceRow.Chosen) -> None:
        if event.row.id == "switches":
            before = self.draft
            self.draft = before.flipped(SWITCHES[event.index][0])
            self._put(before)
            self._look()
        elif event.index == 2:
            self.action_anew()
        elif event.index == 3:
            self.action_back()
        else:
            self.action_make(event.index == 0)

    # ---- doing

    def action_make(self, start: bool) -> None:
        """Create it, and start it then."""
        self._when_typed(lambda: self._make(start))

    def _make(self, start: bool) -> None:
        backend = self.backend
        if self._operation_id is not None:
            self.say("it is being created")
            return
        if backend is None:
            self.say("no backend here makes containers", "bad")
            return
        try:
            spec = self.draft.spec()
            operation = self.station.submit("guest.create", backend=backend.name, spec=spec)
        except InnkeeperError as error:
            self.say(error.message, "bad")
            return
        self._operation_id = operation.id
        self.say(f"creating {clean(spec.name or spec.image)} {GLYPHS.ellipsis}")
        self.innkeeper.after[operation.id] = lambda event: self._made(event, spec, start)

    def _made(self, event: OperationEnded, spec: ContainerSpec, start: bool) -> None:
        """It is made, or failed; the form may be gone by now."""
        self._operation_id = None
        if event.error is None:
            self.innkeeper.memory.pop(f"draft {self._image}", None)
            self.draft = Draft()
            if start and isinstance(event.result, Guest):
                self.station.submit("guest.start", event.result.ref)
            if self.is_up:
                self.dismiss(None)
        elif self.is_up:
            hint = f" ({event.error.hint})" if event.error.hint else ""
            self.say(f"{event.error.message}{hint}", "bad")

    def core_changed(self, batch: Batch) -> None:
        if self.is_up:
            self.show_status()
            mine = [event for event in batch.ended if event.command == "guest.create" and event.error is not None]
            if not mine:
                super().core_changed(batch)

    def action_anew(self) -> None:
        """Forget what is written."""
        self.innkeeper.memory.pop(f"draft {self._image}", None)
        self.draft = Draft({"image": self._image})
        self._put()
        self._ask_facts()
        self._look()
        self._to_first()

    def action_back(self) -> None:
        """Leave the form; it comes back as it is."""
        self._when_typed(self._leave)

    def _leave(self) -> None:
        if self.draft.touched or self.draft.switches:
            self.innkeeper.memory[f"draft {self._image}"] = self.draft
            below = self.app.screen_stack[-2]
            if isinstance(below, BaseScreen):
                below.say("what you wrote is kept: C brings it back")
        self.dismiss(None)

    def action_copy_line(self) -> None:
        text = self.command_line
        if text:
            self.app.copy_to_clipboard(text)
            self.say("copied the command line", "good")
        else:
            self.say("there is no command line while something makes no sense", "warn")
