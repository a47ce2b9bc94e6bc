"""What `create` and `run` have in common: from options to a container, its pid file and its sockets."""

from __future__ import annotations

import os
from contextlib import suppress

from backends.kernel import seccomp
from backends.oci import foreground, lifecycle, listeners, starting, terminal
from backends.oci.cli.command import Command
from backends.oci.creating import Bundle, Creation
from backends.oci.errors import OciError
from backends.oci.foreground import Foreground, Signals
from backends.oci.handing import send_pidfd, write_pid_file
from backends.oci.state import Container
from backends.trace import Recorder, StepRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from backends.oci.create import Created
    from backends.oci.readiness import Readiness


class Making:
    """One `create` or `run`."""

    kind = Creation

    def __init__(self, command: Command, *, detach: bool) -> None:
        self._command = command
        self._detach = detach
        self._pid_file = os.path.abspath(command.text("pid-file")) if command.text("pid-file") else ""
        self._bundle = Bundle(command.text("bundle"), command.text("config"))
        keep_descriptors(command)  # not before: what is read may be one of them (/dev/fd/63)
        check_terminal(self._bundle.has_terminal, detach, command.text("console-socket"))
        for warning in self._bundle.warnings:
            command.log.warning(warning)
        if command.log.is_debug and self._bundle.config["linux"].get("seccomp"):
            flags = seccomp.load_step(self._bundle.config["linux"]["seccomp"]).flags
            command.log.debug(f"seccomp filter flags: {flags}")  # as runc, whose callers look for it

    def create(self) -> None:
        """Make the container; it waits for its start."""
        container, _ = self._create()
        container.unlock()

    def run(self) -> int:
        """Make and start it; in the foreground until it ends, and then it is deleted."""
        if self._detach:
            container, _ = self._create()
            self._start(container)
            container.unlock()
            return 0
        signals = Signals()
        if not self._command.flag("no-subreaper"):
            foreground.stay_parent()
        container, created = self._create()
        ready = self._start(container)
        container.unlock()
        code = Foreground(created.pid, created.pidfd, signals, created.terminal_fd, ready).run()
        if not self._command.flag("keep"):
            with container.lock():
                lifecycle.destroy(container, kill_all=True, warn=self._command.log.warning)
        return code

    def _create(self) -> tuple[Container, Created]:
        container, created = self._creation().run(recorder_of(self._command))
        try:
            send_pidfd(self._command.text("pidfd-socket"), created.pidfd)
            write_pid_file(self._pid_file, created.pid)
        except BaseException:
            self._give_up(container)
            raise
        return container, created

    def _creation(self) -> Creation:
        command = self._command
        has_socket = self._bundle.has_terminal and self._detach
        console = terminal.connect(command.text("console-socket")) if has_socket else None
        return self.kind(
            command.root,
            command.id,
            self._bundle,
            cgroup_manager=command.cgroup_manager,
            console=console,
            size=None if self._detach else foreground.terminal_size(),
            preserve_fds=command.options.get("preserve-fds", 0),
            no_pivot=command.flag("no-pivot"),
            no_new_keyring=command.flag("no-new-keyring"),
            is_traced=command.log.is_debug,
        )

    def _start(self, container: Container) -> Readiness | None:
        try:
            return starting.start(container, waits_for_readiness=self._detach)
        except BaseException:
            self._give_up(container)
            raise

    def _give_up(self, container: Container) -> None:
        """Leave nothing of a container that did not come up."""
        with suppress(OciError):
            lifecycle.end(container)
            lifecycle.destroy(container, kill_all=True, warn=self._command.log.warning)
        container.unlock()


def keep_descriptors(command: Command) -> None:
    """Close what the caller left open: a first process that waits at its gate must not have it (CVE-2024-21626)."""
    command.log.close_others(3 + listeners.number() + command.options.get("preserve-fds", 0))


def recorder_of(command: Command) -> Recorder:
    """Return a recorder that logs each step, with --debug."""

    def say(record: StepRecord) -> None:
        said = f": {record.error}" if record.error else f" ({record.duration_s * 1000:.1f} ms)"
        command.log.debug(f"{record.process}: {record.text}{said}")

    return Recorder("runtime", say if command.log.is_debug else None)


def check_terminal(has_terminal: bool, detach: bool, console_socket: str) -> None:
    """Raise OciError where terminal, --detach and --console-socket do not go together."""
    if detach and has_terminal and not console_socket:
        raise OciError("cannot allocate tty if runc will detach without setting console socket")
    if (not detach or not has_terminal) and console_socket:
        raise OciError("cannot use console socket if runc will not detach or allocate tty")
