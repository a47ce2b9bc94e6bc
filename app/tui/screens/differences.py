"""What a guest has changed since a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen

from app.tui.asker import Answer
from backends.assets import SnapshotComparing
from backends.image import FileChange
from backends.model import GuestRef
from widgets.change_lines import change_lines
from widgets.line import line
from widgets.line_view import LineView
from widgets.text import clean

if TYPE_CHECKING:
    from app.tui.application import InnkeeperApp


class Differences(ModalScreen[None]):
    """Asks once, off the event loop."""

    DEFAULT_CSS = """
    Differences { align: center middle; }
    Differences LineView { width: 110; max-width: 100%; height: 100%; border: round $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss(None)", "back", show=False, id="differences.back"),
    ]

    def __init__(self, backend: SnapshotComparing, ref: GuestRef, name: str) -> None:
        super().__init__()
        self._backend, self._ref, self._snapshot = backend, ref, name

    def compose(self) -> ComposeResult:
        view = LineView()
        view.border_title = Content(f"Changed since {clean(self._snapshot)} (Esc goes back)")
        view.empty_text = "comparing"
        yield view

    def on_mount(self) -> None:
        backend, ref, name = self._backend, self._ref, self._snapshot

        def reply(answer: Answer[Sequence[FileChange]]) -> None:
            for view in self.query(LineView):
                if answer.error is not None:
                    view.show([line((f" {answer.error.message}", "warn"))])
                else:
                    view.show(change_lines(answer.value))

        app = cast("InnkeeperApp", self.app)
        app.asker.ask(f"differences {ref.backend}", "differences", lambda: backend.snapshot_diff(ref, name), reply)
