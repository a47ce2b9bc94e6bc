"""Containers of a plain user: everything of theirs runs in a user namespace in which that user is root.

::

    inn (this user) ──> newuidmap, newgidmap ──> user namespace: 0 is this user, 1… are his subordinate ids
                                                    kept by a sleeping process, RUN/userns
        every later inn, the spawner, supervisors ──> join it, and do there what root's do

What only the host's root can do is left out: limits where no control group was delegated, bridges, device rules.
RUN/hierarchies.json says which parts of the control group trees are ours; it stays as long as the namespace.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from backends.errors import BackendUnavailable, InnkeeperError, os_error_text
from backends.kernel import joining, linux, procfs
from backends.kernel.cgroup import CgroupHost, detect
from backends.kernel.cgroup_file import read_text
from backends.kernel.cgroup_hierarchy import Hierarchy, parse_proc_cgroup, path_in
from backends.kernel.namespaces import Unshare
from backends.kernel.userns import MapUsers, subordinates
from backends.native import userns
from backends.native.network import locked
from backends.native.store import write_file
from backends.registry import BackendConfig

_HOLDER, _HIERARCHIES = "userns", "hierarchies.json"
_NAME = "innkeeper-userns"


def is_inside() -> bool:
    """Say whether this process is root in a user namespace only."""
    return os.geteuid() == 0 and (read_text("/proc/self/uid_map") or "").split() != ["0", "0", "4294967295"]


_refusal: list[BackendUnavailable] = []
"""Why it could not be done when there was one thread."""


def prepare(config: BackendConfig) -> None:
    """Do enter() while that is possible; what stood in the way is said when the backend is opened."""
    _refusal.clear()
    try:
        enter(config.run_dir)
    except BackendUnavailable as error:
        _refusal.append(error)


def has_group(number: int) -> bool:
    """Say whether the groups of our user namespace have this one."""
    rows = (map(int, line.split()) for line in (read_text("/proc/self/gid_map") or "").splitlines())
    return any(inside <= number < inside + count for inside, _, count in rows)


def enter(run_dir: Path) -> None:
    """Become root of this user's namespace, made if there is none. Raises BackendUnavailable, saying why not."""
    if os.geteuid() == 0:
        return
    if _refusal:
        raise _refusal[0]
    if threading.active_count() > 1:
        raise BackendUnavailable("containers of a plain user are for a process without threads yet")
    try:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(run_dir / "userns.lock"):
            holder = _living(run_dir) or _make(run_dir)
        _join(holder)
    except InnkeeperError as error:
        raise BackendUnavailable(f"no user namespace for containers: {error.message}", hint=error.hint) from error
    except OSError as error:
        hint = "inn doctor says more; as root: sudo inn"
        raise BackendUnavailable(f"no user namespace for containers: {os_error_text(error)}", hint=hint) from error


def end(run_dir: Path) -> None:
    """End the process that keeps the namespace; whoever is in it stays there."""
    with suppress(OSError), locked(run_dir / "userns.lock"):
        holder = _living(run_dir)
        if holder:
            os.kill(holder, signal.SIGKILL)
        for name in (_HOLDER, _HIERARCHIES):
            (run_dir / name).unlink(missing_ok=True)


def host(run_dir: Path) -> CgroupHost:
    """Return the control groups that containers here can have: root's all, a plain user's the delegated ones.

    Raises Unsupported.
    """
    if not is_inside():
        return detect()
    raw = json.loads(read_text(str(run_dir / _HIERARCHIES)) or "[]")
    own = tuple(Hierarchy(version, mount, root, frozenset(names)) for version, mount, root, names in raw)
    return DelegatedHost(own, detect())


def delegated_host() -> CgroupHost:
    """Return what host() would be if the namespace were made now. Raises Unsupported."""
    whole = detect()
    return whole if os.geteuid() == 0 else DelegatedHost(tuple(_delegated(whole)), whole)


def why_not() -> str:
    """Say why a plain user has no user namespace here; empty if he can."""
    pid = os.fork()
    if pid == 0:
        try:
            Unshare(("user",)).run()
            os._exit(0)
        except OSError as error:
            os._exit(min(error.errno or 1, 255))
        finally:
            os._exit(255)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return "" if code == 0 else f"the kernel refuses user namespaces: {os.strerror(code)}"


