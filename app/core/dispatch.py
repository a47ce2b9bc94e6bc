"""Turns commands into operations and runs them, each backend's on threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from app.core.bus import Bus
from app.core.command import Command
from app.core.commands import COMMANDS
from app.core.executor import Executor
from app.core.fleet import Fleet
from app.core.operations import Operation, OperationLog
from app.core.undo import LimitChange, UndoStack, change_between
from app.core.watching import OperationWatcher
from backends.base import Backend
from backends.capabilities import Limiting
from backends.errors import (
    BackendUnavailable,
    InnkeeperError,
    NotFound,
    Unsupported,
    UsageError,
    WrongState,
    os_error_text,
)
from backends.events import OperationEnded, OperationStarted, StepDone
from backends.model import GuestRef, Limits
from backends.trace import Recorder, StepRecord

Opened = Callable[[str], Backend]
"""Returns an open backend, waiting for it if need be; raises BackendUnavailable."""

Done = Callable[[Operation], None]
"""Called on the operation's thread when it did its work, before its end is told."""


class Dispatcher:
    """Owns the operations, their threads and the undo stack."""

    def __init__(self, *, log: OperationLog, bus: Bus, fleet: Fleet, opened: Opened, done: Done) -> None:
        self._log, self._bus, self._fleet, self._opened, self._done = log, bus, fleet, opened, done
        self._lock = threading.Lock()
        self._executors: dict[str, Executor] = {}
        self._undo = UndoStack()
        self._is_stopping = False

    def submit(
        self,
        name: str,
        ref: GuestRef | None,
        backend: str,
        max_parallel: int,
        arguments: dict[str, object],
        group: object = None,
    ) -> Operation:
        """Begin a command and return at once. Raises UsageError for an unknown one."""
        command = COMMANDS.get(name)
        if command is None:
            raise UsageError(f"there is no command {name!r}")
        operation = self._log.begin(name, self._title(command, ref, arguments), ref, backend)
        work = partial(self._perform, command, operation, arguments, group)
        self._enqueue(operation, max_parallel, work)
        return operation

    def submit_again(self, name: str, ref: GuestRef | None, max_parallel: Callable[[str], int]) -> Operation:
        """Begin limit.undo or limit.redo: of the last change with all its group, or the last one of a guest.

        Returns the operation on the guest that was changed last.
        """
        command, is_undo = COMMANDS[name], name == "limit.undo"
        changes = self._undo.take_undo(ref) if is_undo else self._undo.take_redo(ref)
        if not changes:
            operation = self._log.begin(name, self._title(command, ref, {}), ref, ref.backend if ref else "")
            nothing = WrongState(f"{operation.title}: no change of a limit is left to {command.verb}")
            self._finish(operation, None, nothing)
            return operation
        begun = [self._begin_again(command, change, is_undo, max_parallel) for change in changes]
        return begun[0]

    def _begin_again(
        self, command: Command, change: LimitChange, is_undo: bool, max_parallel: Callable[[str], int]
    ) -> Operation:
        ref = change.ref
        operation = self._log.begin(command.name, self._title(command, ref, {}), ref, ref.backend)
        self._enqueue(
            operation, max_parallel(ref.backend), partial(self._set_back, command, operation, change, is_undo)
        )
        return operation

    def stop(self) -> None:
        """Abandon what has not begun, and ask what takes long to give up; does not wait."""
        for operation in self._log.running():
            operation.cancel()
        with self._lock:
            self._is_stopping = True
            executors = list(self._executors.values())
        for executor in executors:
            executor.stop()

    def threads(self) -> list[threading.Thread]:
        """Return all threads that were started."""
        with self._lock:
            return [thread for executor in self._executors.values() for thread in executor.threads]

    def _enqueue(self, operation: Operation, max_parallel: int, work: Callable[[Recorder], object]) -> None:
        # A pull takes minutes: what is done to guests must not wait for a thread behind it.
        kind = "operation" if operation.ref is not None else "errand"
        key = f"{operation.backend} {kind}"
        with self._lock:
            executor = self._executors.get(key)
            if executor is None:
                executor = Executor(f"innkeeper {key}", max_parallel)
                self._executors[key] = executor
                if self._is_stopping:
                    executor.stop()
        executor.submit(operation.ref, partial(self._run, operation, work), partial(self._abandon, operation))

    def _title(self, command: Command, ref: GuestRef | None, arguments: dict[str, object]) -> str:
        guest = self._fleet.get(ref) if ref is not None else None
        words = [command.verb]
        if ref is not None:
            words.append(self._fleet.display_name(guest) if guest is not None else ref.id)
        words += [str(arguments[key]) for key in ("template", "name") if arguments.get(key)]
        spec = arguments.get("spec")  # of a container, a network or a build
        words += [str(name) for name in getattr(spec, "names", None) or [getattr(spec, "name", None)] if name]
        return " ".join(words)

    # On the operation's thread.

    def _run(self, operation: Operation, work: Callable[[Recorder], object]) -> None:
        operation.has_begun = True
        self._bus.publish(OperationStarted(operation.id, operation.command, operation.ref))
        recorder = Recorder("client", partial(self._step, operation), OperationWatcher(operation, self._bus))
        operation.records = recorder.records
        result, error = None, None
        try:
            recorder.check()
            result = work(recorder)
        except InnkeeperError as caught:
            error = caught
        except OSError as caught:  # what the backend should have translated: a full disk, a folder nobody may write to
            self._bus.fault(operation.title)
            error = InnkeeperError(f"cannot {operation.title}: {os_error_text(caught)}")
            error.__cause__ = caught
        except ModuleNotFoundError as caught:
            self._bus.fault(operation.title)
            what = f"cannot {operation.title}: the Python package {caught.name} is not installed"
            error = InnkeeperError(what, hint=f"pip install {caught.name}")
            error.__cause__ = caught
        except Exception as caught:  # the end of a thread: a fault in a backend is reported as this operation's error
            error = InnkeeperError(self._bus.fault(operation.title))
            error.__cause__ = caught
        operation.result = result
        if not isinstance(error, BackendUnavailable):
            self._done(operation)
        self._finish(operation, result, error)

    def _step(self, operation: Operation, record: StepRecord) -> None:
        self._bus.publish(StepDone(operation.id, record))

    def _perform(
        self, command: Command, operation: Operation, arguments: dict[str, object], group: object, recorder: Recorder
    ) -> object:
        command.check(arguments)
        backend = self._opened(operation.backend)
        guest = self._fleet.get(operation.ref) if operation.ref is not None else None
        why = command.why_never(backend, guest)
        if why is not None:
            raise Unsupported(f"cannot {operation.title}: {why}")
        if command.name != "guest.limit" or operation.ref is None or not isinstance(backend, Limiting):
            return command.run(backend, operation.ref, recorder, **arguments)
        before = backend.limits(operation.ref)
        after = command.run(backend, operation.ref, recorder, **arguments)
        change = change_between(operation.ref, before, after, group) if isinstance(after, Limits) else None
        if change is not None:
            self._undo.did(change)
        return after

    def _set_back(
        self, command: Command, operation: Operation, change: LimitChange, is_undo: bool, recorder: Recorder
    ) -> object:
        wanted = change.before if is_undo else change.after
        try:
            result = command.run(self._opened(operation.backend), change.ref, recorder, **wanted)
        except NotFound:  # the guest is gone, and what was done to it with it
            raise
        except BaseException:
            (self._undo.redid if is_undo else self._undo.undid)(change)  # as before: it can be tried again
            raise
        (self._undo.undid if is_undo else self._undo.redid)(change)
        return result

    def _abandon(self, operation: Operation) -> None:
        self._finish(operation, None, InnkeeperError(f"{operation.title}: not begun, Innkeeper is ending"))

    def _finish(self, operation: Operation, result: object, error: InnkeeperError | None) -> None:
        self._log.end(operation, result, error)
        self._bus.publish(OperationEnded(operation.id, operation.command, operation.ref, error, result))
