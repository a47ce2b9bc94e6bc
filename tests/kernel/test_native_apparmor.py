"""The AppArmor profile of containers, on kernels that have AppArmor (user-mode Linux, Debian, Ubuntu)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from backends.container import ContainerSpec
from backends.errors import Unsupported
from backends.model import Guest
from backends.native import apparmor
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.tools.containers import log_of, now
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "cgroup.cpu", "apparmor"), pytest.mark.timeout(120)]
Run = Callable[..., Guest]
Inside = Callable[..., str]
LABEL = "cat /proc/self/attr/apparmor/current 2>/dev/null || cat /proc/self/attr/current"


@pytest.fixture
def other_profile() -> Iterator[str]:
    """A profile of the administrator's, that lets no file in /mnt be written."""
    text = "profile inn-test flags=(attach_disconnected) { file, capability, network, signal, deny /mnt/** w, }"
    subprocess.run([apparmor._parser(), "--replace", "--skip-cache"], input=text, text=True, check=True)
    yield "inn-test"
    subprocess.run([apparmor._parser(), "--remove"], input=text, text=True, check=True)


def test_a_container_and_what_is_run_in_it_are_confined_by_default(run: Run, output_of: Inside) -> None:
    guest = run("sleep", "1000", network="none")
    confined = f"{apparmor.NAME} (enforce)"
    assert output_of(guest, LABEL).strip() == confined
    assert output_of(guest, "cat /proc/1/attr/current").strip() == confined


def test_the_profile_says_no_where_capabilities_and_masks_would_not(native: NativeBackend, run: Run) -> None:
    line = "mount -t tmpfs none /mnt && echo mounted; echo 1 > /proc/sys/kernel/panic_on_oops && echo written; echo end"
    options = {"cap_add": ("SYS_ADMIN",), "security_opts": ("seccomp=unconfined", "systempaths=unconfined")}
    guest = run("sh", "-c", line, network="none", **options)
    native.wait(guest.ref, timeout_s=60)
    assert log_of(native, guest, "stdout") == "end\n"


def test_it_can_be_left_out_or_another_be_named(run: Run, output_of: Inside, other_profile: str) -> None:
    free = run("sleep", "1000", network="none", security_opts=("apparmor=unconfined",))
    assert output_of(free, LABEL).strip() == "unconfined"
    other = run("sleep", "1000", network="none", security_opts=(f"apparmor={other_profile}",))
    assert output_of(other, LABEL).strip() == f"{other_profile} (enforce)"
    assert "denied" in output_of(other, "touch /mnt/x 2>&1; touch /tmp/x")


def test_privileged_containers_are_not_confined(run: Run, output_of: Inside) -> None:
    guest = run("sleep", "1000", network="none", privileged=True)
    assert output_of(guest, LABEL).strip() == "unconfined"


def test_a_confined_container_can_be_signalled_by_us_and_by_itself(native: NativeBackend, run: Run) -> None:
    line = "trap 'exit 3' TERM; sleep 1000 & kill $! && echo ready; while :; do sleep 0.05; done"
    guest = run("sh", "-c", line, network="none")
    wait_until(lambda: log_of(native, guest, "stdout") == "ready\n", timeout_s=20)
    native.stop(guest.ref, Recorder("test"), timeout_s=20)
    assert now(native, guest).exit_code == 3


def test_a_profile_that_is_not_there_is_refused_before_anything_is_made(native: NativeBackend) -> None:
    with pytest.raises(Unsupported, match="not loaded"):
        native.create(ContainerSpec("host", ("true",), security_opts=("apparmor=inn-no-such",)), Recorder("test"))