class DelegatedHost(CgroupHost):
    """The parts of the trees in which a plain user may make groups; maybe none."""

    def __init__(self, own: tuple[Hierarchy, ...], whole: CgroupHost) -> None:
        super().__init__(own)
        self.whole = whole

    def reasons(self) -> Mapping[str, str]:
        """Say for each limit why it cannot be had: the host lacks it, or nobody gave this user a group for it."""
        own = super().reasons()
        refused = "no control group was delegated to this user; run as root, or: systemd-run --user --scope"
        lacking = {field: why for field, why in self.whole.reasons().items() if why and "may not make" not in why}
        return {field: why and lacking.get(field, refused) for field, why in own.items()}


def _living(run_dir: Path) -> int:
    """Return the pid of the process that keeps the namespace, 0 if there is none."""
    words = (read_text(str(run_dir / _HOLDER)) or "").split()
    if len(words) == 2 and procfs.is_same_process(int(words[0]), int(words[1])):
        return int(words[0])
    return 0


def _make(run_dir: Path) -> int:
    """Start that process, and write down what is ours."""
    caller = userns.Caller.here()
    sides = (subordinates(path, caller.name, caller.uid) for path in (userns.SUBUID, userns.SUBGID))
    maps = userns.plain_maps(caller, *sides)
    told_read, told_write = os.pipe2(os.O_CLOEXEC)
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _hold(told_write, go_read)
    os.close(told_write)
    os.close(go_read)
    try:
        said = os.read(told_read, 4096).decode("utf-8", "replace")
        if said != "ready":
            raise BackendUnavailable(said or "the process that keeps it ended")
        MapUsers(pid, maps.uids, maps.gids).run()
        os.write(go_write, b"go")
        os.read(told_read, 1)  # ends with its execve
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(told_read)
        os.close(go_write)
    hierarchies = [(h.version, h.mount, h.root, sorted(h.controllers)) for h in _delegated(detect())]
    write_file(run_dir / _HIERARCHIES, json.dumps(hierarchies))
    write_file(run_dir / _HOLDER, f"{pid} {procfs.start_ticks(pid)}")
    return pid


def _hold(told: int, go: int) -> None:
    """Run in the child: make the namespace, and sleep in it for ever."""
    try:
        os.setsid()
        try:
            Unshare(("user",)).run()
        except OSError as error:
            os.write(told, (error.strerror or str(error)).encode())
            os._exit(1)
        # Else our files in /proc are the host's root's, and no plain user could write the maps.
        linux.prctl(linux.PR_SET_DUMPABLE, 1)
        os.write(told, b"ready")
        if os.read(go, 2) != b"go":
            os._exit(1)
        joining.become_root()
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        os.chdir("/")
        os.execv("/bin/sleep", [_NAME, "infinity"])
    finally:
        os._exit(1)


def _join(pid: int) -> None:
    fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(fd, linux.CLONE_NEWUSER)
    finally:
        os.close(fd)
    joining.become_root()
    linux.prctl(linux.PR_SET_DUMPABLE, 1)


def _delegated(whole: CgroupHost) -> list[Hierarchy]:
    """Return, for each tree, the part below which this user may make groups and move its processes."""
    groups = parse_proc_cgroup(read_text("/proc/self/cgroup") or "")
    found = []
    for hierarchy in whole.hierarchies:
        path = path_in(hierarchy, groups)
        relative = hierarchy.relative(path).strip("/") if path is not None else ""
        if hierarchy.version == 2:
            # A group with processes hands no controllers down: ours go beside it, where that is allowed.
            above = os.path.dirname(relative)
            relative = above if _is_writable(hierarchy.directory(above)) else relative
        folder = hierarchy.directory(relative)
        if _is_writable(folder):
            names = _handed_down(folder, hierarchy) if hierarchy.version == 2 else hierarchy.controllers
            found.append(Hierarchy(hierarchy.version, folder, f"/{relative}", names))
    return found


def _is_writable(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK) and os.access(f"{folder}/cgroup.procs", os.W_OK)


def _handed_down(folder: str, hierarchy: Hierarchy) -> frozenset[str]:
    names = frozenset((read_text(f"{folder}/cgroup.controllers") or "").split())
    return names & hierarchy.controllers if os.access(f"{folder}/cgroup.subtree_control", os.W_OK) else frozenset()
