"""A plain user's containers, by `inn` and by `inn oci`, with an account that exists in these tests only.

The account, its subordinate ids and its /dev/net/tun are bind mounts in a mount namespace of the test's own.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from backends.kernel.cgroup import detect
from backends.kernel.cgroup_steps import remove_directory
from backends.native import rootless, user_network
from tests.tools.bundles import Answer, Bundle, usual_config
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "busybox", "overlay"), pytest.mark.timeout(120)]

_UID = 61777
_DEVICES = {"tun": 200, "fuse": 229}
_CHECKOUT = Path(__file__).parents[2]
_PYTHON = "/usr/bin/python3"
"""The interpreter of the tests may be in a folder of root's."""


_END_SPAWNER = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from backends.native.client import SpawnerClient
from backends.native.store import ContainerStore
SpawnerClient(ContainerStore(Path(sys.argv[2]), Path(sys.argv[2])), "").shutdown()
"""


class PlainUser:
    """A user with a home, run directory and subordinate ids."""

    def __init__(self, folder: Path, code: Path, *, subordinate: int) -> None:
        self.folder, self.code, self.group = folder, code, ""
        etc = folder / "etc"
        for name in ("etc", "home", "run", "dev"):
            (folder / name).mkdir(parents=True)
        for name in ("home", "run"):
            os.chown(folder / name, _UID, _UID)
            (folder / name).chmod(0o700)
        line = f"anna:100000:{subordinate}\n" if subordinate else ""
        (etc / "subuid").write_text(line)
        (etc / "subgid").write_text(line)
        (etc / "passwd").write_text(Path("/etc/passwd").read_text() + f"anna:x:{_UID}:{_UID}::{folder}/home:/bin/sh\n")
        (etc / "group").write_text(Path("/etc/group").read_text() + f"anna:x:{_UID}:\n")
        for name, minor in _DEVICES.items():
            os.mknod(folder / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(10, minor))
            (folder / "dev" / name).chmod(0o666)
        for name in ("app", "backends", "widgets"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(_CHECKOUT / name, folder / "code" / name, ignore=ignored)
        shutil.copy(_CHECKOUT / "innkeeper.py", folder / "code")

    def does(self, *command: str) -> Answer:
        """Run a command as this user."""
        binds = {f"{self.folder}/etc/{name}": f"/etc/{name}" for name in ("passwd", "group", "subuid", "subgid")}
        targets = {"tun": "/dev/net/tun", "fuse": "/dev/fuse"}
        binds |= {f"{self.folder}/dev/{name}": path for name, path in targets.items() if os.path.exists(path)}
        lines = [f"touch {target}" for target in binds.values() if not os.path.exists(target)]
        lines += [f"mount --bind {source} {target}" for source, target in binds.items()]
        lines += [f"echo $$ > {folder}/cgroup.procs" for folder in self._groups()]
        environment = f"HOME={self.folder}/home XDG_RUNTIME_DIR={self.folder}/run PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        become = f"setpriv --reuid {_UID} --regid {_UID} --clear-groups --reset-env env {environment}"
        lines += ["cd /", f"exec {become} {shlex.join(command)}"]
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(lines)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
        )  # fmt: skip
        return Answer(done.returncode, done.stdout, done.stderr)

    def inn(self, *args: str) -> Answer:
        """Run `inn` as this user."""
        backend = () if args[0] == "oci" else ("--backend", "native")
        return self.does(_PYTHON, f"{self.code}/innkeeper.py", *args[:1], *backend, *args[1:])

    def delegate(self) -> None:
        """Give this user a part of every cgroup tree, in which his processes are from then on."""
        self.group = f"inn-test-{os.getpid()}"
        for hierarchy in detect().hierarchies:
            top = Path(hierarchy.directory(self.group))
            if hierarchy.version == 2:
                for name in hierarchy.controllers:
                    with suppress(OSError):  # one that v1 has
                        (top.parent / "cgroup.subtree_control").write_text(f"+{name}")
            for folder in (top, top / "session") if hierarchy.version == 2 else (top,):
                folder.mkdir()
                for name in ("cpuset.cpus", "cpuset.mems"):
                    if (folder / name).exists() and hierarchy.version == 1:
                        (folder / name).write_text((folder.parent / name).read_text())
                os.chown(folder, _UID, _UID)
                for path in folder.iterdir():
                    if path.is_file():
                        os.chown(path, _UID, _UID)

    def _groups(self) -> list[str]:
        if not self.group:
            return []
        tops = [(hierarchy.version, hierarchy.directory(self.group)) for hierarchy in detect().hierarchies]
        return [f"{top}/session" if version == 2 else top for version, top in tops]

    def has_processes(self) -> bool:
        """Say whether a program of his runs."""
        return subprocess.run(["pgrep", "-u", str(_UID)], capture_output=True).returncode == 0

    def remove(self) -> None:
        """End and remove all that is his."""
        run_dir = self.folder / "run" / "innkeeper"
        if (run_dir / "spawner").exists():
            names = self.inn("ps", "-aq").out.split()
            if names:
                self.inn("rm", "-f", *names)
            self.does(_PYTHON, "-c", _END_SPAWNER, str(self.code), str(run_dir))
        rootless.end(run_dir)
        if self.group:
            for hierarchy in detect().hierarchies:
                remove_directory(hierarchy.directory(self.group), timeout_s=5)
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def code() -> Iterator[Path]:
    """Innkeeper where everybody may read it; the checkout may be in a folder of root's."""
    if not os.path.exists(_PYTHON):
        pytest.skip(f"{_PYTHON} is missing")
    folder = Path(tempfile.mkdtemp(prefix="inn-test-"))
    folder.chmod(0o755)
    for name in ("app", "backends", "widgets"):
        shutil.copytree(_CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_CHECKOUT / "innkeeper.py", folder)
    subprocess.run([_PYTHON, "-m", "compileall", "-q", str(folder)], check=True, timeout=60)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def plain_user(code: Path) -> Iterator[Callable[..., PlainUser]]:
    """Make a plain user; he and all that is his are removed afterwards."""
    if not os.path.exists(_PYTHON):
        pytest.skip(f"{_PYTHON} is missing")
    made: list[PlainUser] = []

    def make(*, subordinate: int = 65536) -> PlainUser:
        folder = Path(tempfile.mkdtemp(prefix="inn-test-"))
        folder.chmod(0o755)
        made.append(PlainUser(folder, code, subordinate=subordinate))
        if made[-1].does("unshare", "--user", "true").code != 0:
            pytest.skip("this kernel has no user namespaces for plain users")
        return made[-1]

    yield make
    for user in made:
        user.remove()


