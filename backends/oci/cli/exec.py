"""`inn oci exec`: a program beside a container's first one."""

from __future__ import annotations

import os
from typing import Any

from backends.errors import StartFailed
from backends.oci import config, foreground, handing, labels, listeners, terminal, updating
from backends.oci.cli.command import Command
from backends.oci.cli.making import check_terminal, keep_descriptors, recorder_of
from backends.oci.errors import NotRunning, OciError
from backends.oci.foreground import Foreground, Signals
from backends.oci.join import Joined, JoinRequest, join
from backends.oci.state import Container


def run(command: Command) -> int:
    """Run it; the exit code is the program's unless detached."""
    container = command.container()
    _check_state(container, command.flag("ignore-paused"))
    known = container.config()
    process = _process(command, known)
    keep_descriptors(command)
    detach = command.flag("detach")
    check_terminal(bool(process.get("terminal")), detach, command.text("console-socket"))
    pid_file = os.path.abspath(command.text("pid-file")) if command.text("pid-file") else ""
    if detach:
        joined = _join(command, container, known, process)
        handing.send_pidfd(command.text("pidfd-socket"), joined.pidfd)
        handing.write_pid_file(pid_file, joined.pid)
        return 0
    signals = Signals()
    foreground.stay_parent()
    joined = _join(command, container, known, process)
    handing.send_pidfd(command.text("pidfd-socket"), joined.pidfd)
    handing.write_pid_file(pid_file, joined.pid)
    return Foreground(joined.pid, joined.pidfd, signals, joined.terminal_fd).run()


def _check_state(container: Container, ignore_paused: bool) -> None:
    now = container.status()
    if now == "stopped":
        raise NotRunning("cannot exec in a stopped container")
    if now == "paused" and not ignore_paused:
        raise OciError("cannot exec in a paused container (use --ignore-paused to override)")


def _join(command: Command, container: Container, known: dict[str, Any], process: dict[str, Any]) -> Joined:
    has_terminal, detach = bool(process.get("terminal")), command.flag("detach")
    sockets = listeners.take(process)
    request = JoinRequest(
        id=container.id,
        pid=container.pid,
        config=known,
        process=process,
        started_ticks=container.state.get("start_ticks"),
        group=updating.group_of(container) if (container.state.get("cgroup") or {}).get("folders") else None,
        sub_groups=command.options.get("cgroup") or (),
        console=terminal.connect(command.text("console-socket")) if has_terminal and detach else None,
        size=None if detach or not has_terminal else foreground.terminal_size(),
        plain_newlines=not detach,
        is_traced=command.log.is_debug,
        listen_fds=sockets,
        preserve_fds=command.options.get("preserve-fds", 0),
        ignore_paused=command.flag("ignore-paused"),
    )
    try:
        return join(request, recorder_of(command))
    except StartFailed as error:
        text = f"unable to start container process: {error.message}"
        raise StartFailed(text, exit_code=error.exit_code, hint=error.hint) from error


def _process(command: Command, known: dict[str, Any]) -> dict[str, Any]:
    if command.text("process"):
        return _process_of_file(command)
    if len(command.arguments) < 2:
        raise OciError("exec args cannot be empty")
    process: dict[str, Any] = {**known["process"], "args": command.arguments[1:], "terminal": command.flag("tty")}
    for option, name in (("cwd", "cwd"), ("apparmor", "apparmorProfile"), ("process-label", "selinuxLabel")):
        if command.text(option):
            process[name] = command.text(option)
    if "no-new-privs" in command.options:
        process["noNewPrivileges"] = command.flag("no-new-privs")
    process["env"] = [*(process.get("env") or ()), *(command.options.get("env") or ())]
    process["user"] = _user(command, process.get("user") or {})
    if command.options.get("cap"):
        process["capabilities"] = _capabilities(command.options["cap"], process.get("capabilities") or {})
    for warning in labels.drop_unknown(process):
        command.log.warning(warning)
    config.check_process(process)
    return process


def _process_of_file(command: Command) -> dict[str, Any]:
    process = config.parse(config.read(command.text("process")))
    for warning in labels.drop_unknown(process):
        command.log.warning(warning)
    config.check_process(process)
    return process


def _user(command: Command, known: dict[str, Any]) -> dict[str, Any]:
    user = dict(known)
    if command.text("user"):
        uid, colon, gid = command.text("user").partition(":")
        if colon:
            user["gid"] = _id(gid, "gid")
        user["uid"] = _id(uid, "uid")
    groups = [int_of(text) for word in command.options.get("additional-gids") or () for text in word.split(",")]
    if groups:
        user["additionalGids"] = [*(user.get("additionalGids") or ()), *groups]
    return user


def _id(text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise OciError(f'bad {what}: parsing "{text}": invalid syntax') from None


def int_of(text: str) -> int:
    """Return a group. Raises OciError for what is none."""
    number = _id(text, "gid")
    if number < 0:
        raise OciError(f"additional-gids must be a positive number {number}")
    return number


def _capabilities(wanted: list[str], known: dict[str, list[str]]) -> dict[str, list[str]]:
    """As runc: ambient ones only where there are inheritable ones already, the kernel wants those first."""
    names = [name for word in wanted for name in word.split(",")]
    sets = ["bounding", "effective", "permitted", *(["ambient"] if known.get("inheritable") is not None else [])]
    return {**known, **{one: [*(known.get(one) or ()), *names] for one in sets}}
