"""Which kernel acts a creation consists of, by who does them and when. Pure: nothing here runs.

::

    runtime   group_steps       the control group, its limits and devices
    stage     Namespaces        those of others, the user namespace, the rest
    init      alone_steps       into the group; the file system
    runtime   joined_steps      what is done to init from outside; then the caller's own (network)
    init      inside_steps      lo, the caller's own
              entering_steps    keyring, kernel parameters, names; the pivot and what it hides
              (oci/process.py)  user, capabilities, filter
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backends.kernel.account import Account
from backends.kernel.cgroup import detect
from backends.kernel.cgroup_entrance import EnterGroup, Entrance
from backends.kernel.keyring import USER_SEARCH, JoinSessionKeyring
from backends.kernel.namespaces import SetDomainname, SetHostname, Unshare, WriteSysctls
from backends.kernel.netlink import LoopbackUp
from backends.oci import birth, cgroups, process, resources, rootfs
from backends.oci.birth import BearInit
from backends.oci.request import CreateRequest
from backends.oci.rootfs import Scene
from backends.oci.stage import Namespaces
from backends.trace import Step


def scene_of(request: CreateRequest, namespaces: Namespaces) -> Scene:
    """Return what the file system's steps follow from."""
    group = request.group
    return Scene(
        config=request.config,
        bundle=request.bundle,
        root=request.root,
        cgroup_mode=group.host.mode if group is not None else detect().mode,
        has_userns="user" in namespaces,
        no_pivot=request.no_pivot,
        group_paths=dict(group.directories) if group is not None else {},
        is_root_mounted=bool(request.before_mounts),
    )


def group_steps(request: CreateRequest) -> list[Step]:
    """Return what makes and limits the control group."""
    group = request.group
    if group is None:
        return []
    if request.group_steps is not None:
        return [*group.create_steps(), *request.group_steps]
    wanted = resources.of(request.config)
    devices = resources.device_steps(group, wanted.get("devices") or ())
    return [*cgroups.create_steps(group, wanted), *resources.steps(group, wanted), *devices]


def alone_steps(
    request: CreateRequest, namespaces: Namespaces, scene: Scene, fds: Mapping[int, int], entrance: Entrance | None
) -> list[Step]:
    """Return what init does before it is told to go on."""
    steps: list[Step] = [EnterGroup(request.group.path, entrance)] if request.group is not None else []
    if "cgroup" in namespaces.new:
        steps.append(Unshare(("cgroup",)))
    return [*steps, *request.before_mounts, *rootfs.prepare_steps(scene, fds)]


def joined_steps(request: CreateRequest, pid: int) -> list[Step]:
    """Return what the runtime does once init exists, before host_steps."""
    return process.parent_steps(request.config, request.config["process"], pid)


def inside_steps(request: CreateRequest, namespaces: Namespaces) -> list[Step]:
    """Return what init does when told to go on, before the createContainer hooks."""
    return [*([LoopbackUp()] if "network" in namespaces.new else []), *request.in_container]


def entering_steps(request: CreateRequest, scene: Scene) -> list[Step]:
    """Return what follows those hooks, up to the program's user.

    Kernel parameters are written while the host's own /proc is in sight: it shows each process those of its
    own namespaces, and no image can put something in its place.
    """
    config, part = request.config, request.config.get("linux") or {}
    # Programs that join later have the same keys: they find the keyring by its name.
    keyring = JoinSessionKeyring(f"_ses.{request.id}", USER_SEARCH)
    steps: list[Step] = [] if request.no_new_keyring else [keyring]
    if part.get("sysctl"):
        steps.append(WriteSysctls(tuple(part["sysctl"].items())))
    if config.get("hostname"):
        steps.append(SetHostname(config["hostname"]))
    if config.get("domainname"):
        steps.append(SetDomainname(config["domainname"]))
    return [*steps, *rootfs.enter_steps(scene)]


def explain(request: CreateRequest, user: Account, runtime: str = "runtime") -> list[tuple[str, Step]]:
    """Return (process, step) of a creation in order, none of them run.

    user is who the program is taken to run as: one given by name is known only inside the container.
    """
    namespaces = Namespaces.of(request.config)
    scene = scene_of(request, namespaces)
    final = process.privilege_steps(request.config, request.config["process"], user)
    making: tuple[str, Sequence[Step]] = (runtime, [BearInit(namespaces.new_types())])
    if not birth.is_possible(namespaces):
        making = ("stage", [*namespaces.join_steps({}), *namespaces.user_steps(), *namespaces.new_steps()])
    parts: list[tuple[str, Sequence[Step]]] = [
        (runtime, group_steps(request)),
        making,
        (runtime, [*joined_steps(request, 0), *request.host_steps(0)]),
        ("init", alone_steps(request, namespaces, scene, {}, None)),
        ("init", inside_steps(request, namespaces)),
        ("init", entering_steps(request, scene)),
        ("init", final),
    ]
    return [(who, step) for who, steps in parts for step in steps]
