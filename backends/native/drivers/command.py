"""Calling an installed runtime, and making its errors ours."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from backends.errors import StartFailed, Unsupported
from backends.kernel import linux
from backends.oci import messages, terminal

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOT_FOUND = ("executable file not found", "no such file or directory", "executable file `", "cannot find")
_NOT_EXECUTABLE = ("permission denied", "is a directory", "exec format error", "not executable")
_FAILED_BYTES = 65536


def find(name: str) -> str:
    """Return the path of a program of the host. Raises Unsupported."""
    for folder in _PATH.split(":"):
        path = f"{folder}/{name}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise Unsupported(f"driver {name}: {name} is not installed", hint=f"apt install {name}")


def run(
    words: Sequence[str],
    *,
    stdio: Sequence[int],
    folder: Path,
    log: Path,
    timeout_s: float,
    prepare: Callable[[], None] = lambda: None,
) -> None:
    """Run a runtime to its end, in a folder, with nothing of ours open but stdio.

    prepare runs in its process before. Raises StartFailed with what the runtime wrote to its log.
    """
    log.unlink(missing_ok=True)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            _become(words, stdio, folder, prepare)
        except Exception as error:  # the end of a forked process
            with suppress(OSError):
                os.write(writing, json.dumps(messages.failure(error)).encode())
        finally:
            os._exit(126)
    os.close(writing)
    try:
        status = _wait(pid, timeout_s)
        failed = os.read(reading, _FAILED_BYTES)
    finally:
        os.close(reading)
    if failed:
        said = json.loads(failed)
        raise StartFailed(said["failed"], exit_code=said["exit_code"], hint=said.get("hint", ""))
    if status:
        raise _failure(words, log, status)


def _become(words: Sequence[str], stdio: Sequence[int], folder: Path, prepare: Callable[[], None]) -> None:
    terminal.reset_signals()
    prepare()
    if stdio:
        terminal.use_as_stdio(stdio)
    else:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        terminal.use_as_stdio((null, null, null))
    linux.close_range_cloexec(3)
    os.chdir(folder)
    os.execve(words[0], list(words), {"PATH": _PATH})


def _wait(pid: int, timeout_s: float) -> int:
    """Reap a child of ours and return its wait status. Raises StartFailed after the time; it is dead then."""
    pidfd = os.pidfd_open(pid)
    try:
        watch = select.poll()
        watch.register(pidfd, select.POLLIN)
        is_late = not watch.poll(timeout_s * 1000)
        if is_late:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(pidfd)
    if is_late:
        raise StartFailed(f"the runtime did not answer within {timeout_s:.0f} s")
    return status


def _failure(words: Sequence[str], log: Path, status: int) -> StartFailed:
    """Return the error that the runtime told, with docker's exit code for it."""
    said = _last_error(log) or f"ended with {os.waitstatus_to_exitcode(status)} and gave no reason"
    text, lower = f"{os.path.basename(words[0])}: {said}", said.lower()
    code = 125
    if "exec" in lower or "executable" in lower or "open `" in lower:
        if any(word in lower for word in _NOT_FOUND):
            code = 127
        if any(word in lower for word in _NOT_EXECUTABLE):
            code = 126
    return StartFailed(text, exit_code=code)


def _last_error(log: Path) -> str:
    found = ""
    with suppress(OSError):
        for line in log.read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("level") in ("error", "fatal"):
                found = str(entry.get("msg", "")) or found
    return found
