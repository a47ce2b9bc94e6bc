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

from backends.model import Guest
from backends.native.backend import NativeBackend
from tests.tools.bundles import Bundle
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "busybox"), pytest.mark.timeout(60)]
_CHECKOUT = Path(__file__).parents[2]

_ATTACK = """
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* A library of the image's: runs in our process when that is made to run itself again. */
__attribute__((constructor)) static void attack(void) {
    char line[300];
    int fd = open("/proc/self/exe", O_RDONLY);
    unsetenv("LD_PRELOAD");
    snprintf(line, sizeof line, "for i in 1 2 3 4 5 6 7 8 9; do x=$( { : >> /proc/self/fd/%d && echo WRITABLE; } 2>&1);"
             "case $x in *busy*) sleep 0.1 ;; *) break ;; esac; done; echo $x", fd);
    /* From here on nobody runs that file any more, and what is not busy can be written to. */
    execl("/bin/sh", "sh", "-c", line, (char *)0);
    _exit(1);
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
        os.kill(pid, signal.SIGKILL)
        found = wait_until(lambda: [number for number in [_try_to_write(fd)] if number != errno.ETXTBSY])
        return found[0]
    finally:
        os.close(fd)


def _try_to_write(fd: int) -> int:
    try:
        os.close(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY))
    except OSError as error:
        return error.errno or 0
    return 0


@pytest.fixture
def own_python(tmp_path: Path) -> str:
    """A copy of the interpreter that nobody else runs: a file in use cannot be written to anyway."""
    copy = tmp_path / "python3"
    shutil.copy(os.path.realpath(sys.executable), copy)
    return str(copy)


def call(bundle: Bundle, own_python: str, *words: str) -> None:
    """Call `inn oci` in an interpreter of its own; what is printed goes to the bundle's `out`."""
    command = [own_python, str(_CHECKOUT / "innkeeper.py"), "oci", "--root", str(bundle.folder / "state"), *words]
    environment = {**os.environ, "PYTHONHOME": sys.base_prefix}
    with open(bundle.folder / "out", "w") as out:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=30, cwd="/"
        )
    assert done.returncode == 0, (bundle.folder / "out").read_text()


def test_a_created_container_runs_from_a_binary_that_cannot_be_written_to(bundle: Bundle, own_python: str) -> None:
    bundle.write()
    pid_file = bundle.folder / "pid"
    call(bundle, own_python, "create", "--bundle", str(bundle.folder), "--pid-file", str(pid_file), "sealed")
    before = Path(own_python).read_bytes()
    assert refusal(int(pid_file.read_text())) == errno.EROFS
    assert Path(own_python).read_bytes() == before


def test_without_the_right_to_mount_the_binary_is_a_sealed_copy() -> None:
    if os.statvfs(sys.executable).f_flag & os.ST_RDONLY:
        pytest.skip("the interpreter is on a read-only file system, where nothing has to be done")
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


def test_a_process_that_is_sealed_is_left_alone() -> None:
    script = (
        f"import sys, os; sys.path.insert(0, {str(_CHECKOUT)!r})\n"
        "from backends.kernel import selfexe\nselfexe.seal(); selfexe.seal()\n"
        "print(os.getpid(), sys.argv[1:], open('/proc/self/comm').read().strip())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, "a", "b"], stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=30)
    assert out == f"{process.pid} ['a', 'b'] {os.path.basename(sys.executable)[:15]}\n"


@pytest.mark.parametrize("program", ["/proc/self/exe", "/run/script"])
def test_an_image_that_makes_us_run_ourselves_gets_nothing_to_write_to(
    bundle: Bundle, own_python: str, program: str
) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is missing")
    rootfs = bundle.folder / "rootfs"
    (bundle.folder / "attack.c").write_text(_ATTACK)
    for library in libraries_of(sys.executable):
        copy = rootfs / library.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, copy)
    compiler = ["gcc", "-shared", "-fPIC", "-o", str(rootfs / "evil.so"), str(bundle.folder / "attack.c")]
    subprocess.run(compiler, check=True, timeout=60)
    bundle.process["env"].append("LD_PRELOAD=/evil.so")
    script = rootfs / "run" / "script"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    bundle.process["args"] = [program]
    bundle.write()
    # The runtime ends: for as long as it ran the same file, that would be busy.
    call(bundle, own_python, "create", "--bundle", str(bundle.folder), "first")
    bundle.oci("start", "first")
    assert printed(bundle).endswith("Read-only file system\n")
    bundle.process.update(args=["sleep", "1000"], env=["PATH=/bin"])
    bundle.write()
    call(bundle, own_python, "create", "--bundle", str(bundle.folder), "second")
    bundle.oci("start", "second")
    call(bundle, own_python, "exec", "--detach", "--env", "LD_PRELOAD=/evil.so", "second", program)
    assert printed(bundle).endswith("Read-only file system\n")


def printed(bundle: Bundle) -> str:
    """Return what is printed, once it is."""
    return wait_until(lambda: (bundle.folder / "out").read_text())


def libraries_of(binary: str) -> list[str]:
    """Return the files of the libraries, and of the dynamic loader, that a binary needs."""
    found = subprocess.run(["ldd", os.path.realpath(binary)], capture_output=True, text=True, check=True).stdout
    return [word for line in found.splitlines() for word in line.split() if word.startswith("/")]


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
