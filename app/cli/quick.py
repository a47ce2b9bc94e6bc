"""`inn run` without the wait for Python: a few modules that ask a warm spawner for all of it.

Takes the common options of a `run` that needs no terminal. What it does not know, or cannot have (no spawner is up,
or one with other code), it leaves to app.cli.running, before anything was made. A program that is still running after
a moment is handed over to app.cli.foreground, which takes longer to load than that moment.

Loads C modules rather than their Python faces where those take milliseconds.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os
import sys

from backends.quick_json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_VALUES = {"--name": "name", "-w": "cwd", "--workdir": "cwd", "-u": "user", "--user": "user", "--hostname": "hostname",
           "--network": "network", "-e": "env", "--env": "env", "-p": "publish", "--publish": "publish",
           "--root": "root"}  # fmt: skip
_FLAGS = {"--rm": "auto_remove", "-d": "detach", "--detach": "detach"}
_LISTS = ("env", "publish")
_SIGNALS = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2)
_MOMENT_S, _START_S = 0.1, 90.0
_MOST_LOG = 1 << 20
_RUNTIME, _BROKEN_PIPE, _LARGEST = 125, 141, 262_144


def attempt(words: Sequence[str]) -> int | None:
    """Run the container and return the exit code; None if that is for others to do. Nothing was made then."""
    spec = parse(words)
    if spec is None or os.geteuid() != 0 or os.environ.get("INNKEEPER_BACKENDS") or not _has_streams():
        return None
    state, run = _places(spec.pop("root", None))
    detach = spec.pop("detach", False)
    try:
        sock = _connect(f"{run}/spawner")
    except OSError:
        return None
    request = {"op": "run", "spec": spec, "follow": not detach, "code": _here()}
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _SIGNALS)  # till somebody is there who hands them on
    try:
        sock.send(dumps(request).encode())
        sock.settimeout(_START_S)
        answer, held = _receive_with_log(sock)
    except (ConnectionResetError, BrokenPipeError):  # it ended with the request unread: another one will take it
        answer, held = None, None
    except OSError:
        answer, held = {"error": "the spawner does not answer"}, None
    if answer is None or "stale" in answer or answer.get("kind") == "NoSuchImage":  # it may be pulled
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _SIGNALS)
        sock.close()
        return None
    if "error" in answer:
        return _complain(answer)
    if detach:
        os.write(1, f"{answer['id']}\n".encode())
        return 0
    try:
        return _follow(words, sock, state, answer["id"], held)
    except BrokenPipeError:
        return _BROKEN_PIPE


def parse(words: Sequence[str]) -> dict[str, Any] | None:
    """Return the request that a command line makes; None if it needs more than is known here."""
    found: dict[str, Any] = {}
    rest = list(words)
    has_verb = False
    while (rest and rest[0].startswith("-")) or not has_verb:
        if not rest:
            return None
        word = rest.pop(0)
        if word == "run" and not has_verb:
            has_verb = True
            continue
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in _FLAGS and not equals:
            found[_FLAGS[name]] = True
        elif name in _VALUES and (equals or rest) and (has_verb or name == "--root"):
            _set(found, _VALUES[name], value if equals else rest.pop(0))
        else:
            return None
    if not rest or found.get("network", "") == "host" or set(found.get("network", "")) & set(":=,"):
        return None
    found["image"] = rest.pop(0)
    found["args"] = rest[1:] if rest[:1] == ["--"] else rest
    return found


def _set(found: dict[str, Any], key: str, value: str) -> None:
    if key == "env" and "=" not in value:
        if value not in os.environ:
            return
        value = f"{value}={os.environ[value]}"
    if key == "network" and key in found:
        value = f"{found[key]},{value}"  # several: not for us
    if key in _LISTS:
        found.setdefault(key, []).append(value)
    else:
        found[key] = value


def _has_streams() -> bool:
    """Say whether 0, 1 and 2 are open, so that nothing of ours becomes one of them."""
    try:
        for number in (0, 1, 2):
            os.fstat(number)
    except OSError:
        return False
    return True


def _places(root: str | None) -> tuple[str, str]:
    chosen = root or os.environ.get("INNKEEPER_ROOT")
    if chosen:
        state = os.path.abspath(chosen)
        return state, f"{state}/run"
    return "/var/lib/innkeeper", "/run/innkeeper"


def _here() -> str:
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def _connect(path: str) -> _socket.socket:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.settimeout(5.0)
        sock.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")  # short, whatever the folder's name is
    finally:
        os.close(folder)
    return sock


def _receive(sock: _socket.socket) -> dict[str, Any] | None:
    data = sock.recv(_LARGEST)
    return dict(loads(data.decode())) if data else None


def _receive_with_log(sock: _socket.socket) -> tuple[dict[str, Any] | None, int | None]:
    """Return the answer and the descriptor that keeps the log from being put aside before it is read, if one came."""
    data, ancillary, _, _ = sock.recvmsg(_LARGEST, _socket.CMSG_LEN(4), _socket.MSG_CMSG_CLOEXEC)
    fds = [_number(payload) for level, _, payload in ancillary if level == _socket.SOL_SOCKET and len(payload) >= 4]
    return (dict(loads(data.decode())) if data else None), (fds[0] if fds else None)


def _number(payload: bytes) -> int:
    return int.from_bytes(payload[:4], sys.byteorder)


def _complain(answer: dict[str, Any]) -> int:
    from app.cli.diagnostics import Talk
    from backends.errors import StartFailed

    Talk().error(StartFailed(str(answer["error"]), hint=str(answer.get("hint", ""))))
    return int(answer["exit_code"]) if answer.get("kind") == "StartFailed" else _RUNTIME


def _follow(words: Sequence[str], sock: _socket.socket, state: str, container_id: str, held: int | None) -> int:
    log = f"{state}/containers/{container_id}/log"
    try:
        sock.settimeout(_MOMENT_S)
        code = _end(sock)
    except TimeoutError:
        return _hand_over(words, sock, container_id, held)
    if os.path.exists(f"{log}.1") or os.path.getsize(log) > _MOST_LOG:
        return _hand_over(words, sock, container_id, held, code)
    _print(log)
    _take_leave(sock)
    return code


def _end(sock: _socket.socket) -> int:
    answer = _receive(sock)
    return _RUNTIME if answer is None else int(answer["exit_code"])


def _print(path: str) -> None:
    """Write what the program wrote: lines of "TIME stdout|stderr F|P TEXT"."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    lines = os.read(fd, _MOST_LOG + 1).split(b"\n")
    os.close(fd)
    for line in lines:
        parts = line.split(b" ", 3)
        if len(parts) == 4:
            data = parts[3] + (b"\n" if parts[2] == b"F" else b"")
            number = 2 if parts[1] == b"stderr" else 1
            while data:
                data = data[os.write(number, data) :]


def _take_leave(sock: _socket.socket) -> None:
    """Say that the log has been read, and wait until the supervisor is done with the container."""
    try:
        sock.settimeout(None)
        sock.send(b'{"op":"bye"}')
        while sock.recv(_LARGEST):
            pass
    except OSError:  # it has gone
        return


def _hand_over(
    words: Sequence[str], sock: _socket.socket, container_id: str, held: int | None, code: int | None = None
) -> int:
    """Go on with all that a foreground container may need."""
    from app.cli.packages import load_site

    load_site()
    from app.cli.running import follow_started

    def ready() -> None:
        if held is not None:
            os.close(held)

    def end() -> int:
        sock.settimeout(None)
        found = _end(sock) if code is None else code
        _take_leave(sock)
        return found

    return follow_started(words, container_id, ready, end)
