"""Files into and out of containers, live or stopped, as tar streams; a process of its own does the work (copier.py)."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from backends.container import Archive
from backends.errors import InnkeeperError, NotFound, PermissionDenied, UsageError, WrongState
from backends.kernel import procfs
from backends.model import GuestRef
from backends.native.core import LIVE
from backends.native.living import Living
from backends.native.owners import owners_in
from backends.native.saved_layers import SavedLayers
from backends.native.snapshots import Snapshots
from backends.native.tracing import recorded
from backends.trace import Recorder

_ROOT = Path(__file__).resolve().parents[2]
_CODE = f"import sys; sys.path.append({str(_ROOT)!r}); from backends.native.copier import main; main()"
_BLOCK = 1024 * 1024
_LOCK_S = 20.0
_KINDS = {"FileNotFoundError": NotFound, "NotADirectoryError": NotFound, "PermissionError": PermissionDenied}


class Copying(Living):
    """copy_in and copy_out."""

    def copy_out(self, ref: GuestRef, path: str) -> Archive:
        """Return a path of the container as a tar stream."""
        with ExitStack() as stack:
            copier = _Copier(self._job(ref, path, "out", stack), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            stack.callback(copier.close)
            answer = copier.answer(f"cannot copy {path} out of {self._guest(ref).name}")
            stream = _Stream(copier, stack.pop_all())
        return Archive(cast("BinaryIO", stream), str(answer["name"]), bool(answer["is_directory"]))

    def copy_in(self, ref: GuestRef, path: str, stream: BinaryIO, recorder: Recorder) -> None:
        """Unpack a tar stream into a folder of the container."""
        name = self._guest(ref).name
        with (
            ExitStack() as stack,
            recorded(recorder, self._trace_path(ref), "copy", f"unpack an archive into {path}",
                     f"inn cp - {name}:{path}"),
        ):  # fmt: skip
            copier = _Copier(self._job(ref, path, "in", stack), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            stack.callback(copier.close)
            copier.feed(stream)
            copier.answer(f"cannot copy to {path} in {name}")

    def _job(self, ref: GuestRef, path: str, operation: str, stack: ExitStack) -> dict[str, Any]:
        if not path.startswith("/"):
            path = f"/{path}"
        if "\0" in path:
            raise UsageError("a path cannot hold a NUL byte")
        job = {"op": operation, "path": path, "root": None, "user_namespace": None}
        guest = self._guest(ref)
        config = self._store.config(ref.id)
        has_users = any(space["type"] == "user" for space in config["linux"].get("namespaces", ()))
        if guest.state in LIVE:
            return job | self._live(ref, stack, has_users=has_users)
        stack.enter_context(self._store.locked(ref.id, timeout_s=_LOCK_S))  # nobody starts it meanwhile
        if self._guest(ref).state in LIVE:
            raise WrongState(f"{guest.name} has just been started", hint="try again")
        folder = self._store.folder(ref.id)
        Snapshots(folder, guest.name).recover()
        record = self._store.record(ref.id)
        binds = [
            [mount["source"], mount["destination"]] for mount in config.get("mounts", ()) if mount.get("type") == "bind"
        ]
        saved = SavedLayers(self._store.state_dir)
        return job | {"layers": record.layers, "upper": str(folder / "upper"), "work": str(folder / "work"),
                      "target": str(folder / config["root"]["path"]), "binds": binds,
                      "maps": owners_in(config) if has_users else None,
                      "written_as": saved.owners(record.layers) if has_users else {}}  # fmt: skip

    def _live(self, ref: GuestRef, stack: ExitStack, *, has_users: bool) -> dict[str, Any]:
        status = self._store.status(ref.id)
        ended = WrongState(f"{self._guest(ref).name} has just ended", hint="try again")
        if status.pid is None:
            raise ended
        found: dict[str, Any] = {}
        try:
            found["root"] = os.open(f"/proc/{status.pid}/root", os.O_PATH | os.O_DIRECTORY)
            stack.callback(os.close, found["root"])
            if has_users:
                found["user_namespace"] = os.open(f"/proc/{status.pid}/ns/user", os.O_RDONLY)
                stack.callback(os.close, found["user_namespace"])
            # Only now: what was opened is then its, and not that of another process with the same pid.
            is_its = procfs.start_ticks(status.pid) == status.pid_start
        except (FileNotFoundError, ProcessLookupError):
            raise ended from None
        if not is_its:
            raise ended
        return found


class _Copier:
    """The process."""

    def __init__(self, job: dict[str, Any], *, stdin: int, stdout: int) -> None:
        reading, writing = os.pipe()
        self._status = os.fdopen(reading, "rb")
        passed = [fd for fd in (writing, job["root"], job["user_namespace"]) if fd is not None]
        arguments = [sys.executable, "-I", "-S", "-c", _CODE, json.dumps(job | {"status": writing})]
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8"}
        try:
            self.process = subprocess.Popen(
                arguments, stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL, pass_fds=passed, cwd="/",
                env=environment, bufsize=0,
            )  # fmt: skip
        except BaseException:
            self._status.close()
            raise
        finally:
            os.close(writing)

    def feed(self, stream: BinaryIO) -> None:
        """Give it all of a stream; it may end before."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            while block := stream.read(_BLOCK):
                self.process.stdin.write(block)
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def answer(self, what: str = "") -> dict[str, Any]:
        """Return what it says next. Raises NotFound, PermissionDenied, InnkeeperError."""
        line = self._status.readline()
        message: dict[str, Any] = json.loads(line) if line else {"error": "the process that copies died"}
        if "error" in message:
            text = f"{what}: {message['error']}" if what else message["error"]
            raise _KINDS.get(message.get("kind", ""), InnkeeperError)(text)
        return message

    def close(self) -> None:
        """End it, whatever it does."""
        for file in (self.process.stdin, self.process.stdout, self._status):
            if file is not None:
                with suppress(OSError):
                    file.close()
        self.process.kill()
        self.process.wait()


class _Stream(io.RawIOBase):
    """What the process writes; an error of it is raised at the end."""

    def __init__(self, copier: _Copier, resources: ExitStack) -> None:
        super().__init__()
        self._copier, self._resources = copier, resources
        self._is_checked = False

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; 0 at the end. Raises InnkeeperError if the copy broke off."""
        assert self._copier.process.stdout is not None
        data = self._copier.process.stdout.read(len(buffer))
        if not data:
            if not self._is_checked:
                self._is_checked = True
                self._copier.answer("the copy broke off")
            return 0
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """End the process if it still copies."""
        if not self.closed:
            self._resources.close()
        super().close()
