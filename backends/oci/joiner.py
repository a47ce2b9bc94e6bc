"""The processes that join a container: a stage that enters its namespaces, and its child, the program to be.

::

    stage   namespaces, all but those that end a birth into the group; forks; ends
    child   cgroup · session, keyring, terminal · user, capabilities, filter · program found · execve
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from backends.kernel import joining
from backends.kernel.cgroup_entrance import EnterGroup, Entrance
from backends.kernel.descriptors import guarded, keep_only
from backends.kernel.joining import FILES
from backends.kernel.keyring import JoinSessionKeyring
from backends.oci import entering, messages, process, program, stage, terminal
from backends.oci.errors import NotRunning
from backends.oci.join_request import JoinRequest
from backends.oci.messages import StepRunner


def kinds_to_join(config: Mapping[str, Any], pid: int) -> list[str]:
    """Return the types of namespaces that a container has of its own, and that are not ours already."""
    entries = (config.get("linux") or {}).get("namespaces") or ()
    return [kind for kind in (entry["type"] for entry in entries) if _differs(kind, pid)]


def _differs(kind: str, pid: int) -> bool:
    name = FILES.get(kind, kind)
    return os.stat(f"/proc/{pid}/ns/{name}").st_ino != os.stat(f"/proc/self/ns/{name}").st_ino


def run(request: JoinRequest, pidfd: int, sync: socket.socket) -> None:
    """Run in a fork of the runtime: enter the cgroup and the namespaces, and fork the program's process."""
    runner = StepRunner("stage", sync, is_traced=request.is_traced)
    try:
        stage.hide()
        keep_only(_kept(request, pidfd, sync))
        request.stdio = guarded(request.stdio)
        runner.run_all(process.affinity_steps(request.process, 0, final=False))
        entrance = None
        if request.group is not None:
            entrance = entering.entrance(request.group, request.sub_groups, request.pid)
        kinds = kinds_to_join(request.config, request.pid)
        # Where the mounts are not its own, its root is all that keeps a container from those of the host.
        root = None if "mount" in kinds else os.open(f"/proc/{request.pid}/root", os.O_PATH | os.O_DIRECTORY)
        # What was looked up by pid is the container's only if it still has that pid.
        signal.pidfd_send_signal(pidfd, 0)
        program.forbid_imports()
        # Inside its namespace of cgroups the kernel lets nobody be born in a group, so the child enters that itself.
        last = [] if "user" in kinds else [kind for kind in kinds if kind == "cgroup"]
        joining.join_process(pidfd, [kind for kind in kinds if kind not in last])
        runner.flush()
        pid = os.fork() if entrance is None else entrance.fork()
        if pid == 0:
            _child(request, sync, entrance, pidfd, last, root)
            os._exit(125)
        messages.send(sync, {"pid": pid})
    except (ProcessLookupError, FileNotFoundError):
        runner.report(NotRunning("cannot exec in a container that has just ended"))
    except Exception as error:  # the end of a forked process
        runner.report(error)


def _kept(request: JoinRequest, pidfd: int, sync: socket.socket) -> list[int]:
    """Return what of the runtime's descriptors is for the program, or for us."""
    ours = [pidfd, sync.fileno(), *([] if request.console is None else [request.console])]
    return [*range(request.first_fd), *request.stdio, *ours]


def _child(
    request: JoinRequest,
    sync: socket.socket,
    entrance: Entrance | None,
    pidfd: int,
    namespaces: Sequence[str],
    root: int | None,
) -> None:
    runner = StepRunner("exec", sync, is_traced=request.is_traced)
    try:
        if entrance is not None:
            runner.run(EnterGroup(entrance.path, entrance))
        if namespaces:
            joining.join_process(pidfd, namespaces)
        if root is not None:
            os.fchdir(root)
            os.chroot(".")
            os.close(root)
        # Entering a group with CPUs of its own has undone what was set before.
        runner.run_all(process.affinity_steps(request.process, 0, final=True))
        messages.receive(sync)
        os.setsid()
        terminal.reset_signals()
        if not request.no_new_keyring:
            runner.run(JoinSessionKeyring(f"_ses.{request.id}"))
        if request.process.get("terminal"):
            terminal.attach(
                "/", request.process, request.size, request.console, sync, plain_newlines=request.plain_newlines
            )
        else:
            terminal.use_as_stdio(request.stdio)
        found = program.become(
            runner,
            request.config,
            request.process,
            request.user,
            first_fd=request.first_fd,
            more_environment=[*request.more_environment, *program.listening(request.listen_fds)],
            take_listener=lambda fd: program.send_listener(sync, fd),
        )
        runner.flush()
        messages.send(sync, {"created": True})
        program.execute(found, request.first_fd, sync.fileno())
    except Exception as error:  # the end of a forked process
        runner.report(error)
