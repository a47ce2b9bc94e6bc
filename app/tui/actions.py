"""From keys to commands: what applies is asked first, what destroys is confirmed, the rest is submitted at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.binding import Binding

from app.core.commands import COMMANDS, Command
from app.core.operations import Operation
from app.tui.asker import Answer
from app.tui.verdicts import OPENERS, Verdict, judge, title_of
from backends.assets import Networks
from backends.errors import InnkeeperError
from backends.events import OperationEnded
from backends.model import GuestRef
from backends.network import Attachment
from widgets.glyphs import GLYPHS
from widgets.guest_row import GuestRow
from widgets.line import Line, line
from widgets.text import clean

if TYPE_CHECKING:
    from app.tui.screens.base import BaseScreen


def _bindings() -> list[Binding]:
    by_key: dict[str, list[Command]] = {}
    for command in COMMANDS.values():
        if command.key and command.needs_guest:
            by_key.setdefault(command.key, []).append(command)
    made = [
        Binding(
            key,
            f"act('{' '.join(command.name for command in commands)}')",
            " or ".join(command.title.lower() for command in commands),
            show=False,
            id=commands[0].name,
        )
        for key, commands in by_key.items()
    ]
    openers: dict[str, list[str]] = {}
    for name, (key, _, _, _) in OPENERS.items():
        openers.setdefault(key, []).append(name)
    for key, names in openers.items():
        title = " or ".join(OPENERS[name][1] for name in names)
        made.append(Binding(key, f"act('{' '.join(names)}')", title, show=False, id=f"open.{names[0]}"))
    made.append(Binding("R", "act('guest.rename')", "rename", show=False, id="guest.rename"))
    create = COMMANDS["guest.create"]
    made.append(Binding(create.key, "create", "create a container", show=False, id="guest.create"))
    return made


COMMAND_BINDINGS = _bindings()


_OF_THE_LAST_CHANGE = ("limit.undo", "limit.redo")
"""What they are done to is not the chosen guest but whatever was changed last, several guests at once too."""


_NAMED = {
    "guest.commit": ("image", "{}:latest", "empty: it gets none"),
    "guest.clone": ("clone", "", "empty: one is made up"),
}
"""What is made of a guest: what it is, the name that is offered, what an empty one means."""


class Actions:
    """Runs commands for one screen. Nothing here waits for a backend."""

    def __init__(self, screen: BaseScreen) -> None:
        self._screen = screen

    # ---- doing

    def act(self, names: Sequence[str]) -> None:
        """Do to each chosen guest the first of the commands that applies to it."""
        if names[0] in _OF_THE_LAST_CHANGE:
            self.submit(names[0], None)
            return
        rows = self._screen.chosen_rows()
        if not rows:
            self._screen.say("no guest is chosen")
            return
        judge(self._screen, names, rows, lambda verdicts: self._judged(names, verdicts))

    def _judged(self, names: Sequence[str], verdicts: list[Verdict]) -> None:
        fit = [verdict for verdict in verdicts if verdict.command is not None]
        if not fit:
            first = verdicts[0]
            more = f" (and {len(verdicts) - 1} more)" if len(verdicts) > 1 else ""
            self._screen.say(f"{title_of(names[0])}: not {first.row.name}{more}: {first.why}", "warn")
            return
        skipped = len(verdicts) - len(fit)
        if skipped:
            self._screen.say(f"{skipped} skipped: {next(v.why for v in verdicts if v.command is None)}", "warn")
        name = fit[0].command or ""
        if name in OPENERS:
            self._open_terminal(name, fit[0].row)
        elif name == "guest.limit":
            self._screen.innkeeper.open_limits([verdict.row.ref for verdict in fit])
        elif name in ("snapshot.create", "guest.rename"):
            self._ask_name(name, fit)
        elif name in _NAMED:
            self._ask_new_name(name, fit[0])
        elif name in ("network.connect", "network.disconnect"):
            self._pick_network(name, fit)
        elif any(argument.required for argument in COMMANDS[name].arguments):
            self._ask_arguments(name, fit, {})
        elif COMMANDS[name].destructive:
            self._confirm(name, fit)
        else:
            self._submit(fit)

    def _submit(self, verdicts: Sequence[Verdict], **arguments: object) -> None:
        for verdict in verdicts:
            extra = dict(arguments)
            if verdict.command == "guest.remove" and verdict.row.guest.state.is_live:
                extra["force"] = True
            self.submit(verdict.command or "", verdict.row.ref, **extra)

    def submit(self, command: str, ref: GuestRef | None, **arguments: object) -> Operation | None:
        """Begin one command; a request that makes no sense is told in one line, and None returned."""
        try:
            return self._screen.station.submit(command, ref, **arguments)
        except InnkeeperError as error:
            self._screen.say(f"{title_of(command)}: {error.message}", "bad")
            return None

    def _confirm(self, name: str, fit: list[Verdict]) -> None:
        from widgets.confirm import Confirm

        command, rows = COMMANDS[name], [verdict.row for verdict in fit]
        live = [row for row in rows if row.guest.state.is_live]
        who = rows[0].name if len(rows) == 1 else f"{len(rows)} guests"
        details: list[Line] = [line((command.help, "dim"))]
        if len(rows) > 1:
            details += [line(f"  {row.name}  ", (row.guest.state.value, "dim")) for row in rows[:8]]
            details += [line((f"  and {len(rows) - 8} more", "dim"))] if len(rows) > 8 else []
        word = None
        if name == "guest.remove" and live:
            word = rows[0].name if len(rows) == 1 else str(len(rows))
            told = f"{len(live)} of them run" if len(rows) > 1 else f"it is {live[0].guest.state.value}"
            details.append(line((f"{GLYPHS.warning} {told}", "warn")))
        self._screen.app.push_screen(
            Confirm(f"{command.title} {who}?", details, word=word, verb=command.title.lower()),
            lambda agreed: self._submit(fit) if agreed else None,
        )

    def snapshot(self, verb: str, row: GuestRow, name: str) -> None:
        """Make, restore or remove one snapshot; what loses something is confirmed."""
        from widgets.confirm import Confirm

        if verb == "create":
            self.act(["snapshot.create"])
            return
        command = COMMANDS[f"snapshot.{verb}"]
        details = [line((command.help, "dim"))]
        if verb == "restore" and row.guest.state.is_live:
            details.append(line((f"{GLYPHS.warning} {row.name} is {row.guest.state.value}", "warn")))
        what = f"Take {row.name} back to" if verb == "restore" else f"Remove from {row.name} the snapshot"

        def submit(agreed: bool | None) -> None:
            if agreed:
                self.submit(command.name, row.ref, name=name)

        def judged(verdicts: list[Verdict]) -> None:
            if verdicts[0].command is None:
                self._screen.say(f"{command.title}: {verdicts[0].why}", "warn")
            else:
                self._screen.app.push_screen(
                    Confirm(f"{what} {clean(name)}?", details, verb=command.title.lower()), submit
                )

        judge(self._screen, [command.name], [row], judged)

    def _ask_name(self, name: str, fit: list[Verdict]) -> None:
        from widgets.prompt import Prompt

        snapshot = name == "snapshot.create"
        value = time.strftime("snap-%Y%m%d-%H%M%S") if snapshot else fit[0].row.guest.name
        who = fit[0].row.name if len(fit) == 1 or not snapshot else f"{len(fit)} guests"
        label = f"Name of the new snapshot of {who}:" if snapshot else f"New name of {who}:"

        def done(text: str | None) -> None:
            if text:
                self._submit(fit if snapshot else fit[:1], name=text.strip())

        self._screen.app.push_screen(
            Prompt(label, value, check=lambda text: "" if text.strip() else "a name is needed"), done
        )

    def _ask_new_name(self, name: str, verdict: Verdict) -> None:
        """Ask how what is made of a guest is to be called; of several guests only the first is taken."""
        from widgets.prompt import Prompt

        what, value, hint = _NAMED[name]
        guest = verdict.row.guest

        def done(text: str | None) -> None:
            if text is not None:
                self._submit([verdict], name=text.strip() or ("" if name == "guest.commit" else None))

        label = f"Name of the {what} of {verdict.row.name}:"
        self._screen.app.push_screen(Prompt(label, value.format(guest.name), hint=hint), done)

    def _pick_network(self, name: str, fit: list[Verdict]) -> None:
        """Choose the network that guests are put on or taken off."""
        backend = self._screen.roster.backend(fit[0].row.ref)
        if backend is None or not isinstance(backend, Networks):
            return
        row, networks = fit[0].row, backend.networks

        def reply(answer: Answer[list[str]]) -> None:
            if answer.error is not None:
                self._screen.say(answer.error.message, "bad")
            elif not answer.value:
                self._screen.say(f"{title_of(name)}: there is no such network for {row.name}", "warn")
            else:
                self._show_networks(name, fit, answer.value)

        def question() -> list[str]:
            names = [each.name for each in networks() if each.driver not in ("host", "none")]
            is_joining = name == "network.connect"
            return [each for each in names if (each in row.guest.networks) != is_joining]

        self._screen.innkeeper.asker.ask(f"networks {row.ref.backend}", "pick", question, reply)

    def _show_networks(self, name: str, fit: list[Verdict], networks: list[str]) -> None:
        from app.tui.screens.pick import Pick

        def picked(index: int | None) -> None:
            if index is None:
                return
            network = networks[index]
            joins = name == "network.connect"
            self._submit(fit, **({"how": Attachment(network)} if joins else {"network": network}))

        who = fit[0].row.name if len(fit) == 1 else f"{len(fit)} guests"
        title = f"Connect {who} to" if name == "network.connect" else f"Disconnect {who} from"
        self._screen.app.push_screen(Pick(title, [line(each) for each in networks]), picked)

    def _ask_arguments(self, name: str, fit: list[Verdict], known: dict[str, object]) -> None:
        """Ask for what the command needs, one after the other, and do it."""
        from widgets.prompt import Prompt

        wanted = next((each for each in COMMANDS[name].arguments if each.required and each.name not in known), None)
        if wanted is None:
            self._submit(fit, **known)
            return
        who = fit[0].row.name if len(fit) == 1 else f"{len(fit)} guests"

        def complaint(text: str) -> str:
            try:
                wanted.type(text.strip())
            except InnkeeperError as error:
                return error.message
            return "" if text.strip() else "something is needed"

        def done(text: str | None) -> None:
            if text:
                self._ask_arguments(name, fit, known | {wanted.name: wanted.type(text.strip())})

        label = f"{COMMANDS[name].title}, {who}: {wanted.help[:1].lower()}{wanted.help[1:].rstrip('.')}:"
        self._screen.app.push_screen(Prompt(label, "", check=complaint), done)

    def _open_terminal(self, name: str, row: GuestRow) -> None:
        from app.tui.attached import open_attached
        from app.tui.passthrough import open_console, open_shell

        backend = self._screen.roster.backend(row.ref)
        if backend is None:
            return
        what = f"{OPENERS[name][1]} of {row.name}" if name != "shell" else f"shell in {row.name}"
        self._screen.say(f"opening the {what} {GLYPHS.ellipsis}")
        opener = {"shell": open_shell, "console": open_console, "attach": open_attached}[name]
        app = self._screen.innkeeper

        def reply(answer: Answer[object]) -> None:
            if answer.error is not None:
                self._screen.say(f"{what}: {answer.error.message}", "bad")
            else:
                app.pass_through(answer.value, what, self._screen)

        size = (app.size.height, app.size.width)
        app.asker.ask(f"open {backend.name}", name, lambda: opener(backend, row.ref, size), reply)

    # ---- telling

    def tell_ended(self, event: OperationEnded) -> None:
        """Say in one line how an operation ended."""
        operation = next((each for each in self._screen.station.operations() if each.id == event.operation_id), None)
        title = clean(operation.title) if operation is not None else title_of(event.command)
        if event.error is not None:
            hint = f" ({event.error.hint})" if event.error.hint else ""
            self._screen.say(f"{title}: {event.error.message}{hint}", "bad")
        elif operation is not None and operation.ended_s is not None:
            self._screen.say(f"{title}: done in {operation.ended_s - operation.started_s:.1f} s", "good")
