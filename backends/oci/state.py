"""What is kept of a container made by `inn oci`: one folder below --root, 0700.

::

    ROOT/ID/state.json    pid and its start time, bundle, cgroup folders …; replaced by rename
            config.json   as it was at create; later edits of the bundle do not matter
            exec.fifo     there while the container waits for `start`
    ROOT/~ID.PID/         one that is just being made

The folder itself is the lock (flock): of two that start or delete at the same time one wins. Its status is
never stored: it follows from the first process, the fifo and the freezer. A cold `inn oci state` runs this
module, so it imports next to nothing.
"""

from __future__ import annotations

import os
import time

from backends import quick_json
from backends.oci.errors import ContainerExists, NoSuchContainer, OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE, CONFIG, FIFO = "state.json", "config.json", "exec.fifo"
DRAFT = "~"
_LOCK_TIMEOUT_S = 30.0
_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


def default_root() -> str:
    """Return where containers are kept unless the caller says: below /run for root, else the user's own."""
    return f"{run_folder()}/oci"


def run_folder() -> str:
    """Return Innkeeper's folder for what does not survive a reboot."""
    own = os.environ.get("XDG_RUNTIME_DIR")
    if os.geteuid() != 0 or (own and _in_user_namespace()):
        return f"{own or f'/run/user/{os.geteuid()}'}/innkeeper"
    return "/run/innkeeper"


def _in_user_namespace() -> bool:
    try:
        with open("/proc/self/uid_map") as file:
            return file.read().split() != ["0", "0", "4294967295"]
    except OSError:
        return False


def check_id(container_id: str) -> str:
    """Return the id if it is one. Raises OciError with runc's words."""
    if not container_id:
        raise OciError("container id cannot be empty")
    if not _ALLOWED.issuperset(container_id) or container_id in (".", "..") or len(container_id) > 255:
        raise OciError("invalid container ID format")
    return container_id


class Container:
    """One container's folder and what its state.json said when it was loaded."""

    def __init__(self, root: str, container_id: str, state: dict[str, Any]) -> None:
        self.root = root
        self.id = container_id
        self.state = state
        self.folder = f"{root}/{container_id}"
        self._lock: int | None = None

    # ── what it is ──────────────────────────────────────────────────────────────────────────────────

    @property
    def pid(self) -> int:
        """Its first process on the host, as recorded; 0 before there is one."""
        return int(self.state.get("pid") or 0)

    @property
    def fifo(self) -> str:
        """The fifo at which its first process waits."""
        return f"{self.folder}/{FIFO}"

    def has_init(self) -> bool:
        """Say whether its first process lives: that very one, not another with its pid."""
        return self.pid > 0 and start_ticks(self.pid) == self.state.get("start_ticks")

    def status(self) -> str:
        """Return "creating", "created", "running", "paused" or "stopped", as runc finds it out."""
        if not self.has_init():
            return "creating" if self.pid == 0 and self._is_being_made() else "stopped"
        if is_frozen(self.state.get("cgroup") or {}):
            return "paused"
        if self.state.get("phase") == "creating" and self._is_being_made():
            return "creating"
        return "created" if os.path.exists(self.fifo) else "running"

    def _is_being_made(self) -> bool:
        if self.state.get("phase") != "creating":
            return False
        return self._lock is not None or not self._try_lock(keep=False)

    def config(self) -> dict[str, Any]:
        """Return the config.json it was made from."""
        return _read_json(f"{self.folder}/{CONFIG}")

    def oci_state(self, status: str | None = None) -> dict[str, Any]:
        """Return the state as the specification has it, which hooks and callers read."""
        now = self.status() if status is None else status
        known = self.state
        return {
            "ociVersion": known["ociVersion"],
            "id": self.id,
            "pid": 0 if now == "stopped" else self.pid,
            "status": now,
            "bundle": known["bundle"],
            "rootfs": known["rootfs"],
            "created": known["created"],
            **({"annotations": known["annotations"]} if known.get("annotations") else {}),
            "owner": known.get("owner", ""),
        }

    # ── changing it ─────────────────────────────────────────────────────────────────────────────────

    def save(self, *, is_lasting: bool = False, **changes: object) -> None:
        """Change what is recorded; with is_lasting it is on disk before this returns."""
        self.state.update(changes)
        write_file(f"{self.folder}/{STATE}", quick_json.dumps(self.state, "\t"), is_lasting=is_lasting)

    def lock(self) -> Container:
        """Be the only one to start, change or delete it until unlock(); loads its state anew.

        Raises NoSuchContainer if someone deleted it meanwhile, OciError when it takes too long.
        """
        deadline, pause_s = time.monotonic() + _LOCK_TIMEOUT_S, 0.001
        while not self._try_lock(keep=True):
            if time.monotonic() > deadline:
                raise OciError(f"container {self.id} is busy: another command works on it")
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.02)
        try:
            self.state = _read_json(f"{self.folder}/{STATE}")
        except BaseException:
            self.unlock()
            raise
        return self

    def unlock(self) -> None:
        """Let others have it."""
        if self._lock is None:
            return
        import fcntl

        # Not by close alone: a process that was forked meanwhile shares the lock.
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        os.close(self._lock)
        self._lock = None

    @property
    def lock_fd(self) -> int | None:
        """The descriptor that holds the lock, for those who fork."""
        return self._lock

    def _try_lock(self, *, keep: bool) -> bool:
        import fcntl

        try:
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NoSuchContainer("container does not exist") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        if keep:
            self._lock = fd
        else:
            os.close(fd)
        return True

    def remove(self) -> None:
        """Remove its folder; no error if parts are gone."""
        remove_folder(self.folder)

    def __enter__(self) -> Container:
        return self if self._lock is not None else self.lock()

    def __exit__(self, *_: object) -> None:
        self.unlock()


