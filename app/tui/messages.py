"""What other threads tell the screen."""

from __future__ import annotations

from dataclasses import dataclass, field

from textual.message import Message

from backends.events import OperationEnded, StepDone


@dataclass(slots=True)
class Batch:
    """All that happened since the screen last looked; of what replaces itself only the newest."""

    sampled: set[str] = field(default_factory=set)
    """Backends with a new pass of figures."""

    fleet: bool = False
    """Guests came, went or changed."""

    backends: bool = False
    """A backend was lost or came back."""

    operations: bool = False
    """An operation began or ended."""

    moving: set[int] = field(default_factory=set)
    """Operations that are further than they were, or printed something."""

    ended: list[OperationEnded] = field(default_factory=list)
    steps: list[StepDone] = field(default_factory=list)

    @property
    def is_only_progress(self) -> bool:
        """True if nothing happened but that operations are further."""
        others = self.sampled or self.fleet or self.backends or self.operations or self.ended or self.steps
        return bool(self.moving) and not others


class CoreChanged(Message):
    """The core has news."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.batch = batch