MakeUser = Callable[..., PlainUser]


def test_a_plain_user_runs_a_container_in_which_he_is_root(plain_user: MakeUser) -> None:
    anna = plain_user()
    script = "id -u; cat /proc/self/uid_map; touch /new && stat -c %u /new; hostname -I >/dev/null; echo ok"
    answer = anna.inn("run", "--rm", "--network", "none", "host", "sh", "-c", script)
    expected = ["0", "0", str(_UID), "1", "1", "100000", "65536", "0", "ok"]
    assert answer.out.split() == expected, answer.err


def test_its_files_are_in_the_users_folders_and_go_with_it(plain_user: MakeUser) -> None:
    anna = plain_user()
    assert anna.inn("run", "-d", "--name", "box", "host", "sh", "-c", "chown 33 /tmp; exec sleep 1000").code == 0
    state = anna.folder / "home" / ".local" / "share" / "innkeeper" / "containers"
    assert len(list(state.iterdir())) == 1
    assert os.stat(state).st_uid == _UID
    assert "box" in anna.inn("ps").out
    assert anna.inn("exec", "box", "cat", "/proc/1/comm").out == "sleep\n"
    assert anna.inn("stop", "--timeout", "0", "box").code == 0
    assert anna.inn("start", "box").code == 0
    assert anna.inn("rm", "-f", "box").code == 0
    assert list(state.iterdir()) == []


def test_snapshots_clones_and_volumes_work_for_a_plain_user(plain_user: MakeUser) -> None:
    anna = plain_user()
    script = "echo 1 > /srv/f; chown 33 /srv/f; rm -r /etc/profile; touch /data/g; exec sleep 1000"
    assert anna.inn("run", "-d", "--name", "box", "-v", "/data", "host", "sh", "-c", script).code == 0
    wait_until(lambda: "g" in anna.inn("exec", "box", "ls", "/data").out)
    assert anna.inn("stop", "--timeout", "0", "box").code == 0
    assert anna.inn("snapshot", "create", "box", "one").out == "one\n"
    cloned = anna.inn("clone", "box", "copy")
    assert (cloned.code, cloned.out) == (0, "copy\n"), cloned
    told = anna.inn("run", "--rm", "host", "true")
    assert told.code == 0
    assert anna.inn("snapshot", "restore", "box", "one").code == 0
    for name in ("copy", "box"):
        assert anna.inn("start", name).code == 0
        look = anna.inn("exec", name, "sh", "-c", "stat -c %u /srv/f; ls /etc/profile /data; cat /srv/f")
        assert look.out.split() == ["33", "/data:", "g", "1"], (name, look)
    assert anna.inn("rm", "-f", "box", "copy").code == 0


