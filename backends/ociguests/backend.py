"""The backend of containers that others made with `inn oci`.

It changes them only as their makers expect of somebody at a shell: signals, freezing, limits, programs inside.
"""

from __future__ import annotations

import os
import signal as signals
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from backends.base import CheckResult, Listener
from backends.container import ExecSpec
from backends.errors import (
    BackendUnavailable,
    InnkeeperError,
    TimedOut,
    Unsupported,
    UsageError,
    WrongState,
    os_error_text,
)
from backends.kernel import procfs
from backends.kernel.cgroup import Cgroup, detect
from backends.metrics import Sample
from backends.model import Guest, GuestKind, GuestProcess, GuestRef, GuestState, LimitChanges, Limits
from backends.oci import lifecycle, roots, signalling, starting
from backends.oci.errors import NotRunning
from backends.ociguests.act import Act
from backends.ociguests.roster import NAME, Entry, Roster
from backends.ociguests.sampling import Sampling
from backends.ociguests.session import ExecSession
from backends.registry import BackendConfig
from backends.trace import Recorder, StepRecord

_STOP_TIMEOUT_S = 10.0
_NET = ("net_rx_bytes_per_s", "net_tx_bytes_per_s", "net_delay_s", "net_jitter_s", "net_loss_pct")


def make(config: BackendConfig) -> OciGuests:
    """Return the backend, not opened; the option "roots" names another folder of links to --root folders."""
    options = dict(config.options)
    folder = options.pop("roots", str(config.run_dir / roots.FOLDER))
    if options:
        raise UsageError(f"the oci backend has no option {sorted(options)[0]!r}")
    return OciGuests(folder)


