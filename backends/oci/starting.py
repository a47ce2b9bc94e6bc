"""Letting a created container's program run: the fifo at which init waits, then the poststart hooks."""

from __future__ import annotations

import os
import time

from backends.errors import StartFailed
from backends.oci import signalling
from backends.oci.errors import NotExecuted, NotRunning, OciError
from backends.oci.state import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from backends.oci.readiness import Readiness

_REFUSALS = {
    "stopped": "cannot start a container that has stopped",
    "running": "cannot start an already running container",
}


def start(container: Container, *, waits_for_readiness: bool = True) -> Readiness | None:
    """Start a created container, whose lock the caller holds; returns when its program runs.

    Under a service manager (NOTIFY_SOCKET) it returns when the program is ready, or what to listen to until then.

    Raises OciError where it is not created, StartFailed when there is no program to run or a hook fails.
    """
    now = container.status()
    if now != "created":
        raise OciError(_REFUSALS.get(now, f"cannot start a container in the {now} state"))
    ready = _listen(container)
    open_gate(container)
    if "poststart" in container.state.get("hooks", ()):
        _run_poststart(container)
    if ready is not None and waits_for_readiness:
        _wait(container, ready)
        return None
    return ready


def _listen(container: Container) -> Readiness | None:
    if not os.environ.get("NOTIFY_SOCKET"):
        return None  # and nothing is loaded for it
    from backends.oci.readiness import Readiness

    return Readiness.of(container.folder)


def _wait(container: Container, ready: Readiness) -> None:
    container.unlock()  # it may take long: others may look, stop and delete it
    try:
        pidfd = signalling.open_process(container.pid, container.state.get("start_ticks"))
    except NotRunning:
        return
    try:
        ready.wait(container.pid, pidfd)
    finally:
        ready.close()
        os.close(pidfd)


def open_gate(container: Container) -> None:
    """Let init go on and wait for its execve."""
    from backends.oci.gate import start_by_fifo

    try:
        pidfd = signalling.open_process(container.pid, container.state.get("start_ticks"))
    except NotRunning:
        raise OciError(_REFUSALS["stopped"]) from None
    try:
        start_by_fifo(container.fifo, pidfd)
    except StartFailed as error:
        raise NotExecuted(error.message, exit_code=error.exit_code, hint=error.hint) from error
    finally:
        os.close(pidfd)
        _remove(container.fifo)
    container.save(phase="started", started_s=time.time())


def _run_poststart(container: Container) -> None:
    from backends.oci import hooks, lifecycle

    try:
        hooks.run(container.config(), "poststart", container.oci_state("running"), folder=container.state["bundle"])
    except hooks.HookFailed:
        # "the runtime MUST generate an error, stop the container, and continue the lifecycle at step 12", its removal.
        lifecycle.end(container)
        lifecycle.destroy(container, kill_all=True)
        raise


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