def test_a_named_volume_of_a_plain_user_outlives_his_containers(plain_user: MakeUser) -> None:
    anna = plain_user()
    script = "echo kept > /data/f; chown 33 /data/f"
    assert anna.inn("run", "--rm", "--network", "none", "-v", "box:/data", "host", "sh", "-c", script).code == 0
    look = (
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        "box:/data:ro",
        "host",
        "sh",
        "-c",
        "cat /data/f; stat -c %u /data/f",
    )
    assert anna.inn(*look).out == "kept\n33\n"
    assert anna.inn("create", "--name", "user", "-v", "box:/data", "host", "true").code == 0
    refused = anna.inn("volume", "rm", "box")
    assert (refused.code, "user" in refused.err) == (1, True), refused
    assert anna.inn("rm", "user").code == 0
    assert anna.inn("volume", "rm", "box").out == "box\n"
    assert anna.inn("volume", "ls", "-q").out == ""


def test_a_user_without_subordinate_ids_has_one_user_only(plain_user: MakeUser) -> None:
    answer = plain_user(subordinate=0).inn("run", "--rm", "--network", "none", "host", "cat", "/proc/self/uid_map")
    assert answer.out.split() == ["0", str(_UID), "1"], answer.err


def test_limits_are_refused_where_no_group_was_delegated(plain_user: MakeUser) -> None:
    answer = plain_user().inn("run", "--rm", "--memory", "50M", "host", "true")
    assert answer.code != 0
    assert "no control group was delegated to this user" in answer.err


def test_limits_hold_in_a_delegated_group(plain_user: MakeUser) -> None:
    anna = plain_user()
    anna.delegate()
    assert anna.inn("run", "-d", "--name", "box", "--pids", "30", "host", "sleep", "1000").code == 0
    told = anna.inn("exec", "box", "cat", "/proc/self/cgroup").out
    (found,) = json.loads(anna.inn("inspect", "box").out)["cgroup"]["folders"][:1] or [""]
    assert anna.group in found, told
    most = [Path(folder, "pids.max") for folder in json.loads(anna.inn("inspect", "box").out)["cgroup"]["folders"]]
    assert [path.read_text() for path in most if path.exists()] == ["30\n"]
    assert anna.inn("pause", "box").code == 0
    assert anna.inn("resume", "box").code == 0


@pytest.mark.skipif(not any(map(shutil.which, user_network.PROGRAMS)), reason="neither pasta nor slirp4netns is here")
def test_it_has_a_network_by_pasta_or_slirp4netns(plain_user: MakeUser) -> None:
    anna = plain_user()
    if anna.does("sh", "-c", ": <>/dev/net/tun").code != 0:
        pytest.skip("this kernel has no tap devices, or a plain user may not open them")
    answer = anna.inn("run", "--rm", "host", "sh", "-c", "cat /proc/net/route; ls /sys/class/net")
    links = set(answer.out.split()[-3:])
    assert links & {"eth0", "tap0"}, answer.err


_KNOCK = """
import socket, sys
gateway = next(line.split()[2] for line in open("/proc/net/route") if line.split()[1] == "00000000")
try:
    socket.create_connection((socket.inet_ntoa(bytes.fromhex(gateway)[::-1]), int(sys.argv[1])), timeout=5)
    print("let in")
except OSError:
    print("turned away")
"""


@pytest.mark.skipif(not any(map(shutil.which, user_network.PROGRAMS)), reason="neither pasta nor slirp4netns is here")
def test_its_network_does_not_lead_to_the_hosts_loopback(plain_user: MakeUser) -> None:
    anna = plain_user()
    if anna.does("sh", "-c", ": <>/dev/net/tun").code != 0:
        pytest.skip("this kernel has no tap devices, or a plain user may not open them")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        answer = anna.inn("run", "--rm", "host", "/usr/bin/python3", "-I", "-S", "-c", _KNOCK, port)
    assert answer.out == "turned away\n", answer.err


def test_what_only_root_can_give_is_refused_in_words(plain_user: MakeUser) -> None:
    anna = plain_user()
    answer = anna.inn("run", "--rm", "--userns", "auto", "host", "true")
    assert answer.code != 0
    assert "--userns auto needs root" in answer.err
    answer = anna.inn("run", "--rm", "-p", "8080:80", "host", "true")
    assert answer.code != 0
    assert "port '8080:80' cannot be published by a plain user yet" in answer.err


_OLD_KERNEL = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from backends.kernel import fuse_overlay, linux
from backends.kernel.mapped_overlay import MountMappedOverlay
from backends.kernel.mounts import SetPropagation
from backends.native import rootless
home = Path(sys.argv[2])
rootless.enter(home / "run")
for name in ("lower/etc", "lower/srv", "upper", "work", "root"):
    (home / name).mkdir(parents=True)
