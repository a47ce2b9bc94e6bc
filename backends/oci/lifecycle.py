"""What can be done to a container that `inn oci` made: start, signal, pause, delete; with runc's rules and words."""

from __future__ import annotations

import errno
import os

from backends.errors import InnkeeperError
from backends.oci import roots, signalling
from backends.oci.errors import NoSuchContainer, NotRunning, OciError
from backends.oci.signalling import SIGKILL
from backends.oci.state import Container, is_frozen, load, remove_folder, start_ticks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from backends.kernel.cgroup_tasks import CgroupTasks

_END_TIMEOUT_S = 10.0
DEFAULT_PARENT = "innkeeper-oci"
"""The group above those whose config.json names none."""


# ── signals ─────────────────────────────────────────────────────────────────────────────────────────


def kill(container: Container, number: int, *, everything: bool = False) -> None:
    """Send a signal to the first process; to all where asked, or where SIGKILL would leave some behind.

    Raises NotRunning.
    """
    shares_pids = not container.state.get("own_pid_namespace")
    if everything or (number == SIGKILL and shares_pids):
        _kill_all(container, number)
        return
    pidfd = signalling.open_process(container.pid, container.state.get("start_ticks"))
    try:
        signalling.send(pidfd, number)
    except OSError as error:
        if isinstance(error, ProcessLookupError):
            raise NotRunning("container not running") from None
        raise OciError(f"unable to signal init: {(error.strerror or '').lower()}") from error
    finally:
        os.close(pidfd)
    if number == SIGKILL:
        thaw_for_kill(container)


def _kill_all(container: Container, number: int) -> None:
    group = tasks(container)
    if not group.exists() and not container.has_init():
        raise NotRunning("container not running")
    if number == SIGKILL:
        group.kill(_END_TIMEOUT_S)
        return
    for pid in group.procs():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def thaw_for_kill(container: Container) -> None:
    """Thaw a frozen group: a task that v1 has frozen dies only once it is thawed (freezer-subsystem.rst)."""
    if not is_frozen(container.state.get("cgroup") or {}):
        return
    for path, text in _thaw_files(container):
        try:
            with open(path, "w") as file:
                file.write(text)
        except OSError:
            continue


def _thaw_files(container: Container) -> list[tuple[str, str]]:
    cgroup = container.state.get("cgroup") or {}
    freezer, unified = cgroup.get("freezer"), cgroup.get("unified")
    files = [(f"{freezer}/freezer.state", "THAWED")] if freezer and freezer != unified else []
    return [*files, (f"{unified}/cgroup.freeze", "0")] if unified else files


def tasks(container: Container) -> CgroupTasks:
    """Return the processes of its cgroup, from the folders recorded at create."""
    from backends.kernel.cgroup_tasks import CgroupTasks

    cgroup = container.state.get("cgroup") or {}
    freezer = cgroup.get("freezer") if cgroup.get("freezer") != cgroup.get("unified") else None
    return CgroupTasks(cgroup.get("path", ""), cgroup.get("folders") or {}, cgroup.get("unified"), freezer)


# ── freezing ────────────────────────────────────────────────────────────────────────────────────────


def pause(container: Container) -> None:
    """Freeze it; returns when frozen. Raises OciError unless it runs or waits for its start."""
    now = container.status()
    if now not in ("running", "created"):
        raise NotRunning("container not running")
    tasks(container).freeze()


def resume(container: Container) -> None:
    """Let it go on. Raises OciError unless it is paused."""
    if container.status() != "paused":
        raise OciError("container not paused")
    tasks(container).thaw()


# ── deleting ────────────────────────────────────────────────────────────────────────────────────────


def delete(root: str, container_id: str, *, force: bool = False, warn: Callable[[str], None] = lambda _: None) -> None:
    """Remove a stopped container and all that belongs to it; one that is live or waits for its start only by force.

    Raises NoSuchContainer (not with force), OciError for a live one.
    """
    try:
        container = load(root, container_id).lock()
    except NoSuchContainer:
        remove_folder(f"{root}/{container_id}")  # what a runtime left that was killed before it wrote its state
        if force:
            return
        raise
    try:
        now = container.status()
        if not force and now not in ("stopped", "creating"):
            raise OciError(f"cannot delete container {container_id} that is not stopped: {now}")
        if now != "stopped":
            end(container)
        destroy(container, kill_all=force, warn=warn)
    finally:
        container.unlock()


def end(container: Container) -> None:
    """Kill the first process, and all others where it does not take them along; returns when it has ended."""
    ticks = container.state.get("start_ticks")
    try:
        pidfd = signalling.open_process(container.pid, ticks)
    except NotRunning:
        return
    try:
        try:
            kill(container, SIGKILL)
        except NotRunning:
            return
        if not signalling.has_ended_within(pidfd, _END_TIMEOUT_S) and start_ticks(container.pid) == ticks:
            raise OciError("container init still running")
    finally:
        os.close(pidfd)


def destroy(container: Container, *, kill_all: bool = False, warn: Callable[[str], None] = lambda _: None) -> None:
    """Remove cgroup and state of a container whose first process has ended, then run its poststop hooks."""
    config = container.config() if "poststop" in container.state.get("hooks", ()) else None
    last = container.oci_state("stopped")
    _remove_cgroup(container, kill_all=kill_all or not container.state.get("own_pid_namespace"))
    if container.state.get("mounted_root"):
        _unmount(container.state["mounted_root"])
    container.remove()
    roots.forget_if_empty(container.root)
    if config is not None:
        _run_poststop(config, last, warn)


def _unmount(root: str) -> None:
    """Take away the mounts of a container that had none of its own mount namespace."""
    from backends.kernel.root_move import BindRoot

    try:
        BindRoot(root).undo()
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # somebody took them away before
            raise OciError(f"unable to unmount container's root: {error}") from error


def _remove_cgroup(container: Container, *, kill_all: bool) -> None:
    cgroup = container.state.get("cgroup") or {}
    if not cgroup.get("folders") or not cgroup.get("is_own", True):
        return
    if not all(_rmdir(folder) for folder in cgroup["folders"].values()):
        _remove_groups(container, cgroup["folders"], kill_all=kill_all)
    for folder in cgroup["folders"].values():
        above = os.path.dirname(folder)
        if os.path.basename(above) == DEFAULT_PARENT:
            _rmdir(above)  # if this was its last


def _remove_groups(container: Container, folders: dict[str, str], *, kill_all: bool) -> None:
    from backends.kernel.cgroup_steps import remove_directory

    if kill_all:
        tasks(container).kill(_END_TIMEOUT_S)
    try:
        for folder in folders.values():
            remove_directory(folder, timeout_s=_END_TIMEOUT_S)
    except InnkeeperError as error:
        raise OciError(f"unable to remove container's cgroup: {error}") from error


def _rmdir(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _run_poststop(config: dict[str, Any], state: dict[str, Any], warn: Callable[[str], None]) -> None:
    """Run all, also when one fails: the container is gone whatever they say (runtime.md, "Lifecycle")."""
    from backends.oci import hooks

    for hook in config["hooks"]["poststop"]:
        try:
            hooks.run({"hooks": {"poststop": [hook]}}, "poststop", state, folder=state["bundle"])
        except hooks.HookFailed as error:
            warn(error.message.replace("exit status", "poststop hook failed with exit code"))
