"""What every verb is given: the settings, the two writers, and the way to the guests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from app.cli.diagnostics import FAILED, Talk, error_line
from app.cli.output import Output
from backends.errors import InnkeeperError, Unsupported

if TYPE_CHECKING:
    from app.core.settings import Settings
    from app.core.workstation import Workstation
    from backends.base import Backend
    from backends.model import Guest

_TRIED = {
    "attach": "attach to",
    "console": "open the console of",
    "exec": "run a program in",
    "logs": "read the log of",
    "processes": "list the processes of",
}
"""What a verb tries, where its name alone makes no sentence."""


@dataclass(slots=True)
class Context:
    """One run of `inn`."""

    settings: Settings
    out: Output = field(default_factory=Output)
    talk: Talk = field(default_factory=Talk)

    @contextmanager
    def workstation(self, *, sampling: bool = False, interval_s: float | None = None) -> Iterator[Workstation]:
        """Open the backends and read the lists of guests."""
        from app.core.workstation import Workstation

        settings = self.settings if interval_s is None else replace(self.settings, interval_s=interval_s)
        with Workstation(settings, sampling=sampling) as station:
            station.refresh()
            yield station

    @contextmanager
    def workstation_for(self, names: Iterable[str], *, sampling: bool = False) -> Iterator[Workstation]:
        """Open only the backends that these guests can be of: `native/web` needs no libvirt."""
        given = {name.partition("/")[0] if "/" in name else "" for name in names}
        kept = tuple(name for name in self.settings.backends if name in given)
        narrowed = bool(given) and len(kept) == len(given)
        context = replace(self, settings=replace(self.settings, backends=kept)) if narrowed else self
        with context.workstation(sampling=sampling) as station:
            yield station

    @contextmanager
    def workstation_with(self, capability: type, what: str) -> Iterator[tuple[Workstation, Backend]]:
        """Open the first backend that has the capability, and no other. Raises what stood in the way."""
        from app.core.workstation import Workstation

        first: InnkeeperError | None = None
        for name in self.settings.backends:
            with Workstation(replace(self.settings, backends=(name,)), sampling=False) as station:
                try:
                    backend = station.backend(name)
                except InnkeeperError as error:
                    first = first or error
                    continue
                if isinstance(backend, capability):
                    yield station, backend
                    return
        hint = f"in use: {_list(self.settings.backends)}"
        raise first or Unsupported(f"cannot {what}: no backend in use can", hint=hint)

    def note_simulated(self, station: Workstation) -> None:
        """Say so if some of the guests are made up."""
        for status in station.statuses():
            if status.is_simulated:
                self.talk.note(f"{status.title}: none of them is real")

    def note_missing(self, station: Workstation) -> int:
        """Say which backends are not shown; return 0, or the exit code if none could be reached."""
        statuses = station.statuses()
        missing = [status for status in statuses if status.age_s is None or status.state not in ("up", "late")]
        for status in missing:
            reason = error_line(status.error) if status.error is not None else "it did not answer in time"
            self.talk.note(f"{status.title} not shown: {reason}")
        return FAILED if missing and len(missing) == len(statuses) else 0


def capability_of(backend: Backend, capability: type, guest: Guest, verb: str) -> None:
    """Raise Unsupported unless the backend has the capability and this guest allows the verb."""
    reason = backend.why_not(verb, guest)
    if reason is None and not isinstance(backend, capability):
        reason = f"{backend.title} has no such thing"
    if reason is not None:
        raise Unsupported(f"cannot {_TRIED.get(verb, verb)} {guest.name}: {reason}")


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
