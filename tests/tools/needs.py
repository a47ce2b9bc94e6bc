"""What tests need of the host, and what becomes of those that do not find it.

    @needs("root", "cgroup.memory")
    def test_…

A test whose needs are not met is skipped with the reason, and each reason is listed at the end of the run.
Where a facility is expected, its absence fails the test instead: INNKEEPER_EXPECT names them, separated by
commas ("root,cgroup2.memory"; "cgroup2" covers all below it); without it CI=true expects EXPECTED_IN_CI.

Another facility is a function that returns "" or the reason for its absence:

    @facility("tmux")
    def _tmux(_: str) -> str:
        return "" if shutil.which("tmux") else "the program tmux is missing"

It gets what stands behind the first dot of the name ("memory" of "cgroup2.memory").
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from backends.errors import InnkeeperError
from backends.kernel import block, idmap, lsm
from backends.kernel.cgroup import CgroupHost, detect
from backends.native import apparmor
from tests.tools import uml

Check = Callable[[str], str]
_CHECKS: dict[str, Check] = {}

EXPECTED_IN_CI = ("root", "cgroup.cpu", "cgroup.memory", "cgroup.pids", "cgroup.freeze", "disk", "tmux", "strace")
"""What any machine that CI runs on has; lanes name more with INNKEEPER_EXPECT."""


def needs(*facilities: str) -> pytest.MarkDecorator:
    """Mark a test, class or module (`pytestmark`) with what it needs."""
    return pytest.mark.needs(*facilities)


def facility(name: str) -> Callable[[Check], Check]:
    """Register the check of a facility, or of all whose name begins with it and a dot."""

    def register(check: Check) -> Check:
        _CHECKS[name] = check
        return check

    return register


@cache
def why_missing(name: str) -> str:
    """Return "" if the host has the facility, else the reason. Raises KeyError for an unknown one."""
    first, _, rest = name.partition(".")
    return _CHECKS[first](rest)


def is_expected(name: str) -> bool:
    """True if this run must have the facility."""
    default = ",".join(EXPECTED_IN_CI) if os.environ.get("CI") == "true" else ""
    expected = os.environ.get("INNKEEPER_EXPECT", default).replace(" ", "").split(",")
    return any(name == word or name.startswith(f"{word}.") for word in expected if word)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail a test whose needs are not met."""
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            reason = why_missing(name)
            if reason and is_expected(name):
                pytest.fail(f"this run must have {name}: {reason}", pytrace=False)
            if reason:
                pytest.skip(f"needs {name}: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List each reason for skipped tests once."""
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports if report.longrepr)
    if reasons:
        terminalreporter.section("what was not tested, and why")
        for reason, count in sorted(reasons.items()):
            terminalreporter.write_line(f"{count:4} {reason}")


@facility("root")
def _root(_: str) -> str:
    return "" if os.geteuid() == 0 else "this user is not root"


@cache
def _host() -> CgroupHost | None:
    try:
        return detect()
    except InnkeeperError:
        return None


def _cgroup(rest: str, version: int | None) -> str:
    host = _host()
    if host is None:
        return "no cgroups are mounted"
    if rest in ("freeze", "kill"):
        return _cgroup_act(host, rest, version)
    found = host.hierarchy(rest) if rest else host.hierarchies[0]
    if found is None:
        return f"this {host.mode} host has no {rest} controller"
    if version is not None and found.version != version:
        return f"on this {host.mode} host {rest or 'it'} is in cgroup v{found.version}"
    return "" if os.access(found.mount, os.W_OK) else f"this user may not write to {found.mount}"


def _cgroup_act(host: CgroupHost, act: str, version: int | None) -> str:
    if host.unified is not None and version != 1:
        return ""  # cgroup.freeze since Linux 5.2, cgroup.kill since 5.14: all that are tested have them
    if act == "freeze" and version != 2 and host.hierarchy("freezer"):
        return ""
    return f"this {host.mode} host has no cgroup.{act}"


