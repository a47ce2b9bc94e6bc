"""One start of one container: its descriptors, the OCI runtime's work in a maker, and how it went."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from backends.errors import InnkeeperError, StartFailed
from backends.kernel.cgroup import CgroupHost
from backends.native import drivers, plan
from backends.native.drivers import native  # noqa: F401 - loaded before the forks, whose start then is shorter
from backends.native.maker import Maker, Trace, Worker
from backends.native.networks import sharing
from backends.native.options import devices
from backends.native.record import ContainerRecord
from backends.native.store import TRACE, ContainerStore
from backends.native.sweep import end_kernel_side
from backends.oci.ending import end
from backends.oci.request import Created, CreateRequest
from backends.oci.shell import Shell

if TYPE_CHECKING:
    from backends.native.supervisor import Supervisor


def exit_code_of(wait_status: int) -> int:
    """Return docker's exit code of a waitpid status: its own, or 128+n for signal n."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


class Launch:
    """A start as the supervisor sees it."""

    def __init__(self, owner: Supervisor, client: socket.socket | None, maker: Maker | None = None) -> None:
        """client is sent the steps. maker: one that is at work already, and waits for "go"."""
        self._owner, self._client, self._maker = owner, client, maker
        self.init_pid = 0
        self.init_pidfd = -1
        self.terminal_fd: int | None = None

    @property
    def stdin_fd(self) -> int | None:
        """Our end of the program's standard input, if that is kept open."""
        return self._maker.pipes.stdin_fd if self._maker is not None else None

    @property
    def outputs(self) -> list[tuple[str, int]]:
        """(stream, descriptor) of what the program writes."""
        if self.terminal_fd is not None:
            return [("stdout", self.terminal_fd)]
        return self._maker.pipes.outputs if self._maker is not None else []

    def begin(self) -> None:
        """Let a maker start the container. Raises StartFailed."""
        if self._maker is None:
            self._maker = self._begin()
        else:
            self._maker.ask({"go": True})

    def run(self) -> None:
        """Wait until it runs. Raises StartFailed; undo() is then the caller's."""
        assert self._maker is not None
        try:
            message, fds = self._maker.answer()
        finally:
            self._maker.close()
        self.init_pid, self.init_pidfd = int(str(message["pid"])), fds[0]
        self._owner.be_in(str(message["group"]))
        if len(fds) > 1:
            self.terminal_fd = fds[1]
            os.set_blocking(fds[1], False)
            self._maker.pipes.close_ours()

    def _begin(self) -> Maker:
        owner, client = self._owner, self._client
        try:
            secrets_fd = owner.secrets.descriptor(owner.record.secret_files)
            return Maker(
                lambda worker: make(worker, owner.store, owner.host, owner.record, client, secrets_fd),
                keep_stdin=owner.record.stdin,
            )
        except OSError as error:
            raise StartFailed(f"cannot fork the process that makes it: {error.strerror}") from error

    def undo(self) -> None:
        """Take back what was done; what cannot be undone is left to `clean`. Descriptors that the owner took stay."""
        owner = self._owner
        if self.init_pidfd >= 0:
            pidfd = os.dup(self.init_pidfd) if owner.init_pidfd == self.init_pidfd else self.init_pidfd
            end(self.init_pid, pidfd)
        if self.init_pidfd >= 0 or owner.group.exists():  # a maker that was killed leaves what it had made
            with suppress(OSError, InnkeeperError):
                end_kernel_side(owner.store, owner.group, owner.record)
        if owner.init_pidfd != self.init_pidfd or self.init_pidfd < 0:
            if self.terminal_fd is not None:
                os.close(self.terminal_fd)
            elif self._maker is not None:
                self._maker.pipes.close_ours()


def make(
    worker: Worker,
    store: ContainerStore,
    host: CgroupHost,
    record: ContainerRecord,
    client: socket.socket | None = None,
    secrets_fd: int = -1,
    *,
    shell: Shell | None = None,
    when_ready: Callable[[], object] = lambda: None,
) -> None:
    """Run in the maker: start the container and tell supervisor and client how it went.

    when_ready is called when all is known and nothing has been done that could not be taken back. shell: what can
    become its init.
    """
    trace = Trace(store.folder(record.id) / TRACE)
    try:
        request = _request(worker, store, host, record, secrets_fd)
        created = _create(worker, store, record, request, shell, when_ready)
        _hand_over(worker, created, request, client)
    except (InnkeeperError, OSError) as error:
        worker.tell_steps(client)
        trace.write(worker.records)
        worker.fail(error)
        return
    trace.write(worker.records)


def _request(
    worker: Worker, store: ContainerStore, host: CgroupHost, record: ContainerRecord, secrets_fd: int
) -> CreateRequest:
    config = store.config(record.id)
    if record.privileged:
        config = devices.as_now(config)
    folder, terminal = store.folder(record.id), bool(config["process"].get("terminal"))
    shared = [sharing.open_network(store, record)] if sharing.owner_of(record) else []
    if shared:
        config = sharing.with_network(config, shared[0])
    return plan.request(
        record,
        config,
        folder,
        host,
        stdio=[] if terminal else worker.pipes.theirs,
        own_fds=[*worker.pipes.ours, *(worker.pipes.theirs if terminal else ()), *shared],
        run_dir=store.run_dir,
        secrets_fd=secrets_fd,
        overlay_fd=plan.open_overlay(record, config, folder),
    )


def _create(
    worker: Worker,
    store: ContainerStore,
    record: ContainerRecord,
    request: CreateRequest,
    shell: Shell | None,
    when_ready: Callable[[], object],
) -> Created:
    assert request.group is not None
    driver = drivers.from_checkpoint(store.folder(record.id)) or drivers.get(record.driver, store.run_dir)
    if shell is not None and driver.name == "native" and shell.fits(request):
        created = shell.become(request, when_ready)
        _see_started(driver.started, created)
        return created
    when_ready()
    if shell is not None:
        shell.undo()
    if request.group.exists():
        end_kernel_side(store, request.group, record)  # of a run whose supervisor died
    created = driver.create(request, worker.recorder)
    _see_started(driver.started, created)
    return created


def _see_started(started: Callable[[Created], None], created: Created) -> None:
    try:
        started(created)
    except BaseException:
        created.undo()
        raise


def _hand_over(worker: Worker, created: Created, request: CreateRequest, client: socket.socket | None) -> None:
    assert request.group is not None
    try:
        worker.tell_steps(client)
        worker.succeed(created, request.group.path)
    except BaseException:
        created.undo()
        raise
