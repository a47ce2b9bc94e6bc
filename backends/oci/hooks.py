"""Hooks: programs of the caller's that a container's life runs (config.md, "POSIX-platform Hooks")."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from backends import quick_json
from backends.errors import StartFailed
from backends.kernel import linux

_MAX_SHOWN = 2000


class HookFailed(StartFailed):
    """A hook ended with an error, was not there, or took too long; the words are runc's."""


def run(
    config: Mapping[str, Any],
    kind: str,
    state: Mapping[str, Any],
    *,
    folder: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run all hooks of a kind in order, the container's state on their standard input. Raises HookFailed.

    folder is their working directory; environment is for hooks that name none.
    """
    hooks: Sequence[Mapping[str, Any]] = (config.get("hooks") or {}).get(kind) or ()
    if not hooks:
        return
    text = quick_json.dumps(state).encode()
    for number, hook in enumerate(hooks):
        try:
            _run_one(hook, text, folder, os.environ if environment is None else environment)
        except HookFailed as error:
            raise HookFailed(f"error running {kind} hook #{number}: {error.message}") from None


def _run_one(hook: Mapping[str, Any], state: bytes, folder: str | None, environment: Mapping[str, str]) -> None:
    if hook.get("env") is not None:
        environment = dict(entry.partition("=")[::2] for entry in hook["env"])
    # Files in memory, not pipes: a hook need neither read its input nor close its output for us to go on.
    stdin, output = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("hook-state", "hook-output"))
    try:
        os.write(stdin, state)
        os.lseek(stdin, 0, os.SEEK_SET)
        pid = os.fork()
        if pid == 0:
            _become(hook, environment, folder, stdin, output)
        code = _wait(pid, hook.get("timeout"))
        if code != 0:
            said = os.pread(output, _MAX_SHOWN, 0).decode("utf-8", "replace").strip()
            how = f"exit status {code}" if code > 0 else f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"
            raise HookFailed(said if code == _NOT_RUN and said.startswith("fork/exec") else f"{how}, output: {said}")
    finally:
        os.close(stdin)
        os.close(output)


_NOT_RUN = 127


def _become(
    hook: Mapping[str, Any], environment: Mapping[str, str], folder: str | None, stdin: int, output: int
) -> None:
    """Become the hook. Never returns."""
    try:
        for number, fd in enumerate((stdin, output, output)):
            os.dup2(fd, number)
        linux.close_range_cloexec(3)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if folder is not None:
            os.chdir(folder)
        os.execve(hook["path"], hook.get("args") or [hook["path"]], dict(environment))
    except OSError as error:
        os.write(2, f"fork/exec {hook['path']}: {(error.strerror or '').lower()}".encode())
    finally:
        os._exit(_NOT_RUN)


def _wait(pid: int, timeout_s: float | None) -> int:
    """Return the exit code, or minus the signal. Raises HookFailed when it takes too long."""
    pidfd = os.pidfd_open(pid)
    try:
        watch = select.poll()
        watch.register(pidfd, select.POLLIN)
        if not watch.poll(None if not timeout_s else timeout_s * 1000):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise HookFailed(f"hook ran past specified timeout of {float(timeout_s or 0):.1f}s")
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
