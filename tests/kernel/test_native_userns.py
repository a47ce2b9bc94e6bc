"""Containers whose users are nobody on the host."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.errors import UsageError
from backends.kernel import idmap
from backends.model import Guest
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import log_of
from tests.tools.needs import facility, needs

pytestmark = [needs("root", "overlay", "idmap"), pytest.mark.timeout(90)]
Run = Callable[..., Guest]
Output = Callable[[Guest, str], str]


@facility("idmap")
def _idmap(_: str) -> str:
    """Owners of files can be mapped where the tests keep theirs."""
    space = idmap.user_namespace([(0, 524288, 65536)], [(0, 524288, 65536)])
    try:
        os.close(idmap.open_mapped(tempfile.gettempdir(), space, recursive=False, map_below=False))
    except OSError as error:
        return f"the kernel cannot map owners in {tempfile.gettempdir()}: {error.strerror}"
    finally:
        os.close(space)
    return ""


def first_id(output_of: Output, guest: Guest) -> int:
    """Where the ids of a container begin on the host."""
    return int(output_of(guest, "cat /proc/self/uid_map").split()[1])


def test_root_inside_is_nobody_outside_and_owns_the_image(run: Run, output_of: Output, native: NativeBackend) -> None:
    guest = run("sleep", "1000", userns="auto")
    first = first_id(output_of, guest)
    assert first >= 100_000
    assert guest_uid(native, guest) == first
    assert output_of(guest, "id -u; stat -c %u:%g / /etc /root").split() == ["0", "0:0", "0:0", "0:0"]
    assert output_of(guest, "touch /etc/new && chown 33:33 /etc/new && stat -c %u /etc/new") == "33\n"


def guest_uid(native: NativeBackend, guest: Guest) -> int:
    """The user of a container's first process on the host."""
    (found,) = (one for one in native.guests() if one.ref == guest.ref)
    assert found.pid is not None
    return os.stat(f"/proc/{found.pid}").st_uid


def test_no_two_containers_share_an_id(run: Run, output_of: Output) -> None:
    firsts = sorted(first_id(output_of, run("sleep", "1000", userns="auto")) for _ in range(3))
    assert firsts[1] - firsts[0] >= 65536
    assert firsts[2] - firsts[1] >= 65536


def test_what_it_writes_is_there_after_a_restart(run: Run, output_of: Output, native: NativeBackend) -> None:
    guest = run("sleep", "1000", userns="auto")
    output_of(guest, "echo kept > /root/file")
    native.stop(guest.ref, Recorder("test"), timeout_s=0)
    native.start(guest.ref, Recorder("test"))
    assert output_of(guest, "cat /root/file; stat -c %u /root/file").split() == ["kept", "0"]


def test_its_rights_end_at_its_namespaces(run: Run, output_of: Output, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    secret.chmod(0o600)
    os.chmod(tmp_path, 0o755)
    guest = run("sleep", "1000", userns="auto", cap_add=("ALL",), volumes=(f"{tmp_path}:/host",))
    assert output_of(guest, "cat /host/secret 2>&1 || true").endswith("Permission denied\n")
    assert output_of(guest, "mknod /tmp/disk b 254 0 2>&1 || true").endswith("Operation not permitted\n")
    assert output_of(guest, "echo 1 2>&1 > /proc/sys/kernel/panic || echo no").endswith("no\n")


def test_it_has_its_network_and_its_limits(run: Run, native: NativeBackend) -> None:
    guest = run("sh", "-c", "ip -4 addr show eth0; ulimit -n", userns="auto", memory_bytes=64 << 20)
    native.wait(guest.ref, timeout_s=30)
    assert "10.209." in log_of(native, guest)


def test_the_range_comes_back_with_the_container(run: Run, output_of: Output, native: NativeBackend) -> None:
    guest = run("sleep", "1000", userns="auto")
    first = first_id(output_of, guest)
    native.remove(guest.ref, Recorder("test"), force=True)
    assert first_id(output_of, run("sleep", "1000", userns="auto")) == first


def test_keep_is_refused_for_root(run: Run) -> None:
    with pytest.raises(UsageError, match="--userns keep is for plain users"):
        run("true", userns="keep")
