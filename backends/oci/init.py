"""A container's first process, from the fork to execve.

::

    cgroup, cgroup namespace · mounts · waits for "go"      (the runtime meanwhile: network, hooks)
    lo, network · createContainer hooks · keyring, sysctl, names · terminal
    cgroup mounts, pivot_root, masks         (from here on only the image's files are in sight)
    user, capabilities, filter · program found · "created" · waits at the gate
    startContainer hooks · execve
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from backends.kernel import linux, rooted
from backends.kernel.cgroup_entrance import Entrance
from backends.oci import hooks, messages, program, steps, terminal
from backends.oci.messages import StepRunner
from backends.oci.request import CreateRequest
from backends.oci.rootfs import Scene
from backends.oci.stage import Namespaces


def run(
    request: CreateRequest,
    namespaces: Namespaces,
    scene: Scene,
    mount_fds: Mapping[int, int],
    sync: socket.socket,
    entrance: Entrance | None,
) -> None:
    """Run in init. Comes back only if there is no program, which has been told then."""
    gate = request.gate
    runner = StepRunner("init", sync, is_traced=request.is_traced)
    try:
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        os.setsid()
        os.umask(0o022)
        terminal.reset_signals()
        runner.run_all(steps.alone_steps(request, namespaces, scene, mount_fds, entrance))
        runner.flush()
        state: Mapping[str, Any] = messages.receive(sync)[0].get("state") or {}
        found = _enter(request, namespaces, scene, runner, sync, state)
    except Exception as error:  # the end of a forked process
        runner.report(error)
        return
    try:
        gate_fd = gate.wait(sync)
        state = {**state, "status": "created", "pid": os.getpid()}
        hooks.run(request.config, "startContainer", state, environment=found.environment)
        gate.leave()
        program.execute(found, request.first_fd, gate_fd)
    except Exception as error:  # the end of a forked process
        gate.fail(messages.failure(error))


def _enter(
    request: CreateRequest,
    namespaces: Namespaces,
    scene: Scene,
    runner: StepRunner,
    sync: socket.socket,
    state: Mapping[str, Any],
) -> program.Program:
    """Become what the container's program will be, up to execve."""
    config, process = request.config, request.config["process"]
    runner.run_all(steps.inside_steps(request, namespaces))
    hooks.run(config, "createContainer", {**state, "pid": os.getpid()}, folder=scene.root)
    # A working directory that is missing is made; where the root is to be read-only, now is the time.
    rooted.make_directory(scene.root, process["cwd"])
    if process.get("terminal"):
        is_console = "mount" in namespaces
        terminal.attach(
            scene.root, process, request.size, request.console, sync,
            is_console=is_console, plain_newlines=request.plain_newlines,
        )  # fmt: skip
    else:
        terminal.use_as_stdio(request.stdio)
    entering = steps.entering_steps(request, scene)
    program.forbid_imports()
    runner.run_all(entering)
    found = program.become(
        runner,
        config,
        process,
        request.user,
        first_fd=request.first_fd,
        more_environment=program.listening(request.listen_fds),
        take_listener=lambda fd: program.send_listener(sync, fd),
    )
    runner.flush()
    messages.send(sync, {"created": True})
    return found
