"""What the copying process (copier.py) is asked for, and the talk with it."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from backends.errors import InnkeeperError, NotFound, PermissionDenied, UsageError
from backends.native import rootless
from backends.trace import Recorder

_ROOT = Path(__file__).resolve().parents[3]
_CODE = f"import sys; sys.path.append({str(_ROOT)!r}); from backends.native.build.copier import main; main()"
_KINDS = {"NotFound": NotFound, "PermissionError": PermissionDenied, "UsageError": UsageError}
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Job:
    """One COPY, ADD or WORKDIR."""

    op: str
    """"digest" only reads, "copy" copies, "folder" makes the destination."""

    destination: str
    """Absolute; with a slash at its end a folder."""

    sources: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    """Here-documents: name and content."""

    context: str | None = None
    """Folder that the sources are in; None: source_layers."""

    source_layers: tuple[str, ...] = ()
    source_name: str = ""
    is_literal: bool = False
    """Wildcards in sources stand for themselves."""

    owner: str = ""
    mode: str = ""
    """As modes.py reads it; empty: as the source has it."""

    extracts: bool = False
    """Archives are unpacked: ADD."""

    ignore: str = ""
    """Content of .dockerignore."""

    stack: tuple[str, ...] = ()
    """Layers of the image, top first; the copy goes on top of them."""

    upper: str = ""
    work: str = ""
    target: str = ""
    source_target: str = ""
    """Empty folders to mount on, in a mount namespace of the process's own."""


def digest(job: Job, recorder: Recorder) -> str:
    """Return the digest of all that a job would copy. Raises NotFound, InnkeeperError, Cancelled."""
    # What it is copied onto does not matter, and needs not be mounted.
    return str(_run(replace(job, op="digest", stack=(), upper="", work=""), recorder)["digest"])


def perform(job: Job, recorder: Recorder) -> dict[str, Any]:
    """Do it, and return the digest of what was copied, and what was left out."""
    return _run(job, recorder)


def _run(job: Job, recorder: Recorder) -> dict[str, Any]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        bufsize=0,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asdict(job) | {"in_userns": rootless.is_inside()}).encode() + b"\n")
        process.stdin.close()
        while True:
            while not select.select([process.stdout], [], [], _LOOK_S)[0]:
                recorder.check()
            line = process.stdout.readline()
            recorder.check()
            message: dict[str, Any] = json.loads(line) if line else {"error": "the process that copies died"}
            if "done" not in message:
                return _answer(message)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _answer(message: dict[str, Any]) -> dict[str, Any]:
    if "error" in message:
        raise _KINDS.get(message.get("kind", ""), InnkeeperError)(message["error"], hint=message.get("hint", ""))
    return message
