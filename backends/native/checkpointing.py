"""The processes of a container to disk and back (CRIU)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from backends.container import CheckpointOptions
from backends.errors import InnkeeperError, NotFound, Unsupported, WrongState
from backends.model import GuestRef, GuestState
from backends.native.core import KEPT
from backends.native.drivers.restored import ASKED, FACTS, NETWORK
from backends.native.living import Living
from backends.native.networks import sharing
from backends.native.store import write_file
from backends.native.tracing import recorded
from backends.oci import criu
from backends.trace import Recorder

_ENDS_WITHIN_S = 30.0
_NOTE = "its processes are in a checkpoint"


class Checkpointing(Living):
    """checkpoint and restore."""

    def checkpoint(self, ref: GuestRef, options: CheckpointOptions, recorder: Recorder) -> None:
        """Write its processes to disk; they end with it, unless asked otherwise."""
        guest = self._guest(ref)
        program = criu.require(f"checkpoint {guest.name}")
        self._require_state(ref, GuestState.RUNNING, "checkpoint")
        self._require_simple(ref)
        image = self._image(ref, options)
        with self._store.locked(ref.id):
            pid = self._guest(ref).pid
            if pid is None:
                raise WrongState(f"{guest.name} has just ended")
            if options.path is None:
                shutil.rmtree(image, ignore_errors=True)
            image.mkdir(mode=0o700, parents=True, exist_ok=True)
            words = self._dump_command(ref, program, pid, image, options)
            if not options.leave_running:
                self._supervisor(ref).ask({"op": "ending", "note": _NOTE})
            with recorded(recorder, self._trace_path(ref), "criu", f"write the processes to {image}", " ".join(words)):
                done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd="/")
                if done.returncode:
                    if not options.leave_running:
                        with suppress(InnkeeperError):
                            self._supervisor(ref).ask({"op": "ending", "note": ""})
                    raise InnkeeperError(f"cannot checkpoint {guest.name}: {criu.failure('dump', image)}")
        self._journal.write(ref.id, guest.name, "checkpoint", image=image)
        if not options.leave_running:
            self.wait(ref, timeout_s=_ENDS_WITHIN_S)

    def restore(self, ref: GuestRef, options: CheckpointOptions, recorder: Recorder) -> None:
        """Bring its processes back."""
        guest = self._guest(ref)
        program = criu.require(f"restore {guest.name}")
        if guest.state in KEPT:
            raise WrongState(f"cannot restore {guest.name}: it is {guest.state.value}", hint="stop it first")
        image = self._image(ref, options)
        if not (image / FACTS).exists():
            hint = f"make one: inn checkpoint {guest.name}"
            raise NotFound(f"cannot restore {guest.name}: there is no checkpoint in {image}", hint=hint)
        asked = self._store.folder(ref.id) / ASKED
        write_file(asked, json.dumps({"program": program, "image": str(image), "options": criu.options(options)}))
        try:
            self.start(ref, recorder)
        finally:
            asked.unlink(missing_ok=True)
        self._journal.write(ref.id, guest.name, "restore", image=image)

    def _image(self, ref: GuestRef, options: CheckpointOptions) -> Path:
        return Path(os.path.abspath(options.path)) if options.path else self._store.folder(ref.id) / "checkpoint"

    def _require_simple(self, ref: GuestRef) -> None:
        """Raise Unsupported for what CRIU or we cannot bring back."""
        record, config = self._store.record(ref.id), self._store.config(ref.id)
        spaces = {space["type"] for space in config["linux"].get("namespaces", ())}
        reasons = {
            "it has a terminal": bool(config["process"].get("terminal")),
            "it has secrets, which are in memory only": bool(record.secrets),
            f"{record.driver} runs it": record.driver != "native",
            "it has users of its own": "user" in spaces,
            "it shares the host's processes": "pid" not in spaces,
            "its network is another container's": bool(sharing.owner_of(record)),
        }
        for reason, applies in reasons.items():
            if applies:
                raise Unsupported(f"cannot checkpoint {record.name}: {reason}")

    def _dump_command(
        self, ref: GuestRef, program: str, pid: int, image: Path, options: CheckpointOptions
    ) -> list[str]:
        config = self._store.config(ref.id)
        mounts = criu.external_mounts(pid)
        has_network = any(space["type"] == "network" for space in config["linux"].get("namespaces", ()))
        words = ["-t", str(pid), *criu.options(options), *(["--leave-running"] if options.leave_running else [])]
        for point in mounts:
            words += ["--external", f"mnt[{point}]:{point}"]
        if has_network:
            words += ["--external", f"net[{os.stat(f'/proc/{pid}/ns/net').st_ino}]:{NETWORK}"]
        facts = {"mounts": mounts, "pipes": _pipes(pid), "network": has_network}
        write_file(image / FACTS, json.dumps(facts))
        return criu.command(program, "dump", image, str(self._store.folder(ref.id) / config["root"]["path"]), words)


def _pipes(pid: int) -> dict[str, str]:
    """Return which of a program's first three descriptors are pipes to its supervisor, and their names."""
    found = {}
    for number in (0, 1, 2):
        with suppress(OSError):
            name = os.readlink(f"/proc/{pid}/fd/{number}")
            if name.startswith("pipe:"):
                found[str(number)] = name
    return found
