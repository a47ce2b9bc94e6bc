"""What `inn oci` says beside its result: to standard error, and to the --log file as its reader wants it."""

from __future__ import annotations

import os
import sys
import time

from backends import quick_json
from backends.oci.errors import OciError

_HIGHEST_FD = 1 << 20


class Log:
    """Lines of logrus, which docker, containerd, podman and the test suites read."""

    def __init__(self, path: str = "", form: str = "text", *, debug: bool = False) -> None:
        """Raises OciError for a format that is none, OSError for a file that cannot be written."""
        if form not in ("", "text", "json"):
            raise OciError(f"invalid log-format: {form}")
        self._form = form or "text"
        self.is_debug = debug
        self._fd: int | None = None
        """The log file's; standard error without one."""

        path = path.removeprefix("file:")
        if path:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def error(self, message: str) -> None:
        """Say why the command failed; with a log file to standard error too, as a plain line."""
        self._write("error", message)
        if self._fd is not None:
            _to_stderr(message)

    def plain(self, message: str) -> None:
        """Say it as the container's first process would: a line of its own on standard error, and in a log file."""
        if self._fd is None:
            _to_stderr(message)
        else:
            self.error(message)

    def warning(self, message: str) -> None:
        """Say what is not as asked for, but goes on."""
        self._write("warning", message)

    def debug(self, message: str) -> None:
        """Say what is done, with --debug only."""
        if self.is_debug:
            self._write("debug", message)

    def close_others(self, first: int) -> None:
        """Close what this process was given beside its standard streams and what is kept from `first` down."""
        kept = self._fd if self._fd is not None and self._fd >= first else None
        os.closerange(first, kept if kept is not None else _HIGHEST_FD)
        if kept is not None:
            os.closerange(kept + 1, _HIGHEST_FD)

    def _write(self, level: str, message: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._form == "json":
            line = quick_json.dumps({"level": level, "msg": message, "time": now})
        else:
            line = f'time="{now}" level={level} msg={quick_json.dumps(message)}'
        if self._fd is None:
            _to_stderr(line)
        else:
            os.write(self._fd, line.encode() + b"\n")


def _to_stderr(line: str) -> None:
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # closed: there is nobody to tell
        return
