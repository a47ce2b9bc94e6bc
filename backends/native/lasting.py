"""What keeps containers over time: restart policies, the start and end of the host, and the story of what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, replace

from backends.container import RestartPolicy
from backends.errors import InnkeeperError, WrongState
from backends.events import GuestEvent
from backends.model import Guest, GuestRef, GuestState
from backends.native.core import KEPT, NAME
from backends.native.living import Living
from backends.native.networks import sharing
from backends.native.restart import HOST, is_wanted_at_boot
from backends.trace import Recorder

_AT_ONCE = 16
_ORDER_LABEL = "innkeeper.boot.order"


class Lasting(Living):
    """Restarting, Booting and Telling."""

    def set_restart_policy(self, ref: GuestRef, policy: RestartPolicy, recorder: Recorder) -> None:
        """Change when it is started again; one that waits for a start that the new policy does not want ends."""
        RestartPolicy.parse(str(policy))
        with self._store.locked(ref.id):
            record = self._store.record(ref.id)
            self._store.write_record(replace(record, restart=asdict(policy)))
        self._journal.write(ref.id, record.name, "update", restart=policy)
        if self._guest(ref).state in KEPT:
            try:
                self._supervisor(ref).ask({"op": "policy"})
            except WrongState:  # it has just ended
                return

    def held(self, ref: GuestRef) -> AbstractContextManager[None]:
        """Keep one that is removed at its end until the body has looked at what it left."""
        return self._store.held(ref.id)

    def boot_plan(self) -> Sequence[Guest]:
        """Return the containers that are to be started when the host comes up, in order."""
        wanted = [guest for guest in self._roster.guests() if self._is_wanted_at_boot(guest)]
        return sorted(wanted, key=lambda guest: (_order(guest), self._waits(guest), guest.created_s or 0.0, guest.name))

    def _waits(self, guest: Guest) -> bool:
        """Say whether its network is another container's, which has to be up first."""
        return bool(sharing.owner_of(self._store.record(guest.ref.id)))

    def boot(self, recorder: Recorder) -> Sequence[tuple[Guest, InnkeeperError | None]]:
        """Start them, one after the other; return each with what stood in the way."""
        done: list[tuple[Guest, InnkeeperError | None]] = []
        for guest in self.boot_plan():
            try:
                self.start(guest.ref, recorder)
                done.append((guest, None))
            except InnkeeperError as error:
                done.append((guest, error))
        return done

    def halt(self, recorder: Recorder) -> Sequence[tuple[Guest, InnkeeperError | None]]:
        """Stop all that live so that the next boot starts them again; return each as boot does.

        Those of one order are stopped at once, since each may take its time.
        """
        live = [guest for guest in self._roster.guests() if guest.state in KEPT]
        done: list[tuple[Guest, InnkeeperError | None]] = []
        for order in sorted({_order(guest) for guest in live}, reverse=True):
            with ThreadPoolExecutor(_AT_ONCE, "halt") as pool:
                members = [guest for guest in live if _order(guest) == order]
                done += pool.map(lambda guest: (guest, self._halt_one(guest, recorder)), members)
        return done

    def _halt_one(self, guest: Guest, recorder: Recorder) -> InnkeeperError | None:
        try:
            self._stop(guest.ref, recorder, None, HOST)
        except InnkeeperError as error:
            return error
        return None

    def _is_wanted_at_boot(self, guest: Guest) -> bool:
        if guest.state not in (GuestState.CREATED, GuestState.STOPPED):
            return False
        status = self._store.status(guest.ref.id)
        if not status.started_s:
            return False  # it never ran: nobody asked for it yet
        kept = GuestState(status.state)
        was_live = kept.is_live or kept is GuestState.RESTARTING
        policy = self._store.record(guest.ref.id).restart_policy
        return is_wanted_at_boot(policy, was_live=was_live, ended_by=status.ended_by)

    def events(
        self,
        *,
        since_s: float | None = None,
        follow: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[GuestEvent]:
        """Yield what happened to containers, whoever did it."""
        for told in self._journal.read(follow=follow, stop=stop, since_s=since_s):
            attributes = told.get("attributes")
            yield GuestEvent(
                time_s=told["time"],
                ref=GuestRef(NAME, str(told.get("id", ""))),
                name=str(told.get("name", "")),
                action=str(told.get("action", "")),
                attributes=attributes if isinstance(attributes, dict) else {},
            )


def _order(guest: Guest) -> int:
    """Return the number in its label, 0 by default; lower ones are started first."""
    text = guest.labels.get(_ORDER_LABEL, "0")
    try:
        return int(text)
    except ValueError:
        return 0