class OciGuests:
    """Containers of `inn oci`, of whatever --root."""

    name = NAME
    title = "containers made by inn oci"
    kinds = frozenset({GuestKind.CONTAINER})
    is_simulated = False
    max_parallel = 4

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._roster_found: Roster | None = None
        self._sampling: Sampling | None = None

    # ── connecting and looking ──────────────────────────────────────────────────────────────────────

    def open(self, listener: Listener | None = None) -> None:
        """Look for control groups. Raises BackendUnavailable without them."""
        try:
            self._roster_found = Roster(self._folder, detect())
        except Unsupported as error:
            raise BackendUnavailable(error.message, hint=error.hint) from error
        self._sampling = Sampling()

    def close(self) -> None:
        """Close what is held open; containers go on."""
        if self._sampling is not None:
            self._sampling.close()
        self._sampling = self._roster_found = None

    @property
    def _roster(self) -> Roster:
        if self._roster_found is None:
            raise BackendUnavailable("the oci backend is not open")
        return self._roster_found

    def guests(self) -> list[Guest]:
        """Return all containers."""
        return self._roster.guests()

    def sample(self) -> Mapping[GuestRef, Sample]:
        """Read the counters of those that live."""
        roster = self._roster
        return self._sampling.read(roster.live(), roster) if self._sampling is not None else {}

    def inspect(self, ref: GuestRef) -> Mapping[str, Any]:
        """Return state, limits, places and the config of a container."""
        entry = self._roster.entry(ref)
        guest, container = entry.guest, entry.container
        group = self._roster.group(entry)
        return {
            "id": container.id,
            "name": guest.name,
            "backend": NAME,
            "kind": guest.kind.value,
            "image": guest.image,
            "maker": entry.naming.maker,
            "created": guest.created_s,
            "labels": dict(guest.labels),
            "state": {
                "status": guest.state.value,
                "pid": guest.pid,
                "exit_code": None,
                "oom_kills": guest.oom_kills,
                "started": guest.started_s,
                "note": guest.note,
            },
            "limits": {name: value for name, value in asdict(self.limits(ref)).items() if value not in (None, ())},
            "cgroup": {"path": group.path, "folders": sorted(group.directories.values())}
            if group is not None
            else None,
            "folders": {
                "bundle": container.state["bundle"],
                "root": container.state["rootfs"],
                "state": container.folder,
            },
            "config": entry.config,
        }

    def trace(self, ref: GuestRef) -> Sequence[StepRecord]:
        """Return nothing: who made it did not keep the steps."""
        self._roster.entry(ref)
        return ()

    def why_not(self, verb: str, guest: Guest) -> str | None:
        """Say what only the maker of a container can do."""
        if verb in ("restart", "remove", "rename"):
            return "that is for who made it (docker, podman …)"
        if verb == "console":
            return "a container has no serial console; use exec"
        return None

    def check(self) -> Sequence[CheckResult]:
        """Say where containers of others are looked for."""
        found = roots.known(self._folder)
        return [CheckResult("oci", "containers of inn oci", None, ", ".join(found) or "none made yet")]

    # ── verbs ───────────────────────────────────────────────────────────────────────────────────────

    def start(self, ref: GuestRef, recorder: Recorder) -> None:
        """Start one that is created."""
        entry = self._roster.entry(ref)

        def do() -> None:
            with entry.container as container:
                starting.start(container)

        self._do(entry, recorder, "start", "start", do)

    def stop(self, ref: GuestRef, recorder: Recorder, *, timeout_s: float | None = None) -> None:
        """Send SIGTERM, and SIGKILL after the timeout."""
        entry = self._live(ref, "stop")
        wait_s = _STOP_TIMEOUT_S if timeout_s is None else timeout_s

        def do() -> None:
            pidfd = signalling.open_process(entry.container.pid, entry.container.state.get("start_ticks"))
            try:
                lifecycle.kill(entry.container, signalling.SIGTERM)
                if not signalling.has_ended_within(pidfd, wait_s):
                    lifecycle.end(entry.container)
            except NotRunning:
                return
            finally:
                os.close(pidfd)

        self._do(entry, recorder, "signal", "kill", do, "TERM")

    def kill(self, ref: GuestRef, recorder: Recorder, *, signal: int = 9) -> None:
        """Send a signal to the first process."""
        entry = self._live(ref, "send a signal to")
        self._do(entry, recorder, "signal", "kill", lambda: lifecycle.kill(entry.container, signal),
                 signals.Signals(signal).name if signal in signals.valid_signals() else str(signal))  # fmt: skip

    def restart(self, ref: GuestRef, recorder: Recorder, *, timeout_s: float | None = None) -> None:
        """Refuse: an OCI container starts once. Raises Unsupported."""
        entry = self._roster.entry(ref)
        raise Unsupported(f"cannot restart {entry.guest.name}: that is for who made it (docker, podman …)")

    def pause(self, ref: GuestRef, recorder: Recorder) -> None:
        """Freeze it."""
        entry = self._in_state(ref, GuestState.RUNNING, "pause")
        self._do(entry, recorder, "freeze", "pause", lambda: lifecycle.pause(entry.container))

    def resume(self, ref: GuestRef, recorder: Recorder) -> None:
        """Thaw it."""
        entry = self._in_state(ref, GuestState.PAUSED, "resume")
        self._do(entry, recorder, "freeze", "resume", lambda: lifecycle.resume(entry.container))

    def wait(self, ref: GuestRef, *, timeout_s: float | None = None) -> int | None:
        """Block until it has ended; its exit code is its parent's to know. Raises TimedOut."""
        container = self._roster.entry(ref).container
        try:
            pidfd = signalling.open_process(container.pid, container.state.get("start_ticks"))
        except NotRunning:
            return None
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while not signalling.has_ended_within(pidfd, 0.5):
                if deadline is not None and time.monotonic() > deadline:
                    raise TimedOut(f"container {container.id} did not end within {timeout_s:g} s")
        finally:
            os.close(pidfd)
        return None

    def processes(self, ref: GuestRef) -> Sequence[GuestProcess]:
        """Return its processes as the host sees them."""
        entry = self._live(ref, "list processes of")
        group = self._roster.group(entry)
        return procfs.guest_processes(group.procs() if group is not None else [entry.container.pid])

    def exec(self, ref: GuestRef, spec: ExecSpec, stdio: tuple[int, int, int] | None = None) -> ExecSession:
        """Run a program in it."""
        if not spec.args:
            raise UsageError("there is no program to run")
        return ExecSession(self._in_state(ref, GuestState.RUNNING, "run a program in").container, spec, stdio)

    # ── limits ──────────────────────────────────────────────────────────────────────────────────────

    def limits(self, ref: GuestRef) -> Limits:
        """Return the limits in force."""
        group = self._roster.group(self._roster.entry(ref))
        return group.limits() if group is not None and group.exists() else Limits()

    def set_limits(self, ref: GuestRef, changes: LimitChanges, recorder: Recorder) -> Limits:
        """Change limits while it lives: all or nothing."""
        group = self._own_group(self._live(ref, "limit"))
        current = group.limits()
        done = []
        try:
            for step in group.limit_steps(current.with_changes(changes), current):
                recorder.run(step)
                done.append(step)
        except (InnkeeperError, OSError) as error:
            for step in reversed(done):
                step.undo()
            if isinstance(error, OSError):
                raise InnkeeperError(f"cannot limit it: {os_error_text(error)}") from error
            raise
        return group.limits()

    def limit_fields(self, guest: Guest) -> Mapping[str, str]:
        """Map each limit to "" or why it cannot be set."""
        reasons = detect().reasons()
        no_network = "the network of such a container is its maker's"
        return {name: no_network if name in _NET else reasons.get(name, "") for name in Limits.__dataclass_fields__}

    def limit_warnings(self, guest: Guest, changes: LimitChanges, last: Sample | None) -> Sequence[str]:
        """Say what would hurt now."""
        memory = changes.get("memory_bytes")
        used = last.memory_bytes if last is not None else None
        if memory is None or used is None or memory >= used:
            return []
        return [f"{guest.name} uses {used / 2**20:.1f} MiB, more than {memory / 2**20:.1f} MiB"]

    def _own_group(self, entry: Entry) -> Cgroup:
        group = self._roster.group(entry)
        if group is None:
            raise Unsupported(f"{entry.guest.name} has no control group of its own")
        return group

    # ── for the verbs ───────────────────────────────────────────────────────────────────────────────

    def _live(self, ref: GuestRef, what: str) -> Entry:
        entry = self._roster.entry(ref)
        if not entry.guest.state.is_live:
            raise WrongState(f"cannot {what} {entry.guest.name}: it is {entry.guest.state.value}")
        return entry

    def _in_state(self, ref: GuestRef, state: GuestState, what: str) -> Entry:
        entry = self._roster.entry(ref)
        if entry.guest.state != state:
            raise WrongState(f"cannot {what} {entry.guest.name}: it is {entry.guest.state.value}, not {state.value}")
        return entry

    def _do(self, entry: Entry, recorder: Recorder, kind: str, verb: str, do: Callable[[], object], *more: str) -> None:
        container = entry.container
        by_hand = " ".join(["inn oci --root", container.root, verb, container.id, *more])
        try:
            recorder.run(Act(kind, f"{verb} {entry.guest.name}", by_hand, do))
        except OSError as error:
            raise InnkeeperError(f"cannot {verb} {entry.guest.name}: {os_error_text(error)}") from error
