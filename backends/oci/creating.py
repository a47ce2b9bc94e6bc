"""`create` of `inn oci`: a bundle becomes a container that waits at its gate, or nothing is left of it."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from backends import quick_json
from backends.errors import StartFailed
from backends.kernel import cgroup
from backends.kernel.cgroup import Cgroup
from backends.oci import cgroups, config, labels, lifecycle, listeners, readiness, roots, state
from backends.oci.create import Created, CreateRequest, create
from backends.oci.errors import OciError
from backends.oci.gate import FifoGate
from backends.oci.state import Container, start_ticks
from backends.trace import Recorder

HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


class Bundle:
    """A folder with a checked config.json."""

    def __init__(self, folder: str, config_file: str = "") -> None:
        """Raises ConfigInvalid, Unsupported, FileNotFoundError."""
        self.folder = os.path.abspath(folder or ".")
        os.chdir(self.folder)  # relative paths of the config are the bundle's
        self.config = config.parse(config.read(os.path.join(self.folder, config_file or state.CONFIG)))
        self.warnings = self._drop_labels()
        config.check(self.config)
        self.config.setdefault("linux", {})
        self.warnings += [*config.warnings(self.config), *_lost_ambient(self.config)]

    def _drop_labels(self) -> list[str]:
        process, linux = self.config.get("process"), self.config.get("linux")
        if not isinstance(process, dict) or not isinstance(linux, dict | None):
            return []  # check() says what is wrong with them
        return labels.drop_unknown(process, linux)

    @property
    def root(self) -> str:
        """Its root file system."""
        return os.path.normpath(os.path.join(self.folder, self.config["root"]["path"]))

    @property
    def has_terminal(self) -> bool:
        """Whether its program wants one."""
        return bool(self.config["process"].get("terminal"))


class Creation:
    """How a container is to be made, besides what its config says."""

    def __init__(
        self,
        root: str,
        container_id: str,
        bundle: Bundle,
        *,
        cgroup_manager: str = "cgroupfs",
        console: int | None = None,
        size: tuple[int, int] | None = None,
        preserve_fds: int = 0,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        is_traced: bool = False,
    ) -> None:
        self.root = root
        self.id = state.check_id(container_id)
        self.bundle = bundle
        self.cgroup_manager = cgroup_manager
        self.console = console
        self.size = size
        self.preserve_fds = preserve_fds
        self.no_pivot = no_pivot
        self.no_new_keyring = no_new_keyring
        self.is_traced = is_traced

    def run(self, recorder: Recorder) -> tuple[Container, Created]:
        """Make the container; it is locked. Raises OciError, StartFailed … and leaves nothing then."""
        state.check_free(self.root, self.id)
        sockets = listeners.take(self.bundle.config["process"])
        group = self._group()
        container = state.make(self.root, self.id, self._record(group), quick_json.dumps(self.bundle.config))
        try:
            roots.remember(self.root)
            self._make_fifo(container.fifo)
            readiness.provide(self.bundle.config, container.folder)
            created = self._born(container, group, sockets, recorder)
            shared = "" if _has_own_mounts(self.bundle.config) else self.bundle.root
            ticks = start_ticks(created.pid)
            container.save(is_lasting=True, phase="created", pid=created.pid, start_ticks=ticks, mounted_root=shared)
        except StartFailed as error:
            self._undo(container)
            text = f"unable to start container process: {error.message}"
            raise StartFailed(text, exit_code=error.exit_code, hint=error.hint) from error
        except BaseException:
            self._undo(container)
            raise
        return container, created

    def _born(self, container: Container, group: Cgroup | None, sockets: int, recorder: Recorder) -> Created:
        return create(self._request(container, group, sockets), recorder)

    def _undo(self, container: Container) -> None:
        try:
            with suppress(OciError):
                lifecycle.end(container)
                lifecycle.destroy(container, kill_all=True)
        finally:
            container.remove()
            container.unlock()

    def _request(self, container: Container, group: Cgroup | None, sockets: int) -> CreateRequest:
        def oci_state(status: str, pid: int) -> dict[str, Any]:
            # A hook may ask for the state, too: what is on disk knows the pid by then.
            container.save(pid=pid, start_ticks=start_ticks(pid))
            return container.oci_state(status)

        return CreateRequest(
            id=self.id,
            bundle=self.bundle.folder,
            root=self.bundle.root,
            config=self.bundle.config,
            group=group,
            stdio=(0, 1, 2),
            gate=FifoGate(container.fifo),
            console=self.console,
            size=self.size,
            plain_newlines=self.console is None,
            is_traced=self.is_traced,
            listen_fds=sockets,
            preserve_fds=self.preserve_fds,
            no_pivot=self.no_pivot,
            no_new_keyring=self.no_new_keyring,
            state=oci_state,
            own_fds=() if container.lock_fd is None else (container.lock_fd,),
        )

    def _group(self) -> Cgroup | None:
        if self.cgroup_manager == "disabled":
            return None
        path = cgroups.place(self.bundle.config, self.id, systemd=self.cgroup_manager == "systemd")
        group = cgroups.usable(cgroup.detect().group(path), self.bundle.config)
        if group is not None:
            cgroups.check_unused(group)
        return group

    def _record(self, group: Cgroup | None) -> dict[str, Any]:
        bundle = self.bundle
        return {
            "ociVersion": bundle.config["ociVersion"],
            "bundle": bundle.folder,
            "rootfs": bundle.root,
            "created": _now(),
            "owner": _owner(),
            "annotations": dict(bundle.config.get("annotations") or {}),
            "hooks": [kind for kind in HOOKS if (bundle.config.get("hooks") or {}).get(kind)],
            "own_pid_namespace": _has_own_pids(bundle.config),
            "cgroup": _places(group) if group is not None else {},
        }

    def _make_fifo(self, path: str) -> None:
        """As runc: whoever init has become by then may write, and root of the container owns it."""
        os.mkfifo(path, 0o622)
        os.chmod(path, 0o622)
        linux = self.bundle.config["linux"]
        uid, gid = _root_of(linux.get("uidMappings")), _root_of(linux.get("gidMappings"))
        if (uid, gid) != (0, 0):
            with suppress(PermissionError):
                os.chown(path, uid, gid)


def _places(group: Cgroup) -> dict[str, Any]:
    freezer = group.directory("freezer")
    return {
        "path": group.path,
        "folders": dict(group.directories),
        "unified": group.unified,
        "freezer": freezer if freezer != group.unified else None,
    }


def _has_own_pids(wanted: Mapping[str, Any]) -> bool:
    spaces = wanted["linux"].get("namespaces") or ()
    return any(space["type"] == "pid" and not space.get("path") for space in spaces)


def _has_own_mounts(wanted: Mapping[str, Any]) -> bool:
    return any(space["type"] == "mount" for space in wanted["linux"].get("namespaces") or ())


def _lost_ambient(wanted: Mapping[str, Any]) -> list[str]:
    """The kernel raises only what is permitted and inheritable too (capabilities(7)); the rest is passed over."""
    sets = (wanted.get("process") or {}).get("capabilities") or {}
    usable = set(sets.get("permitted") or ()) & set(sets.get("inheritable") or ())
    lost = [name for name in sets.get("ambient") or () if name not in usable]
    return [f"can't raise ambient capability {name}: it is not permitted and inheritable" for name in lost]


def _root_of(mappings: list[dict[str, int]] | None) -> int:
    for mapping in mappings or ():
        if mapping["containerID"] == 0:
            return mapping["hostID"]
    return 0


def _now() -> str:
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z"


def _owner() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"#{os.geteuid()}"
