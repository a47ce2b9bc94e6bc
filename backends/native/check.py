"""What of the native runtime works on this host, for `inn doctor`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from backends.base import CheckResult
from backends.errors import InnkeeperError
from backends.kernel import idmap, lsm, nft, seccomp, traffic, userns
from backends.kernel.cgroup import detect
from backends.native import apparmor, drivers, rootless, user_network
from backends.native.drivers import command

_AREA = "native"


def check(state_dir: Path) -> Sequence[CheckResult]:
    """Return what matters to containers of our own; never raises."""
    existing = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    return [
        _root(),
        *_user_network(),
        *_way_out(),
        _limits(),
        *_traffic(),
        _seccomp(),
        _apparmor(),
        _mapped_mounts(existing),
        _subordinate_ids(),
        *(_driver(name) for name in drivers.NAMES if name != "native"),
        _state(state_dir),
    ]


def _root() -> CheckResult:
    if os.geteuid() == 0:
        return CheckResult(_AREA, "user", True, "root")
    refused = rootless.why_not()
    if refused:
        return CheckResult(_AREA, "user", False, f"uid {os.geteuid()}", refused, "sudo inn")
    why = "root inside is this user outside; without --userns, bridges, and devices of the host"
    return CheckResult(_AREA, "user", True, f"uid {os.geteuid()}, in a user namespace", why)


def _user_network() -> list[CheckResult]:
    if os.geteuid() == 0:
        return []
    found, refused = user_network.program(), user_network.why_not()
    if found:
        return [CheckResult(_AREA, "network of a plain user", True, found)]
    why = f"{refused}; containers have lo only"
    return [CheckResult(_AREA, "network of a plain user", None, "none", why, "apt install passt")]


def _way_out() -> list[CheckResult]:
    """Look for a chain of somebody else that drops what is forwarded: no rule of ours can take that back."""
    if os.geteuid() != 0 or nft.why_unavailable():
        return []
    title = "way out of containers"
    try:
        dropping = nft.dropping_forward()
    except InnkeeperError as error:
        return [CheckResult(_AREA, title, None, "not known", error.message)]
    if not dropping:
        return [CheckResult(_AREA, title, True, "nobody drops what is forwarded")]
    chain = "DOCKER-USER" if any(name == "FORWARD" for _, name in dropping) else dropping[0][1]
    back = "-o inn+ -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"
    mend = f"iptables -I {chain} -i inn+ -j ACCEPT; iptables -I {chain} {back}"
    why = (
        "another program drops forwarded packets by default (Docker does); rules of ours cannot undo that in its chain"
    )
    found = ", ".join(f"{table} {name} drops" for table, name in dropping)
    return [CheckResult(_AREA, title, False, found, why, mend)]


def _limits() -> CheckResult:
    try:
        reasons = rootless.delegated_host().reasons()
    except InnkeeperError as error:
        return CheckResult(_AREA, "limits", False, "none", error.message, error.hint)
    missing = {name: why for name, why in reasons.items() if why and not name.startswith("net_")}
    works = [name for name, why in reasons.items() if not why]
    if not missing:
        return CheckResult(_AREA, "limits", True, f"all {len(works)}")
    by_reason: dict[str, list[str]] = {}
    for name, reason in missing.items():
        by_reason.setdefault(reason, []).append(name)
    why = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
    return CheckResult(_AREA, "limits", None, f"{len(works)} work, {len(missing)} do not", why)


def _traffic() -> list[CheckResult]:
    """Say which network limits containers can have, of those who have links of their own."""
    if os.geteuid() != 0:
        return []
    title, no_rate, no_netem = "network limits", traffic.why_no_rate(), traffic.why_no_netem()
    if no_rate:
        return [CheckResult(_AREA, title, None, "no rates", no_rate, "modprobe sch_tbf")]
    if no_netem:
        why = f"{no_netem}: no --net-delay, no --net-jitter"
        return [CheckResult(_AREA, title, None, "rate and loss", why, traffic.NETEM_HINT)]
    return [CheckResult(_AREA, title, True, "rate, delay, jitter and loss")]


def _seccomp() -> CheckResult:
    reason = seccomp.why_unavailable()
    if reason:
        mend = "Boot a kernel with CONFIG_SECCOMP_FILTER"
        return CheckResult(_AREA, "seccomp filters", False, "not here", reason, mend)
    return CheckResult(_AREA, "seccomp filters", True, "compiled here")


def _apparmor() -> CheckResult:
    if lsm.has_apparmor():
        found = apparmor.default_profile()
        if found:
            return CheckResult(_AREA, "AppArmor", True, f"profile {found}")
        why, mend = (
            "containers get no profile of their own; one named by --security-opt is applied",
            "apt install apparmor",
        )
        return CheckResult(_AREA, "AppArmor", None, "in this kernel, and nothing to load a profile with", why, mend)
    why = "--security-opt apparmor=PROFILE is refused; capabilities, the filter and masked paths hold"
    return CheckResult(_AREA, "AppArmor", None, "not in this kernel", why)


def _mapped_mounts(folder: Path) -> CheckResult:
    """Try what --userns needs: owners of the disk's files shown as others (mount_setattr(2))."""
    title = "idmapped mounts"
    if os.geteuid() != 0:
        return CheckResult(_AREA, title, None, "not tried", "only root can make them")
    try:
        space = idmap.user_namespace([(0, 524288, 65536)], [(0, 524288, 65536)])
        try:
            os.close(idmap.open_mapped(str(folder), space, recursive=False, map_below=False))
        finally:
            os.close(space)
    except OSError as error:
        why = "--userns auto needs them on the disk of the state folder"
        mend = "Linux 5.19 and ext4, xfs, btrfs or, from 6.3, tmpfs"
        return CheckResult(_AREA, title, None, f"refused: {error.strerror}", why, mend)
    return CheckResult(_AREA, title, True, f"work on {folder}")


def _subordinate_ids() -> CheckResult:
    title, uid = "subordinate ids", os.geteuid()
    names = ("innkeeper", "containers") if uid == 0 else (userns.name_of(uid),)
    for name in names:
        sides = [userns.subordinates(path, name, uid if uid else -1) for path in ("/etc/subuid", "/etc/subgid")]
        if all(sides):
            counts = [sum(part.count for part in side) for side in sides]
            return CheckResult(_AREA, title, True, f"{min(counts)} of {name}")
    if uid == 0:
        why = "--userns auto takes from systemd's range for containers, clear of what /etc/subuid gives others"
        return CheckResult(_AREA, title, None, "none for innkeeper or containers", why)
    why = "containers of this user have one user only"
    mend = f"usermod --add-subuids 524288-589823 --add-subgids 524288-589823 {names[0]}"
    return CheckResult(_AREA, title, None, f"none for {names[0] or uid}", why, mend)


def _driver(name: str) -> CheckResult:
    title = f"driver {name}"
    try:
        command.find(name)
    except InnkeeperError as error:
        why = f"--driver {name} would run containers by it; ours needs nothing installed"
        return CheckResult(_AREA, title, None, "not installed", why, error.hint)
    try:
        drivers.get(name, Path("/")).check(detect())
    except InnkeeperError as error:
        return CheckResult(_AREA, title, None, "does not work here", error.message, error.hint)
    return CheckResult(_AREA, title, True, command.find(name))


def _state(state_dir: Path) -> CheckResult:
    existing = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    if os.access(existing, os.W_OK):
        return CheckResult(_AREA, "state folder", True, str(state_dir))
    return CheckResult(_AREA, "state folder", False, str(state_dir), f"{existing} cannot be written", "use --root DIR")
