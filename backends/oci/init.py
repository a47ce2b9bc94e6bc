"""A container's first process, from the fork to execve.

::

    mounts · tells nothing, waits for "go"   (the runtime meanwhile: cgroup, network, hooks)
    cgroup namespace · lo, network · createContainer hooks · keyring, sysctl, names · terminal
    cgroup mounts, pivot_root, masks         (from here on only the image's files are in sight)
    user, capabilities, filter · program found · "created" · waits at the gate
    startContainer hooks · execve
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from backends.kernel import linux, rooted
from backends.kernel.keyring import JoinSessionKeyring
from backends.kernel.namespaces import SetDomainname, SetHostname, Unshare, WriteSysctls
from backends.kernel.netlink import LoopbackUp
from backends.oci import hooks, messages, program, rootfs, terminal
from backends.oci.messages import StepRunner
from backends.oci.stage import Namespaces
from backends.trace import Step

if TYPE_CHECKING:
    from backends.oci.request import CreateRequest
    from backends.oci.rootfs import Scene


def alone_steps(request: CreateRequest, scene: Scene, fds: Mapping[int, int]) -> list[Step]:
    """Return what init does before it is told to go on."""
    return [*request.before_mounts, *rootfs.prepare_steps(scene, fds)]


def joined_steps(request: CreateRequest, namespaces: Namespaces) -> list[Step]:
    """Return what init does in its cgroup, before the createContainer hooks."""
    steps: list[Step] = [Unshare(("cgroup",))] if "cgroup" in namespaces.new else []
    if "network" in namespaces.new:
        steps.append(LoopbackUp())
    return [*steps, *request.in_container]


def entering_steps(request: CreateRequest, scene: Scene) -> list[Step]:
    """Return what follows those hooks, up to the program's user.

    Kernel parameters are written while the host's own /proc is in sight: it shows each process those of its
    own namespaces, and no image can put something in its place.
    """
    config, part = request.config, request.config.get("linux") or {}
    steps: list[Step] = [] if request.no_new_keyring else [JoinSessionKeyring(f"_ses.{request.id}")]
    if part.get("sysctl"):
        steps.append(WriteSysctls(tuple(part["sysctl"].items())))
    if config.get("hostname"):
        steps.append(SetHostname(config["hostname"]))
    if config.get("domainname"):
        steps.append(SetDomainname(config["domainname"]))
    return [*steps, *rootfs.enter_steps(scene)]


def run(request: CreateRequest, scene: Scene, mount_fds: Mapping[int, int], sync: socket.socket) -> None:
    """Run in init. Comes back only if there is no program, which has been told then."""
    gate = request.gate
    runner = StepRunner("init", sync, is_traced=request.is_traced)
    try:
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        os.setsid()
        os.umask(0o022)
        terminal.reset_signals()
        runner.run_all(alone_steps(request, scene, mount_fds))
        runner.flush()
        state: Mapping[str, Any] = messages.receive(sync)[0].get("state") or {}
        found = _enter(request, scene, runner, sync, state)
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
    request: CreateRequest, scene: Scene, runner: StepRunner, sync: socket.socket, state: Mapping[str, Any]
) -> program.Program:
    """Become what the container's program will be, up to execve."""
    config, process = request.config, request.config["process"]
    runner.run_all(joined_steps(request, Namespaces.of(config)))
    hooks.run(config, "createContainer", {**state, "pid": os.getpid()}, folder=request.bundle)
    # A working directory that is missing is made; where the root is to be read-only, now is the time.
    rooted.make_directory(scene.root, process["cwd"])
    if process.get("terminal"):
        is_console = "mount" in Namespaces.of(config)
        terminal.attach(scene.root, process, request.size, request.console, sync, is_console=is_console)
    else:
        terminal.use_as_stdio(request.stdio)
    program.forbid_imports()
    runner.run_all(entering_steps(request, scene))
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
