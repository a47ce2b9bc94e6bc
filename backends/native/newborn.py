"""A container that is made and started in one request, by the spawner's fork: `inn run` when the spawner is warm.

The supervisor forks its maker at once. The maker writes the container's records, as `create` does anywhere, and
waits; the supervisor takes the life lock and lets it go on; the rest is a start like any other.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from backends.errors import InnkeeperError, NotFound, StartFailed
from backends.native import asked, protocol
from backends.native.launch import make
from backends.native.maker import Maker, Worker
from backends.native.supervisor import Supervisor

if TYPE_CHECKING:
    from backends.native.backend import NativeBackend


def supervise(backend: NativeBackend, container_id: str, message: Mapping[str, Any], client: socket.socket) -> int:
    """Run in the supervisor until the container's end. With "follow" the client is told the exit code too."""
    store, host = backend.places
    try:
        spec = asked.from_json(message.get("spec") or {})
        steps_to = client if message.get("steps") else None
        maker = Maker(lambda worker: _make(worker, backend, container_id, message, steps_to), keep_stdin=spec.stdin)
        made, _ = maker.answer()
        supervisor = Supervisor(store, container_id, host)
        try:
            with store.locked(container_id):
                supervisor.start(client, maker, follow=bool(message.get("follow")))
        except StartFailed as error:
            with suppress(InnkeeperError, OSError):
                if supervisor.record.auto_remove:
                    supervisor.remove()
            text = f"cannot start {made['name']}: {error.message}"
            raise StartFailed(text, exit_code=error.exit_code, hint=error.hint) from error
    except (InnkeeperError, OSError) as error:
        with suppress(protocol.Closed, OSError):
            protocol.send(client, protocol.error_message(error))
        return 0
    supervisor.serve()
    return 0


def _make(
    worker: Worker, backend: NativeBackend, container_id: str, message: Mapping[str, Any], client: socket.socket | None
) -> None:
    """Run in the maker."""
    store, host = backend.places
    try:
        record = backend.make_record(asked.from_json(message["spec"]), container_id)
    except (InnkeeperError, OSError) as error:
        worker.fail(error)
        return
    worker.say({"name": record.name})
    try:
        worker.hear()
    except protocol.Closed:
        with suppress(NotFound, OSError):
            store.remove(record)
        return
    make(worker, store, host, record, client)
