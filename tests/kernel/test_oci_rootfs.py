"""The root file system of a container, as config.json asks for it, made for real in a child process."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from backends.kernel.cgroup import detect
from tests.tools.needs import needs
from tests.tools.stage import DEV, PROC, Failed, Stage, bind, stage, tmpfs

__all__ = ["stage"]

pytestmark = needs("root", "busybox")


def options_at(text: str, place: str) -> set[str]:
    """Return the per-mount options of the mount on a place from /proc/self/mountinfo."""
    found = [line.split() for line in text.splitlines() if line.split()[4] == place]
    return set(found[-1][5].split(","))


def propagation_at(text: str, place: str) -> str:
    """Return the propagation of the mount on a place: its optional fields."""
    found = [line.split(" - ")[0].split()[6:] for line in text.splitlines() if line.split()[4] == place]
    return " ".join(word.split(":")[0] for word in found[-1])


class TestDefaults:
    def test_a_container_has_the_nodes_and_links_of_the_specification(self, stage: Stage) -> None:
        stage.mounts.append({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                             "options": ["newinstance", "ptmxmode=0666", "mode=0620"]})  # fmt: skip
        said = stage.run(
            "cd /dev; stat -c '%n %F %t:%T %a' null zero full random urandom tty; "
            "for link in fd stdin ptmx; do readlink $link; done"
        )
        assert said.splitlines() == [
            "null character special file 1:3 666",
            "zero character special file 1:5 666",
            "full character special file 1:7 666",
            "random character special file 1:8 666",
            "urandom character special file 1:9 666",
            "tty character special file 5:0 666",
            "/proc/self/fd",
            "/proc/self/fd/0",
            "pts/ptmx",
        ]

    def test_nothing_of_the_hosts_mounts_is_left_and_none_is_shared(self, stage: Stage) -> None:
        table = stage.run("cat /proc/self/mountinfo")
        assert [line.split()[4] for line in table.splitlines()] == ["/", "/proc", "/dev", "/sys"]
        assert "shared:" not in table

    def test_a_root_by_move_and_chroot_shows_no_more(self, stage: Stage) -> None:
        stage.no_pivot = True
        assert stage.run("ls /; cat /etc/shadow").split()[:3] == ["bin", "dev", "etc"]
        table = stage.run("cat /proc/self/mountinfo")
        assert options_at(table, "/sys") >= {"ro"}
        # The kernel would let a new procfs be mounted as long as a whole one is anywhere in the namespace.
        assert table.count(" - proc ") == 1

    def test_a_read_only_root_leaves_its_mounts_writable(self, stage: Stage) -> None:
        stage.readonly = True
        stage.mounts.append(tmpfs("/tmp"))
        assert stage.run("touch /x 2>&1; touch /tmp/x && echo written").splitlines() == [
            "touch: /x: Read-only file system",
            "written",
        ]

    def test_without_a_mount_namespace_one_mount_holds_all_and_goes_with_them(self, stage: Stage) -> None:
        stage.namespaces = ("pid", "network", "ipc", "uts")
        stage.readonly = True
        stage.mounts.append(tmpfs("/tmp"))
        said = stage.run("touch /x 2>&1; touch /tmp/x; ls /tmp; cat /proc/self/mounts | grep -c ' /tmp '")
        assert said == "touch: /x: Read-only file system\nx\n1\n"
        assert not (stage.root / "tmp/x").exists()


class TestMounts:
    def test_a_missing_destination_is_made_like_its_source(self, stage: Stage) -> None:
        (stage.bundle / "file").write_text("hello\n")
        (stage.bundle / "folder").mkdir()
        (stage.bundle / "folder/inside").touch()
        # Relative sources are relative to the bundle.
        stage.mounts += [bind("file", "/a/b/file"), bind("folder", "/c/d")]
        assert stage.run("cat /a/b/file; ls /c/d") == "hello\ninside\n"
        assert (stage.root / "a/b/file").is_file()

    def test_a_destination_below_the_hosts_path_of_the_root_is_meant_inside(self, stage: Stage) -> None:
        (stage.bundle / "file").write_text("hello\n")
        stage.mounts.append(bind("file", f"{stage.root}/tmp/file"))
        assert stage.run("cat /tmp/file") == "hello\n"

    def test_links_of_the_image_are_followed_inside_the_root_even_where_nothing_is_yet(self, stage: Stage) -> None:
        (stage.bundle / "hosts").write_text("here\n")
        (stage.root / "etc/hosts").symlink_to("/jump/baz/hosts")
        (stage.root / "jump").symlink_to("/tmp/foo/bar")
        (stage.root / "data").symlink_to("../../../../../tmp/volume")
        stage.mounts += [bind("hosts", "/etc/hosts"), tmpfs("/data", "mode=700")]
        assert stage.run("cat /tmp/foo/bar/baz/hosts; stat -c %a /tmp/volume") == "here\n700\n"

    def test_links_that_point_at_each_other_are_an_error(self, stage: Stage) -> None:
        (stage.root / "a").symlink_to("/b")
        (stage.root / "b").symlink_to("/a")
        stage.mounts.append(tmpfs("/a/x"))
        with pytest.raises(Failed, match="too many levels of symbolic links"):
            stage.run("true")

    def test_a_missing_source_is_told_as_runc_tells_it(self, stage: Stage) -> None:
        stage.mounts.append(bind("/no/such", "/x"))
        with pytest.raises(Failed, match=r'^error mounting "/no/such" to rootfs at "/x": no such file or directory$'):
            stage.run("true")

    def test_a_folder_on_a_file_is_told_in_the_words_that_docker_looks_for(self, stage: Stage) -> None:
        stage.mounts.append(bind("/etc", "/bin/busybox"))
        with pytest.raises(Failed, match=r": not a directory$"):
            stage.run("true")

    def test_file_systems_get_the_options_that_are_none_of_the_kernels(self, stage: Stage) -> None:
        stage.mounts.append(tmpfs("/tmp", "nosuid", "noexec", "size=128k", "mode=1700", "uid=5", "defaults"))
        table = stage.run("grep ' /tmp ' /proc/mounts")
        assert table == "tmpfs /tmp tmpfs rw,nosuid,noexec,relatime,size=128k,mode=1700,uid=5 0 0\n"

    def test_a_tmpfs_is_like_the_folder_it_covers_and_open_to_all_where_there_was_none(self, stage: Stage) -> None:
        (stage.root / "closed").mkdir(mode=0o710)
        stage.mounts += [tmpfs("/closed"), tmpfs("/new/one")]
        assert stage.run("stat -c %a /closed /new/one /new") == "710\n1777\n755\n"

    def test_a_read_only_tmpfs_takes_mounts_first(self, stage: Stage) -> None:
        stage.mounts[1] = DEV | {"options": [*DEV["options"], "ro"]}
        stage.mounts += [tmpfs("/data", "ro"), tmpfs("/data/below")]
        said = stage.run("touch /data/x /dev/x 2>&1; touch /data/below/x && echo written")
        assert said.count("Read-only") == 2
        assert said.endswith("written\n")

    def test_tmpcopyup_fills_the_tmpfs_with_what_it_covers(self, stage: Stage) -> None:
        folder = stage.root / "filled"
        (folder / "sub").mkdir(parents=True)
        (folder / "sub/script").write_text("text")
        os.chown(folder / "sub/script", 7, 8)
        (folder / "sub/script").chmod(0o4750)
        (folder / "link").symlink_to("sub/script")
        os.mkfifo(folder / "pipe")
        (folder / "sub").chmod(0o1777)
        stage.mounts.append(tmpfs("/filled", "tmpcopyup", "mode=755"))
        said = stage.run(
            "cd /filled; stat -c '%n %a %u:%g %F' sub sub/script pipe; readlink link; cat link; echo changed > link"
        )
        assert said.splitlines() == [
            "sub 1777 0:0 directory",
            "sub/script 4750 7:8 regular file",
            "pipe 644 0:0 fifo",
            "sub/script",
            "text",
        ]
        assert (folder / "sub/script").read_text() == "text"

    def test_remounting_changes_what_is_mounted_there(self, stage: Stage) -> None:
        stage.mounts += [tmpfs("/tmp", "size=64k"), tmpfs("/tmp", "remount", "size=128k", "noexec")]
        assert stage.run("grep ' /tmp ' /proc/mounts").split()[3] == "rw,noexec,relatime,size=128k,mode=755"

    def test_a_bind_takes_the_mounts_below_along_only_when_recursive(self, stage: Stage) -> None:
        stage.mounts += [tmpfs("/a"), tmpfs("/a/b"), bind(stage.root / "a", "/one")]
        stage.mounts.append(bind(stage.root / "a", "/all", "rbind"))
        table = stage.run("cat /proc/self/mountinfo")
        places = {line.split()[4] for line in table.splitlines()}
        assert "/all/b" in places
        assert "/one/b" not in places

    def test_a_bind_of_all_the_host_does_not_show_the_container_in_itself(self, stage: Stage) -> None:
        stage.mounts.append(bind("/", "/host", "rbind", "rslave"))
        assert stage.run(f"ls /host{stage.root}/proc | wc -l").strip() == "0"

    @pytest.mark.parametrize(
        "host,asked,present,absent",
        [
            ("ro,noexec,nosymfollow,nodiratime", "", "ro noexec nosymfollow nodiratime", "rw"),
            ("ro,noexec,nosymfollow,nodiratime", "dev", "rw nodiratime", "ro noexec nosymfollow"),
            ("ro", "rw nosuid nodev", "rw nosuid nodev", "ro"),
            ("nosuid,nodev,noexec,noatime", "ro", "ro noatime", "nosuid nodev noexec"),
            ("noatime", "atime", "noatime", "relatime"),
            ("noatime", "nodiratime", "nodiratime relatime", "noatime"),
            ("nodiratime", "strictatime", "", "nodiratime relatime noatime"),
        ],
    )
    def test_a_bind_has_exactly_the_flags_asked_for(
        self, stage: Stage, host: str, asked: str, present: str, absent: str
    ) -> None:
        place = str(stage.root / "tmp")
        stage.mounts += [tmpfs("/tmp", "strictatime"), bind("", "/tmp", "remount", *host.split(","))]
        stage.mounts.append(bind(place, "/shown", *asked.split()))
        found = options_at(stage.run("cat /proc/self/mountinfo"), "/shown")
        assert set(present.split()) <= found
        assert not set(absent.split()) & found

    @pytest.mark.parametrize(
        "option,mark,is_set",
        [("rro", "ro", True), ("rrw", "ro", False), ("rnosuid", "nosuid", True), ("rsuid", "nosuid", False),
         ("rnodev", "nodev", True), ("rnoexec", "noexec", True), ("rnoatime", "noatime", True),
         ("ratime", "relatime", True), ("rstrictatime", "relatime", False), ("rnodiratime", "nodiratime", True),
         ("rnosymfollow", "nosymfollow", True)],
    )  # fmt: skip
    def test_recursive_options_reach_every_mount_below(
        self, stage: Stage, option: str, mark: str, is_set: bool
    ) -> None:
        before = ["nosuid", "ro"] if option in ("rsuid", "rrw") else []
        stage.mounts += [tmpfs("/a"), tmpfs("/a/b", *before), bind(stage.root / "a", "/all", "rbind", option)]
        table = stage.run("cat /proc/self/mountinfo")
        for place in ("/all", "/all/b"):
            assert (mark in options_at(table, place)) is is_set, place

    def test_ro_on_a_recursive_bind_is_for_its_top_only(self, stage: Stage) -> None:
        stage.mounts += [tmpfs("/a"), tmpfs("/a/b"), bind(stage.root / "a", "/all", "rbind", "ro")]
        assert stage.run("touch /all/x 2>/dev/null || echo no; touch /all/b/x && echo yes") == "no\nyes\n"

    @pytest.mark.parametrize("how", ["shared", "slave", "private", "unbindable", "rshared"])
    def test_propagation_of_a_mount_is_as_asked(self, stage: Stage, how: str) -> None:
        # "slave" needs a master: the tmpfs is shared first.
        stage.mounts += [tmpfs("/a", "shared"), bind(stage.root / "a", "/b", how)]
        wanted = {"shared": "shared", "rshared": "shared", "slave": "master", "private": "", "unbindable": "unbindable"}
        assert propagation_at(stage.run("cat /proc/self/mountinfo"), "/b") == wanted[how]


class TestProc:
    @pytest.mark.parametrize("name", ["proc", "sys"])
    def test_proc_and_sys_are_mounted_on_real_folders_only(self, stage: Stage, name: str) -> None:
        (stage.root / name).rmdir()
        (stage.root / name).symlink_to("/etc")
        with pytest.raises(Failed, match=r'filesystem "(proc|sysfs)" must be mounted on ordinary directory'):
            stage.run("true")

    def test_nothing_is_mounted_over_or_into_proc_but_what_lxcfs_replaces(self, stage: Stage) -> None:
        (stage.bundle / "file").write_text("mine\n")
        stage.mounts.append(bind("file", "/proc/uptime"))
        assert stage.run("cat /proc/uptime") == "mine\n"
        (stage.root / "aside").symlink_to("/proc/sys")
        for destination in ("/proc/self/attr", "/proc/sys/kernel/hostname", "/aside/kernel/core_pattern"):
            stage.mounts[-1] = bind("file", destination)
            with pytest.raises(Failed, match="because it is inside /proc"):
                stage.run("true")
        for over in (tmpfs("/proc"), bind(stage.bundle, "/proc")):
            stage.mounts[-1] = over
            with pytest.raises(Failed, match="because it is not of type proc"):
                stage.run("true")


class TestDevices:
    def test_nodes_have_the_mode_and_owner_asked_for_despite_the_umask(self, stage: Stage) -> None:
        stage.linux["devices"] = [
            {"path": "/dev/sub/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o604, "uid": 3, "gid": 4},
            {"path": "/dev/disk/", "type": "b", "major": 7, "minor": 9},
            {"path": "/dev/fifo", "type": "p", "fileMode": 0o622},
            {"path": "/dev/tty", "type": "c", "major": 5, "minor": 0, "fileMode": 0o600},
        ]
        said = stage.run("cd /dev; stat -c '%n %F %t:%T %a %u:%g' sub/kmsg disk fifo tty")
        assert said.splitlines() == [
            "sub/kmsg character special file 1:b 604 3:4",
            "disk block special file 7:9 666 0:0",
            "fifo fifo 0:0 622 0:0",
            "tty character special file 5:0 600 0:0",
        ]

    def test_a_node_that_is_there_stays_and_another_file_is_an_error(self, stage: Stage) -> None:
        if os.statvfs(stage.root).f_flag & os.ST_NODEV:
            pytest.skip("the folder for temporary files takes no device nodes")
        stage.mounts = [PROC]
        os.mknod(stage.root / "dev/null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        assert stage.run("stat -c %a /dev/null") == "600\n"
        (stage.root / "dev/zero").unlink()
        (stage.root / "dev/zero").touch()
        with pytest.raises(Failed, match="error creating device nodes: /dev/zero: a file that is not the device c 1:5"):
            stage.run("true")

    def test_a_path_through_a_link_stays_inside_the_root(self, stage: Stage) -> None:
        (stage.root / "out").symlink_to("/../../../../../../etc")
        stage.linux["devices"] = [{"path": "/out/innkeeper-device", "type": "c", "major": 1, "minor": 3}]
        assert stage.run("stat -c %t:%T /etc/innkeeper-device") == "1:3\n"

    def test_the_hosts_null_device_is_no_descriptor_of_the_container(self, stage: Stage) -> None:
        before = stat.S_IMODE(os.stat("/dev/null").st_mode)

        def take_the_hosts() -> None:
            os.dup2(os.open("/dev/null", os.O_RDWR), 0)

        stage.before_pivot = take_the_hosts
        said = stage.run("chmod 600 /proc/self/fd/0; stat -L -c '%t:%T %a' /proc/self/fd/0 /dev/null")
        after = stat.S_IMODE(os.stat("/dev/null").st_mode)
        os.chmod("/dev/null", before)
        assert said.splitlines() == ["1:3 600", "1:3 600"]
        assert after == before

    def test_a_bound_dev_is_left_alone(self, stage: Stage) -> None:
        (stage.bundle / "devices").mkdir()
        stage.mounts[1] = bind("devices", "/dev")
        assert stage.run("ls /dev") == ""


CGROUPS = {
    "destination": "/sys/fs/cgroup",
    "type": "cgroup",
    "source": "cgroup",
    "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
}


class TestCgroups:
    @pytest.mark.parametrize("own", [True, False])
    def test_every_hierarchy_is_shown_read_only(self, stage: Stage, own: bool) -> None:
        if not own:
            stage.namespaces = ("pid", "network", "ipc", "uts", "mount")
        stage.mounts.append(CGROUPS)
        table = stage.run("cat /proc/self/mountinfo")
        shown = [line.split() for line in table.splitlines() if line.split()[4].startswith("/sys/fs/cgroup")]
        assert shown
        for line in shown:
            assert "ro" in line[5].split(",")
        kinds = {line.split(" - ")[1].split()[0] for line in table.splitlines() if " /sys/fs/cgroup" in line}
        assert kinds == ({"cgroup2"} if detect().mode == "v2" else {"tmpfs", "cgroup"})

    def test_without_a_namespace_of_its_own_it_sees_its_groups_only(self, stage: Stage) -> None:
        stage.namespaces = ("pid", "network", "ipc", "uts", "mount")
        stage.mounts.append(CGROUPS)
        if detect().mode == "v2":
            pytest.skip("v2 is shown whole then, as runc does")
        folder = Path("/sys/fs/cgroup/pids/innkeeper-test-mounts")
        folder.mkdir()
        try:
            stage.group_paths = {"/sys/fs/cgroup/pids": str(folder)}
            said = stage.run("ls -d /sys/fs/cgroup/pids/pids.max; stat -c %i /sys/fs/cgroup/pids")
            assert said.split() == ["/sys/fs/cgroup/pids/pids.max", str(folder.stat().st_ino)]
        finally:
            folder.rmdir()

    def test_what_is_mounted_into_the_tree_comes_after_it(self, stage: Stage) -> None:
        place = "/sys/fs/cgroup" if detect().mode == "v2" else "/sys/fs/cgroup/pids"
        stage.mounts += [CGROUPS, bind("/etc", f"{place}/../{place.split('/')[-1]}", "ro")]
        assert "passwd" in stage.run(f"ls {place}").split()


class TestPropagationOfTheRoot:
    @pytest.mark.parametrize(
        "how,seen",
        [("shared", "shared"), ("rshared", "shared"), ("slave", ""), ("private", ""), ("rprivate", ""),
         ("unbindable", "unbindable")],
    )  # fmt: skip
    def test_it_is_as_asked_and_leaks_nothing_to_the_host(self, stage: Stage, how: str, seen: str) -> None:
        stage.linux["rootfsPropagation"] = how
        found = propagation_at(stage.run("cat /proc/self/mountinfo"), "/")
        # Where the host's own mount is shared, a slave of it says so.
        assert found == seen or (how == "slave" and found == "master")


class TestMasks:
    def test_files_and_folders_are_hidden_and_what_is_missing_needs_no_mask(self, stage: Stage) -> None:
        for name in ("one", "two"):
            (stage.root / name).mkdir()
            (stage.root / name / "secret").touch()
        (stage.root / "file").write_text("secret")
        stage.linux["maskedPaths"] = ["/one", "/two", "/file", "/one", "/missing/path", "/file/below", "/proc/kcore"]
        said = stage.run(
            "ls /one /two; wc -c < /file; touch /one/x 2>&1; grep -c ' /one ' /proc/mounts; "
            "stat -c %d /one /two | uniq -c"
        )
        lines = said.splitlines()
        assert lines[:3] == ["/one:", "", "/two:"]
        assert lines[3:6] == ["0", "touch: /one/x: Read-only file system", "1"]
        assert lines[6].split()[0] == "2"  # both are the same file system

    def test_an_images_own_dev_null_masks_nothing(self, stage: Stage) -> None:
        # CVE-2025-31133
        (stage.bundle / "devices").mkdir()
        (stage.bundle / "devices/null").symlink_to("/proc/sys/kernel/core_pattern")
        stage.mounts[1] = bind("devices", "/dev")
        stage.linux["maskedPaths"] = ["/proc/kcore"]
        with pytest.raises(Failed, match="can't mask paths: container's /dev/null is invalid"):
            stage.run("true")

    def test_read_only_paths_are_so_with_all_below_them(self, stage: Stage) -> None:
        (stage.root / "part").mkdir()
        stage.mounts.append(tmpfs("/part/below"))
        stage.linux["readonlyPaths"] = ["/proc/sys", "/part", "/missing"]
        said = stage.run("echo 1 > /proc/sys/kernel/panic; touch /part/x /part/below/x; touch /tmp/x && echo written")
        assert said.count("Read-only file system") == 3
        assert said.endswith("written\n")


class TestHostileNeighbour:
    """Someone changes the root file system while it is being made ready."""

    @pytest.fixture
    def exchanging(self, stage: Stage) -> Iterator[Stage]:
        """A stage in whose root a folder and a symlink out of it change places all the time (CVE-2021-30465)."""
        (stage.bundle / "victim").mkdir()
        (stage.root / "volume").mkdir()
        (stage.root / "link").symlink_to(stage.bundle / "victim")
        pid = os.fork()
        if pid == 0:
            _exchange(str(stage.root / "volume"), str(stage.root / "link"))
        yield stage
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    @pytest.mark.timeout(90)
    def test_exchanged_links_lead_no_mount_out_of_the_root(self, exchanging: Stage) -> None:
        stage = exchanging
        stage.mounts += [bind("/etc", f"/volume/inner{number}", "ro") for number in range(20)]
        stage.mounts += [tmpfs(f"/volume/other{number}", "rshared") for number in range(20)]
        stage.mounts.append(bind("/etc/passwd", "/volume/passwd"))
        stage.linux["devices"] = [{"path": f"/volume/null{n}", "type": "c", "major": 1, "minor": 3} for n in range(20)]

        def look() -> None:
            table = Path("/proc/self/mountinfo").read_text()
            if f" {stage.bundle}/victim" in table:
                (stage.bundle / "astray").touch()

        stage.before_pivot = look
        complete = 0
        for _ in range(20):
            # To give up is allowed, to be led astray is not.
            with suppress(Failed):
                complete += stage.run("echo done") == "done\n"
            assert not (stage.bundle / "astray").exists()
            assert list((stage.bundle / "victim").iterdir()) == []
        assert complete


def _exchange(one: str, other: str) -> None:
    """Exchange two names for ever (renameat2(2), RENAME_EXCHANGE)."""
    libc = ctypes.CDLL(None)
    first, second = one.encode(), other.encode()
    while True:
        libc.renameat2(-100, first, -100, second, 2)


def test_options_of_a_file_system_mean_nothing_to_a_bind(stage: Stage) -> None:
    """As with mount(8) and other runtimes: the kernel has no place for them, and validation suites give them."""
    (stage.bundle / "folder").mkdir()
    stage.mounts.append(bind("folder", "/x", "size=1k", "mode=755", "nosuid"))
    assert "nosuid" in options_at(stage.run("cat /proc/self/mountinfo"), "/x")
