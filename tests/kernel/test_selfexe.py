"""The host's interpreter cannot be written to from a container, whatever that makes us run (CVE-2019-5736)."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.kernel import selfexe
from backends.model import Guest
from backends.native.backend import NativeBackend
from tests.tools.bundles import Bundle
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "busybox"), pytest.mark.timeout(60)]
_CHECKOUT = Path(__file__).parents[2]

_ATTACK = """
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
/* As the image's dynamic loader: runs in our process when that is made to run itself again. */
int main(void) {
    char path[64];
    int fd = open("/proc/self/exe", O_RDONLY);
    if (fd < 0) { printf("closed\\n"); return 0; }
    if (fork() == 0) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        for (int i = 0; i < 2000; i++) {
            int out = open(path, O_WRONLY);
            if (out >= 0) { printf("WRITABLE\\n"); return 0; }
            if (errno != ETXTBSY) { printf("%s\\n", strerror(errno)); return 0; }
            usleep(1000);
        }
        printf("busy\\n");
        return 0;
    }
    execl("/bin/sleep", "sleep", "3", (char *)0);
    return 1;
}
"""


@pytest.fixture
def bundle() -> Iterator[Bundle]:
    made = Bundle.make(Path(tempfile.mkdtemp(prefix="inn-test-")))
    yield made
    made.remove()


def refusal(pid: int) -> int:
    """Return the errno of writing to a process's binary, by its /proc, after its end."""
    fd = os.open(f"/proc/{pid}/exe", os.O_PATH | os.O_CLOEXEC)
    try:
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}/exe").exists() or _is_dead(pid))
        os.close(pidfd)
        try:
            os.close(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY))
        except OSError as error:
            return error.errno or 0
        return 0
    finally:
        os.close(fd)


def _is_dead(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"


@pytest.fixture
def own_python(tmp_path: Path) -> str:
    """A copy of the interpreter that nobody else runs: a file in use cannot be written to anyway."""
    copy = tmp_path / "python3"
    shutil.copy(os.path.realpath(sys.executable), copy)
    return str(copy)


def test_a_created_container_runs_from_a_binary_that_cannot_be_written_to(bundle: Bundle, own_python: str) -> None:
    bundle.write()
    environment = {**os.environ, "PYTHONHOME": sys.base_prefix}
    command = [own_python, str(_CHECKOUT / "innkeeper.py"), "oci", "--root", str(bundle.folder / "state")]
    done = subprocess.run(
        [*command, "create", "--bundle", str(bundle.folder), "--pid-file", str(bundle.folder / "pid"), "sealed"],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0
    before = Path(own_python).read_bytes()
    assert refusal(int((bundle.folder / "pid").read_text())) == errno.EROFS
    assert Path(own_python).read_bytes() == before


def test_without_the_right_to_mount_the_binary_is_a_sealed_copy(own_python: str) -> None:
    script = (
        f"import sys, os; sys.path.insert(0, {str(_CHECKOUT)!r})\n"
        "from backends.kernel import selfexe\nselfexe.seal()\n"
        "print(selfexe.is_sealed(), os.readlink('/proc/self/exe'), sys.executable, 'INNKEEPER_SEALED' in os.environ)\n"
        "try: open('/proc/self/exe', 'wb')\nexcept OSError as error: print(error.errno)\n"
    )
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c", script],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    first, second = done.stdout.splitlines()
    assert first.split() == ["True", "/memfd:inn-python", "(deleted)", sys.executable, "False"], done.stderr
    assert int(second) in (errno.EPERM, errno.ETXTBSY)


def test_a_process_that_is_sealed_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        f"import sys, os; sys.path.insert(0, {str(_CHECKOUT)!r})\n"
        "from backends.kernel import selfexe\nselfexe.seal(); selfexe.seal()\n"
        "print(os.getpid(), sys.argv[1:], open('/proc/self/comm').read().strip())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, "a", "b"], stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=30)
    assert out == f"{process.pid} ['a', 'b'] {os.path.basename(sys.executable)[:15]}\n"
    assert not selfexe.is_sealed()


@pytest.mark.parametrize("program", ["/proc/self/exe", "/run/script"])
def test_an_image_that_makes_us_run_ourselves_gets_nothing_to_write_to(bundle: Bundle, program: str) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is missing")
    rootfs = bundle.folder / "rootfs"
    (bundle.folder / "attack.c").write_text(_ATTACK)
    loader = rootfs / interpreter_of(sys.executable).lstrip("/")
    loader.parent.mkdir(parents=True, exist_ok=True)
    compiler = ["gcc", "-static-pie", "-o", str(loader), str(bundle.folder / "attack.c")]
    subprocess.run(compiler, check=True, timeout=60)
    script = rootfs / "run" / "script"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    bundle.process["args"] = [program]
    answer = bundle.run()
    assert answer.out.splitlines() == ["Read-only file system"], answer
    # The same of one that joins.
    bundle.process["args"] = ["sleep", "1000"]
    bundle.write()
    assert bundle.oci("run", "--detach", "--bundle", str(bundle.folder), "joined").code == 0
    answer = bundle.oci("exec", "joined", program)
    assert answer.out.splitlines() == ["Read-only file system"], answer


def interpreter_of(binary: str) -> str:
    """Return the dynamic loader that a binary names."""
    found = subprocess.run(["readelf", "-l", os.path.realpath(binary)], capture_output=True, text=True, check=True)
    return found.stdout.partition("interpreter: ")[2].partition("]")[0]


def test_supervisors_and_what_they_start_run_from_it_too(native: NativeBackend, run: object) -> None:
    assert callable(run)
    guest: Guest = run("sleep", "1000")
    spawner = next(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _comm(entry) == f"inn:{guest.name}"[:15]
    )
    assert os.statvfs(f"/proc/{spawner}/exe").f_flag & os.ST_RDONLY


def _comm(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return ""
