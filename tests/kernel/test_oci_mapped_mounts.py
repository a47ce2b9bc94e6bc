"""Mounts in a user namespace, and mounts that show other owners."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from backends.errors import InnkeeperError
from tests.tools.needs import needs
from tests.tools.stage import DEV, PROC, SYS, Failed, Stage, bind, stage, tmpfs

__all__ = ["stage"]
pytestmark = needs("root", "busybox", "userns")

OVERFLOW = "65534:65534"


def mapping(inside: int, outside: int, size: int) -> dict[str, Any]:
    """Return both maps of a mount in config.json."""
    entries = [{"containerID": inside, "hostID": outside, "size": size}]
    return {"uidMappings": entries, "gidMappings": entries}


def options_at(text: str, place: str) -> set[str]:
    """Return the per-mount options of the mount on a place from /proc/self/mountinfo."""
    return set([line.split() for line in text.splitlines() if line.split()[4] == place][-1][5].split(","))


@pytest.fixture
def source(stage: Stage) -> Path:
    """A folder of the host with a file of root and one of user 5."""
    folder = stage.bundle / "source"
    folder.mkdir()
    for name, owner in (("roots", 0), ("theirs", 5)):
        (folder / name).touch()
        os.chown(folder / name, owner, owner)
    return folder


class TestUserNamespace:
    def test_the_default_mounts_and_the_hosts_nodes_are_there(self, stage: Stage) -> None:
        stage.map_users()
        stage.mounts += [
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["newinstance", "ptmxmode=0666", "mode=0620", "gid=70000"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
        ]  # fmt: skip
        stage.linux |= {"maskedPaths": ["/proc/kcore", "/sys/firmware"], "readonlyPaths": ["/proc/sys"]}
        said = stage.run(
            "echo x > /dev/null && head -c 2 /dev/zero | wc -c; stat -c %t:%T /dev/full; ls /sys/firmware | wc -l; "
            "echo 1 > /proc/sys/kernel/panic; ls -d /sys/fs/cgroup/*"
        )
        lines = said.splitlines()
        assert lines[:3] == ["2", "1:7", "0"]
        assert "Read-only" in lines[3]
        assert len(lines) > 4

    def test_what_belongs_to_a_shared_namespace_is_the_hosts_own(self, stage: Stage) -> None:
        stage.map_users()
        stage.namespaces = ("pid", "uts", "mount")
        stage.mounts += [SYS, {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}]
        stage.mounts.pop(2)
        queues = Path("/dev/mqueue").is_mount()
        if not queues:
            stage.mounts.pop()
        table = stage.run("ls /sys/class/net > /dev/null && cat /proc/self/mountinfo")
        assert "ro" in options_at(table, "/sys")
        assert " - mqueue " in table or not queues

    @pytest.mark.parametrize(
        "host,asked,present,absent",
        [
            ("ro,noexec,nosymfollow,nodiratime", "", "ro noexec nosymfollow nodiratime", "rw"),
            ("ro,noexec,nosymfollow,nodiratime", "dev", "ro noexec nodiratime", "rw nosymfollow"),
            ("ro", "nosuid nodev", "ro nosuid nodev", "rw"),
            ("nodev,nosuid,noexec,noatime", "ro", "ro nosuid nodev noexec noatime", "rw"),
            ("strictatime", "nostrictatime", "rw", "relatime noatime"),
        ],
    )
    def test_flags_of_the_host_stay_where_they_cannot_be_lifted(
        self, stage: Stage, source: Path, host: str, asked: str, present: str, absent: str
    ) -> None:
        stage.map_users()
        with stage.mounted_on_host(source, host):
            stage.mounts.append(bind(source, "/shown", *asked.split()))
            found = options_at(stage.run("cat /proc/self/mountinfo"), "/shown")
        assert set(present.split()) <= found
        assert not set(absent.split()) & found

    @pytest.mark.parametrize(
        "host,asked",
        [("ro", "rw"), ("nosuid,nodev", "suid"), ("relatime", "noatime"), ("noatime", "relatime"),
         ("strictatime", "nodiratime")],
    )  # fmt: skip
    def test_asking_to_lift_one_is_an_error(self, stage: Stage, source: Path, host: str, asked: str) -> None:
        stage.map_users()
        with stage.mounted_on_host(source, host):
            stage.mounts.append(bind(source, "/shown", asked))
            with pytest.raises(Failed, match=r"error mounting .*: operation not permitted"):
                stage.run("true")

    def test_a_source_that_its_root_cannot_reach_is_mounted_by_the_host(self, stage: Stage, source: Path) -> None:
        stage.map_users()
        (source / "inner").mkdir()
        (source / "inner/file").write_text("found\n")
        source.chmod(0o700)
        stage.mounts += [bind(source / "inner", "/a"), bind(source / "inner/file", "/b/file"), tmpfs("/a/inner")]
        with pytest.raises(Failed, match=r"no such file|not permitted|denied"):
            stage.run("true")  # nobody may make /a/inner there
        del stage.mounts[-1]
        assert stage.run("cat /a/file /b/file") == "found\nfound\n"


@needs("idmap")
class TestMappedOwners:
    def test_a_mount_shows_mapped_owners_and_others_their_own(self, stage: Stage, source: Path) -> None:
        stage.mounts += [bind(source, "/plain"), bind(source, "/mapped", **mapping(0, 1000, 10))]
        said = stage.run("stat -c '%n %u:%g' /plain/* /mapped/*")
        assert said.splitlines() == ["/plain/roots 0:0", "/plain/theirs 5:5", "/mapped/roots 1000:1000",
                                     "/mapped/theirs 1005:1005"]  # fmt: skip

    def test_in_a_user_namespace_the_hosts_root_maps_them(self, stage: Stage, source: Path) -> None:
        stage.map_users()
        closed = stage.bundle / "closed"
        closed.mkdir(0o700)
        source = source.rename(closed / "source")
        stage.mounts += [
            bind(source, "/plain"),
            bind(source, "/same", "idmap"),
            bind(source, "/other", **mapping(5, 100007, 1)),
            bind(source / "roots", "/file", "idmap", "ro", "rprivate"),
        ]
        said = stage.run(
            "stat -c '%n %u:%g' /plain/* /same/* /other/theirs /file; touch /same/new; stat -c %u /same/new"
        )
        assert said.splitlines() == [
            f"/plain/roots {OVERFLOW}", f"/plain/theirs {OVERFLOW}", "/same/roots 0:0", "/same/theirs 5:5",
            "/other/theirs 7:7", "/file 0:0", "0",
        ]  # fmt: skip
        assert (source / "new").stat().st_uid == 0

    @pytest.mark.parametrize("is_mapped_below", [False, True])
    @pytest.mark.parametrize("has_userns", [False, True])
    def test_ridmap_is_for_the_mounts_below_too(
        self, stage: Stage, source: Path, has_userns: bool, is_mapped_below: bool
    ) -> None:
        below = source / "below"
        below.mkdir()
        option = "ridmap" if is_mapped_below else "idmap"
        base = 100000 if has_userns else 0
        if has_userns:
            stage.map_users()
        with stage.mounted_on_host(below, "rw", source):
            stage.mounts.append(bind(source, "/all", "rbind", option, **mapping(5, base + 3000, 1)))
            said = stage.run("stat -c %u /all/theirs /all/below/theirs").split()
        unmapped = "65534" if has_userns else "5"
        assert said == ["3000", "3000" if is_mapped_below else unmapped]

    def test_sources_may_be_what_earlier_mounts_made(self, stage: Stage, source: Path) -> None:
        for has_userns in (False, True):
            if has_userns:
                stage.map_users()
            place = stage.root / "first"
            base = 100000 if has_userns else 0
            stage.mounts[3:] = [bind(source, "/first"), bind(place, "/second", **mapping(5, base + 9, 1))]
            assert stage.run("stat -c %u /second/theirs") == "9\n"

    def test_a_file_system_that_cannot_is_an_error_and_no_silent_mount(self, stage: Stage) -> None:
        stage.mounts.append(bind("/proc/self/fd", "/x", **mapping(0, 1000, 1)))
        with pytest.raises(Failed, match=r"failed to set MOUNT_ATTR_IDMAP on .*doesn't support idmap mounts"):
            stage.run("true")

    @pytest.mark.parametrize("wrong", [{"uidMappings": mapping(0, 1, 1)["uidMappings"]}, {}])
    def test_half_a_map_is_refused(self, stage: Stage, source: Path, wrong: dict[str, Any]) -> None:
        stage.mounts.append(bind(source, "/x", "idmap", **wrong))
        with pytest.raises(InnkeeperError, match="must have both uid and gid mappings"):
            stage.run("true")

    def test_only_binds_can_be_mapped(self, stage: Stage) -> None:
        stage.mounts = [PROC, DEV, tmpfs("/x") | mapping(0, 1000, 1)]
        with pytest.raises(InnkeeperError, match="only supported for bind-mounts"):
            stage.run("true")