@facility("cgroup")
def _any_cgroup(rest: str) -> str:
    return _cgroup(rest, None)


@facility("cgroup1")
def _cgroup1(rest: str) -> str:
    return _cgroup(rest, 1)


@facility("cgroup2")
def _cgroup2(rest: str) -> str:
    return _cgroup(rest, 2)


@facility("limit")
def _limit(field: str) -> str:
    host = _host()
    return "no cgroups are mounted" if host is None else host.reasons()[field]


@facility("psi")
def _psi(_: str) -> str:
    if not Path("/proc/pressure/cpu").exists():
        return "this kernel has no pressure figures"
    host = _host()
    return "" if host is not None and host.unified is not None else "no cgroup v2 hierarchy is mounted"


@cache
def disk_folder() -> Path | None:
    """Return a folder on a whole disk for tests of I/O, or None if this host has none that can be written to."""
    named = os.environ.get("INNKEEPER_TEST_DISK")
    for folder in filter(None, (named, os.environ.get("TMPDIR"), "/var/tmp", "/tmp")):
        if os.access(folder, os.W_OK) and block.disk_holding(folder) in block.whole_disks():
            return Path(folder)
    return None


@facility("disk")
def _disk(_: str) -> str:
    return "" if disk_folder() else "no folder that can be written to is on a whole disk"


@facility("uml")
def _uml(_: str) -> str:
    return uml.why_not()


def _program(name: str) -> None:
    where = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    _CHECKS[name] = lambda _: "" if shutil.which(name, path=where) else f"the program {name} is missing"


for _name in (
    "tmux", "strace", "busybox", "virsh", "qemu-system-x86_64", "docker-registry", "skopeo", "umoci", "buildah",
    "iperf3", "openssl", "ping", "sysbench",
):  # fmt: skip
    _program(_name)


PROGRAMS_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/libexec/podman"
"""Where the programs of container engines are."""


@facility("docker")
def _docker(_: str) -> str:
    found = shutil.which("dockerd", path=PROGRAMS_PATH) and shutil.which("docker")
    return "" if found else "the package docker.io is missing"


@facility("podman")
def _podman(_: str) -> str:
    found = shutil.which("podman") and shutil.which("conmon", path=PROGRAMS_PATH)
    return "" if found else "the package podman is missing"


@facility("libvirt")
def _libvirt(_: str) -> str:
    if importlib.util.find_spec("libvirt") is None:
        return "the Python package libvirt-python is missing"
    return "" if shutil.which("libvirtd", path="/usr/sbin:/sbin") else "the program libvirtd is missing"


@facility("overlay")
def _overlay(_: str) -> str:
    listed = Path("/proc/filesystems").read_text().split()
    return "" if "overlay" in listed else "this kernel has no overlay file system"


@facility("userns")
def _userns(_: str) -> str:
    allowed = Path("/proc/sys/user/max_user_namespaces")
    return "" if allowed.exists() and allowed.read_text().strip() != "0" else "there are no user namespaces"


@facility("idmap")
def _idmap(_: str) -> str:
    try:
        space = idmap.user_namespace(((0, 1000, 1),), ((0, 1000, 1),))
        os.close(idmap.MappedTree(space).open(tempfile.gettempdir(), recursive=False))
    except OSError as error:
        return f"owners of mounts cannot be mapped in {tempfile.gettempdir()}: {error.strerror}"
    return ""


@facility("apparmor")
def _apparmor(_: str) -> str:
    if not lsm.has_apparmor():
        return "this kernel runs without AppArmor"
    return "" if apparmor.default_profile() else "apparmor_parser is missing, or /sys/kernel/security is not mounted"


@facility("timens")
def _timens(_: str) -> str:
    return "" if Path("/proc/self/ns/time").exists() else "this kernel has no time namespaces"