def load(root: str, container_id: str) -> Container:
    """Return a container. Raises NoSuchContainer, OciError for what is no id."""
    check_id(container_id)
    return Container(root, container_id, _read_json(f"{root}/{container_id}/{STATE}"))


def containers(root: str) -> list[Container]:
    """Return all containers, by id. Raises FileNotFoundError if there is no such root."""
    found = []
    for name in sorted(os.listdir(root)):
        try:
            found.append(load(root, name))
        except (OciError, OSError, ValueError):
            continue
    return found


def check_free(root: str, container_id: str) -> None:
    """Raise OciError for what is no id, ContainerExists for one that is taken."""
    if os.path.lexists(f"{root}/{check_id(container_id)}"):
        raise ContainerExists("container with given ID already exists")


def make(root: str, container_id: str, state: dict[str, Any], config: str) -> Container:
    """Make a container's folder, whole at once, and hold its lock. Raises ContainerExists."""
    check_free(root, container_id)
    make_private(root)
    sweep(root)
    container = Container(root, container_id, {"phase": "creating", "pid": 0, **state})
    draft = f"{root}/{DRAFT}{container_id[:200]}.{os.getpid()}"
    os.mkdir(draft, 0o700)
    try:
        container.folder = draft
        container._try_lock(keep=True)
        write_file(f"{draft}/{CONFIG}", config)
        container.save()
        os.rename(draft, f"{root}/{container_id}")
    except OSError as error:
        container.unlock()
        remove_folder(draft)
        check_free(root, container_id)  # someone was faster
        raise error
    container.folder = f"{root}/{container_id}"
    return container


def make_private(folder: str) -> None:
    """Make a folder that is missing, with those above it, for its owner alone."""
    if not os.path.isdir(folder):
        make_private(os.path.dirname(folder))
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            return  # somebody was faster


def sweep(root: str) -> None:
    """Remove what a crash in make() left behind: drafts whose maker has gone."""
    for name in os.listdir(root):
        if name.startswith(DRAFT) and not os.path.exists(f"/proc/{name.rpartition('.')[2]}"):
            remove_folder(f"{root}/{name}")


# ── the system's side of it ─────────────────────────────────────────────────────────────────────────


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it has ended, also if nobody reaped it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def is_frozen(cgroup: dict[str, Any]) -> bool:
    """Say whether all tasks of a group are stopped, from the folders recorded at create."""
    unified, freezer = cgroup.get("unified"), cgroup.get("freezer")
    if freezer and freezer != unified and _read(f"{freezer}/freezer.state").strip() in ("FROZEN", "FREEZING"):
        return True
    return bool(unified) and "frozen 1" in _read(f"{unified}/cgroup.events")


def write_file(path: str, text: str, *, is_lasting: bool = False) -> None:
    """Replace a file by rename: readers see the old or the new one. With is_lasting it survives a power cut."""
    draft = f"{path}.{os.getpid()}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        data = text.encode()
        while data:
            data = data[os.write(fd, data) :]
        if is_lasting:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(draft, path)


def remove_folder(folder: str) -> None:
    """Remove a folder of plain files and folders; no error if it is gone. Never follows a link."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    remove_folder(entry.path)
                else:
                    _unlink(entry.path)
        os.rmdir(folder)
    except FileNotFoundError:
        return


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _read_json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found: dict[str, Any] = quick_json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        raise NoSuchContainer("container does not exist") from None
    return found