fd = fuse_overlay.open_overlay([f"{home}/lower"], f"{home}/upper", f"{home}/work", f"{home}/root")
linux.unshare(linux.CLONE_NEWNS)
SetPropagation().run()
MountMappedOverlay((f"{home}/lower",), f"{home}/root", fd).run()
(home / "root" / "etc" / "new").write_text("written")
(home / "root" / "srv").rmdir()
print(sorted(os.listdir(home / "root")), sorted(os.listdir(home / "upper")), os.listdir(home / "lower" / "etc"))
"""


@pytest.mark.skipif(shutil.which("fuse-overlayfs") is None, reason="fuse-overlayfs is not here")
def test_layers_are_stacked_by_fuse_where_the_kernel_lets_only_root(plain_user: MakeUser) -> None:
    anna = plain_user()
    if anna.does("sh", "-c", ": <>/dev/fuse").code != 0:
        pytest.skip("this kernel has no FUSE, or a plain user may not open it")
    answer = anna.does(_PYTHON, "-c", _OLD_KERNEL, str(anna.code), f"{anna.folder}/home")
    rootless.end(anna.folder / "home" / "run")
    assert answer.out == "['etc'] ['etc', 'srv'] []\n", answer.err
    wait_until(lambda: not anna.has_processes(), what="fuse-overlayfs ends with the mount")


def test_doctor_says_what_a_plain_user_has(plain_user: MakeUser) -> None:
    said = plain_user().inn("doctor").out
    assert "in a user namespace" in said
    assert "65536 of anna" in said
    assert "no control group was delegated to this user" in said


def bundle_of(user: PlainUser) -> Bundle:
    """A bundle of busybox that belongs to the user, with a user namespace of its own."""
    bundle = Bundle.make(user.folder / "bundle")
    (bundle.folder / "rootfs" / "srv").mkdir()
    bundle.config = usual_config()
    bundle.process["capabilities"] = {key: ["CAP_CHOWN"] for key in ("bounding", "effective", "permitted")}
    bundle.linux["namespaces"].append({"type": "user"})
    maps = [{"containerID": 0, "hostID": _UID, "size": 1}, {"containerID": 1, "hostID": 100000, "size": 65536}]
    bundle.linux.update({"uidMappings": maps, "gidMappings": maps})
    for path in (bundle.folder, *bundle.folder.rglob("*")):
        os.chown(path, _UID, _UID, follow_symlinks=False)
    return bundle


def test_the_oci_runtime_maps_users_by_newuidmap(plain_user: MakeUser) -> None:
    anna = plain_user()
    bundle = bundle_of(anna)
    bundle.process["args"] = ["sh", "-c", "id -u; cat /proc/self/setgroups; chown 5:5 /srv && stat -c %u:%g /srv"]
    bundle.write()
    answer = anna.inn("oci", "run", "--bundle", str(bundle.folder), "box")
    assert answer.out.split() == ["0", "allow", "5:5"], answer.err


def test_the_oci_runtime_needs_no_tool_for_a_single_user(plain_user: MakeUser) -> None:
    anna = plain_user(subordinate=0)
    bundle = bundle_of(anna)
    one = [{"containerID": 0, "hostID": _UID, "size": 1}]
    bundle.linux.update({"uidMappings": one, "gidMappings": one})
    bundle.process["args"] = ["sh", "-c", "id -u; cat /proc/self/setgroups"]
    bundle.write()
    assert anna.inn("oci", "run", "--bundle", str(bundle.folder), "box").out.split() == ["0", "deny"]


def test_the_oci_runtime_names_ids_that_the_user_may_not_map(plain_user: MakeUser) -> None:
    anna = plain_user()
    bundle = bundle_of(anna)
    bundle.linux["gidMappings"][1] |= {"hostID": 5, "size": 10}
    bundle.write()
    answer = anna.inn("oci", "run", "--bundle", str(bundle.folder), "box")
    assert answer.code != 0
    assert "gid range [1-11) -> [5-15) not allowed" in answer.err


def test_the_oci_runtime_runs_below_another_root_of_a_user_namespace(plain_user: MakeUser) -> None:
    """As podman calls it for a plain user."""
    anna = plain_user()
    bundle = bundle_of(anna)
    bundle.config = usual_config("sh", "-c", "id -u; cat /proc/self/uid_map; ls /dev/null")
    bundle.write()
    runtime = f"{_PYTHON} {anna.code}/innkeeper.py oci run --bundle {bundle.folder} box"
    answer = anna.does("unshare", "--user", "--map-root-user", "sh", "-c", runtime)
    assert answer.out.split() == ["0", "0", str(_UID), "1", "/dev/null"], answer.err


def test_the_oci_runtime_refuses_limits_that_nobody_can_hold(plain_user: MakeUser) -> None:
    anna = plain_user()
    bundle = bundle_of(anna)
    bundle.linux["resources"] = {"memory": {"limit": 50_000_000}}
    bundle.write()
    answer = anna.inn("oci", "run", "--bundle", str(bundle.folder), "box")
    assert answer.code != 0
    assert "cgroup" in answer.err
