"""The Textual app: owns the screens, hears the core, and knows the ways out."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import Monochrome, NoColor
from textual.screen import Screen
from textual.timer import Timer

from app.core.workstation import Workstation
from app.tui import theme
from app.tui.asker import Asker
from app.tui.bridge import Bridge
from app.tui.diff import CellDiff
from app.tui.host import HostReader
from app.tui.leave import EXIT_CODES, leave_in_time, on_signals
from app.tui.messages import Batch, CoreChanged
from app.tui.progress import ProgressBook
from app.tui.registries import Registries
from app.tui.roster import Roster
from app.tui.terminal import TerminalDriver
from backends.events import OperationEnded
from backends.model import GuestRef
from backends.sessions import ExecSession
from widgets.glyphs import use_ascii, wants_ascii

if TYPE_CHECKING:
    from app.tui.screens.base import BaseScreen


CATCH_UP_S = 0.05
"""After this time one looks again whether the terminal has taken all frames."""


class InnkeeperApp(App[int]):
    """The screen of one Workstation. The caller opens and closes the Workstation."""

    TITLE = "Innkeeper"
    CSS = """
    Screen { overflow: hidden; }
    """
    COMMAND_PALETTE_BINDING = "ctrl+p"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("colon", "command_palette", "all commands", show=False, id="app.palette"),
        Binding("question_mark,f1", "help", "help", show=False, id="app.help"),
        Binding("q", "quit", "quit", show=False, id="app.quit"),
        Binding("ctrl+c,ctrl+q", "quit", "quit", show=False, id="app.quit_now", priority=True),
        Binding("ctrl+z", "suspend_process", "suspend", show=False, id="app.suspend"),
        Binding("ctrl+l", "redraw", "draw the screen anew", show=False, id="app.redraw", priority=True),
    ]

    def __init__(self, station: Workstation) -> None:
        use_ascii(wants_ascii())
        super().__init__(driver_class=TerminalDriver)
        for each in theme.THEMES:
            self.register_theme(each)
        self.theme = theme.choose()
        if self.no_color:
            # Textual chose before it knew the theme, and would paint shades of grey: NO_COLOR asks for none at all.
            self._filters[:] = [each for each in self._filters if not isinstance(each, Monochrome)]
            self._filters.append(NoColor())
        self.station = station
        self.roster = Roster(station)
        self.host = HostReader()
        self.progress = ProgressBook()
        self.after: dict[int, Callable[[OperationEnded], object]] = {}
        """What is to be done on the event loop when an operation has ended."""

        self.memory: dict[str, object] = {}
        """What views and forms are to look like when they come back."""

        self.registries = Registries(self)
        self.asker: Asker
        self.loop: asyncio.AbstractEventLoop
        self.context: contextvars.Context
        """In which answers from other threads run: it knows the app."""

        self._bridge: Bridge | None = None
        self._frame = CellDiff()
        self._catching_up: Timer | None = None

    def get_default_screen(self) -> Screen[Any]:
        from app.tui.screens.main import MainScreen

        return MainScreen(self.roster)

    # ---- life

    def on_load(self) -> None:
        self.loop, self.context = asyncio.get_running_loop(), contextvars.copy_context()
        self.asker = Asker(self.loop, self.context)
        self._bridge = Bridge(self.station, self.loop, self._deliver, self.host)

    def on_mount(self) -> None:
        if not self.is_headless and threading.current_thread() is threading.main_thread():
            on_signals(asyncio.get_running_loop(), self.leave)
            self.app_resume_signal.subscribe(self, lambda _: self.action_redraw())
            self.call_after_refresh(_settle_memory)

    def on_unmount(self) -> None:
        if self._bridge is not None:
            self._bridge.close()
        self.asker.close()
        self.host.close()

    def _deliver(self, batch: Batch) -> None:
        self.progress.look(self.station.running_operations())
        if not batch.is_only_progress:
            self.roster.update(batch)
        for event in batch.ended:
            then = self.after.pop(event.operation_id, None)
            if then is not None:
                self.context.run(then, event)  # it may open a dialog, which has to know the app
        # To every screen of the stack: those below a dialog stay fresh.
        for screen in self.screen_stack:
            screen.post_message(CoreChanged(batch))

    def on_key(self, event: events.Key) -> None:
        """Hand what was typed while a prompt came up to the prompt: Textual would drop it."""
        take_early = getattr(self.screen, "take_early", None)  # a Prompt's; not imported before it is needed
        if take_early is not None and take_early(event):
            event.stop()
            event.prevent_default()

    # ---- ways out

    def leave(self, code: int = 0) -> None:
        """End the program; the terminal is put back as it was."""
        leave_in_time(code)
        self.exit(code, return_code=code)

    def terminal_gone(self) -> None:
        """The terminal hung up."""
        self.leave(129)

    async def action_quit(self) -> None:
        self.exit(0)

    def action_redraw(self) -> None:
        self._frame.forget()
        if isinstance(self._driver, TerminalDriver) and not self._driver.is_behind:
            self._driver.write("\x1b[2J")
        self.screen.refresh(layout=True)

    def action_help(self) -> None:
        from app.tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        from app.tui.providers import system_commands

        yield from system_commands(self, screen)

    # ---- doing what needs the whole terminal, or a screen of its own

    def pass_through(self, session: object, title: str, screen: BaseScreen) -> None:
        """Hand the terminal to a program in a guest; comes back when it ends or the user detaches."""
        from app.tui.passthrough import flush_output, pass_through

        with self.suspend():
            flush_output()
            outcome = pass_through(cast("ExecSession", session), title)
        self._frame.forget()
        if outcome.signal is not None:
            self.leave(EXIT_CODES[signal.Signals(outcome.signal)])
        screen.say(f"{title}: {'detached' if outcome.detached else 'ended'}")

    def open_limits(self, refs: Sequence[GuestRef]) -> None:
        """Show the limits panel for these guests."""
        from app.tui.screens.limits import LimitScreen

        self.push_screen(LimitScreen(self.roster, refs))

    def show_view(self, name: str) -> None:
        """Show one of the views over the guests, in place of the one that is there."""
        from app.tui.views import open_view

        open_view(self, name)

    def open_form(self, image: str, backend: str | None = None) -> None:
        """Show the form that makes a container."""
        from app.tui.screens.create import CreateScreen

        self.push_screen(CreateScreen(self.roster, image, backend))

    # ---- drawing

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        if isinstance(self._driver, TerminalDriver) and self._driver.is_behind:
            self._catch_up_later()  # a slow line shows fewer frames, never old ones
            return
        super()._display(screen, cast("Any", self._frame.wrap(renderable, self.size)))

    def _catch_up_later(self) -> None:
        if self._catching_up is None:
            self._catching_up = self.set_timer(CATCH_UP_S, self._catch_up)

    def _catch_up(self) -> None:
        self._catching_up = None
        self.screen.refresh()  # all of it: of the frames that were left out nobody knows what was in them


def _settle_memory() -> None:
    """What lives now lives to the end: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
