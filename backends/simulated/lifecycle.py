"""Starting, stopping, pausing, renaming and removing simulated guests."""

from __future__ import annotations

from functools import partial

from backends.container import RestartPolicy
from backends.errors import TimedOut, WrongState
from backends.model import GuestRef, GuestState
from backends.simulated.core import SimulatedCore
from backends.simulated.machine import Machine
from backends.trace import Recorder

ENDING_SIGNALS = frozenset({1, 2, 3, 6, 9, 13, 14, 15})
STARTABLE = frozenset({GuestState.CREATED, GuestState.STOPPED})


class LifecycleVerbs(SimulatedCore):
    """Lifecycle, Pausing, Waiting, Restarting, Renaming, Removing."""

    def start(self, ref: GuestRef, recorder: Recorder) -> None:
        """Let a guest run."""
        with self._verb("start", ref, STARTABLE) as machine:
            self._do(machine, recorder, "start", f"start {machine.name}", partial(self._world.start, machine))

    def stop(self, ref: GuestRef, recorder: Recorder, *, timeout_s: float | None = None) -> None:
        """End a guest; simulated ones always obey."""
        with self._verb("stop", ref) as machine:
            _must_be_live(machine, "stop")
            self._do(machine, recorder, "stop", f"stop {machine.name}", partial(self._end, machine, 0))

    def kill(self, ref: GuestRef, recorder: Recorder, *, signal: int = 9) -> None:
        """Send a signal; the usual ones end it."""
        with self._verb("kill", ref) as machine:
            _must_be_live(machine, "kill")
            text = f"send signal {signal} to {machine.name}"
            self._do(machine, recorder, "kill", text, partial(self._kill, machine, signal))

    def restart(self, ref: GuestRef, recorder: Recorder, *, timeout_s: float | None = None) -> None:
        """End a guest if it is live, and let it run again."""
        with self._verb("restart", ref) as machine:
            if machine.state.is_live:
                self._do(machine, recorder, "stop", f"stop {machine.name}", partial(self._end, machine, 0))
            self._do(machine, recorder, "start", f"start {machine.name}", partial(self._world.start, machine))

    def pause(self, ref: GuestRef, recorder: Recorder) -> None:
        """Freeze a guest."""
        with self._verb("pause", ref, frozenset({GuestState.RUNNING})) as machine:
            self._do(machine, recorder, "pause", f"freeze {machine.name}", machine.pause)

    def resume(self, ref: GuestRef, recorder: Recorder) -> None:
        """Thaw a guest."""
        with self._verb("resume", ref, frozenset({GuestState.PAUSED})) as machine:
            thaw = partial(machine.resume, self._world.now())
            self._do(machine, recorder, "resume", f"thaw {machine.name}", thaw)

    def wait(self, ref: GuestRef, *, timeout_s: float | None = None) -> int | None:
        """Block until a guest is not live."""
        with self._call("wait"):
            machine = self._world.get(ref)
            if not self._world.changed.wait_for(lambda: not machine.state.is_live, timeout_s):
                raise TimedOut(f"{machine.name} is still {machine.state} after {timeout_s:g} s")
            return machine.exit_code

    # Restarting, Renaming, Removing

    def set_restart_policy(self, ref: GuestRef, policy: RestartPolicy, recorder: Recorder) -> None:
        """Keep when it is started again; simulated guests never end by themselves."""
        with self._verb("set_restart_policy", ref) as machine:
            set_policy = partial(_set_policy, machine, RestartPolicy.parse(str(policy)))
            self._do(machine, recorder, "restart", f"restart {machine.name}: {policy}", set_policy)

    def rename(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Give a guest another name."""
        with self._verb("rename", ref) as machine:
            self._world.check_name(name, of=machine)
            self._do(machine, recorder, "rename", f"rename {machine.name} to {name}", partial(_set_name, machine, name))

    def remove(self, ref: GuestRef, recorder: Recorder, *, force: bool = False) -> None:
        """Remove a guest; a live one only with force."""
        with self._verb("remove", ref) as machine:
            if machine.state.is_live and not force:
                raise WrongState(f"cannot remove {machine.name}: it is {machine.state}", hint="stop it first, or force")
            if machine.state.is_live:
                self._do(machine, recorder, "kill", f"end {machine.name}", partial(self._end, machine, 137))
            self._do(machine, recorder, "remove", f"remove {machine.name}", partial(self._world.remove, machine))

    def _end(self, machine: Machine, exit_code: int, note: str = "") -> None:
        machine.end(self._world.now(), exit_code, note)

    def _kill(self, machine: Machine, signal: int) -> None:
        if signal in ENDING_SIGNALS:
            self._end(machine, 128 + signal, f"killed by signal {signal}")


def _must_be_live(machine: Machine, verb: str) -> None:
    if not machine.state.is_live:
        raise WrongState(f"cannot {verb} {machine.name}: it is {machine.state}")


def _set_policy(machine: Machine, policy: RestartPolicy) -> None:
    machine.restart_policy = policy


def _set_name(machine: Machine, name: str) -> None:
    machine.name = name
