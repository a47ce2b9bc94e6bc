"""A container that is made and started in one request, by the spawner's fork: `inn run` when the spawner is warm.

A supervisor forks its maker at once. The maker writes the container's records, as `create` does anywhere, and
waits; the supervisor takes the life lock and lets it go on; the rest is a start like any other.

Both can be forked before anybody asks (pool.py). The maker then rehearses: it plans a container like the last one.
A fork shares its memory until it is written to, and reading an object in Python writes its reference count: after
the rehearsal most of what a start touches is the maker's own.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from backends.errors import InnkeeperError, NotFound, StartFailed
from backends.kernel import linux, procfs
from backends.native import asked, protocol
from backends.native.launch import make
from backends.native.maker import Maker, Worker
from backends.native.record import Status
from backends.native.supervisor import Supervisor
from backends.oci.shell import Shell

if TYPE_CHECKING:
    from backends.native.backend import NativeBackend

Order = Mapping[str, Any]
"""The client's request, with the "id" that the container gets."""


def supervise(backend: NativeBackend, order: Order, client: socket.socket, maker: Maker | None = None) -> int:
    """Run in the supervisor until the container's end. With "follow" the client is told the exit code too."""
    store, host = backend.places
    container_id = str(order["id"])
    try:
        spec = order.get("spec") or {}
        if maker is None:
            maker = Maker(lambda worker: _to_order(worker, backend), keep_stdin=bool(spec.get("stdin")))
        maker.ask({"id": container_id, "spec": spec})
        made, _ = maker.answer()
        supervisor = Supervisor(store, container_id, host)
        try:
            with store.locked(container_id):
                supervisor.start(client, maker, follow=bool(order.get("follow")))
        except StartFailed as error:
            with suppress(InnkeeperError, OSError):
                if supervisor.record.auto_remove:
                    supervisor.remove()
            text = f"cannot start {made['name']}: {error.message}"
            raise StartFailed(text, exit_code=error.exit_code, hint=error.hint) from error
    except Exception as error:  # the end of a forked process
        with suppress(protocol.Closed, OSError):
            protocol.send(client, protocol.error_message(error))
        if not isinstance(error, InnkeeperError | OSError):
            raise
        return 0
    supervisor.serve()
    return 0


def stand_by(backend: NativeBackend, orders: socket.socket, like: Order) -> int:
    """Run in a supervisor that was forked before anybody asked: wait for an order, and carry it out.

    Ends when the spawner does, without one.
    """
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    maker = Maker(lambda worker: _stand_by(worker, backend, like))
    Status.from_json(Status(boot_id=procfs.boot_id(), pid_start=procfs.start_ticks(os.getpid())).to_json())
    try:
        order, fds = protocol.receive(orders)
    except (protocol.Closed, OSError):
        maker.dismiss()
        return 0
    orders.close()
    with socket.socket(fileno=fds[0]) as client:
        return supervise(backend, order, client, maker)


def _stand_by(worker: Worker, backend: NativeBackend, like: Order) -> None:
    """Run in a maker that was forked before anybody asked."""

    def rehearse() -> None:
        _rehearse(backend, like)

    shell: Shell | None = Shell(backend.group_of(str(like["id"])), worker.recorder, worker.pipes.ours)
    assert shell is not None
    try:
        spec = like.get("spec") or {}
        is_bridged = spec.get("network", "bridge") == "bridge" and "networks" not in spec
        shell.stand_by(rehearse, lambda pid: backend.link_steps(str(like["id"]), pid) if is_bridged else ())
    except (InnkeeperError, OSError):  # it is only a convenience
        shell.undo()
        shell = None
    rehearse()  # after the fork, which shares all memory anew
    _to_order(worker, backend, shell)


def _to_order(worker: Worker, backend: NativeBackend, shell: Shell | None = None) -> None:
    """Run in the maker."""
    store, host = backend.places
    try:
        order, _ = worker.hear()
        record = backend.make_record(asked.from_json(order["spec"]), str(order["id"]))
    except (protocol.Closed, InnkeeperError, OSError) as error:
        if shell is not None:
            shell.undo()
        if not isinstance(error, protocol.Closed):
            worker.fail(error)
        return
    worker.say({"name": record.name})
    try:
        make(worker, store, host, record, shell=shell, when_ready=worker.hear)
    except protocol.Closed:  # the supervisor died before it had the life lock
        if shell is not None:
            shell.undo()
        with suppress(NotFound, OSError):
            store.remove(record)


def _rehearse(backend: NativeBackend, like: Order) -> None:
    """Do what changes nothing of making such a container."""
    with suppress(InnkeeperError, OSError):
        spec = asked.from_json(json.loads(json.dumps(like.get("spec") or {})))
        for _, step in backend.explain(spec):
            step.describe()
            step.by_hand()
