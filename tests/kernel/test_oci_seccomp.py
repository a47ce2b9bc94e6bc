"""System call filters in real containers: actions, conditions, other machines' calls, and who is asked."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.kernel import seccomp, syscall_table
from tests.tools.bundles import Bundle
from tests.tools.needs import needs

pytestmark = [needs("root", "busybox"), pytest.mark.timeout(60)]

_CALL = """
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/syscall.h>
#include <signal.h>
#include <string.h>
static void trap(int number, siginfo_t *info, void *context) {
    printf("SIGSYS %d\\n", info->si_syscall); fflush(stdout); _exit(0);
}
int main(int count, char **words) {
    long a[7] = {0};
    struct sigaction action; memset(&action, 0, sizeof action);
    action.sa_sigaction = trap; action.sa_flags = SA_SIGINFO;
    sigaction(SIGSYS, &action, 0);
    for (int i = 1; i < count && i < 8; i++) a[i - 1] = strtoul(words[i], 0, 0);
    long found = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
    printf("%d\\n", found == -1 ? errno : 0);
    return 0;
}
"""


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that makes one system call and prints its errno."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is missing")
    folder = tmp_path_factory.mktemp("call")
    (folder / "call.c").write_text(_CALL)
    subprocess.run(["gcc", "-static", "-o", str(folder / "call"), str(folder / "call.c")], check=True, timeout=60)
    return folder / "call"


@pytest.fixture
def bundle() -> Iterator[Bundle]:
    made = Bundle.make(Path(tempfile.mkdtemp(prefix="inn-test-")))
    yield made
    made.remove()


@pytest.fixture
def calling(bundle: Bundle, call: Path) -> Bundle:
    """The bundle with that program in it."""
    shutil.copy(call, bundle.folder / "rootfs" / "bin" / "call")
    return bundle


def number(name: str) -> int:
    return syscall_table.numbers(platform.machine())[name]


def profile(*rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "syscalls": list(rules), **more}


def rule(name: str, action: str, *args: tuple[int, str, int, int], **more: Any) -> dict[str, Any]:
    entries = [{"index": i, "op": f"SCMP_CMP_{op}", "value": v, "valueTwo": w} for i, op, v, w in args]
    return {"names": [name], "action": action, "args": entries, **more}


def errno_of(bundle: Bundle, name: str | int, *args: int) -> int:
    """The errno that a call answers in a container of the bundle."""
    which = number(name) if isinstance(name, str) else name
    bundle.process["args"] = ["call", str(which), *map(str, args)]
    answer = bundle.run()
    assert answer.code == 0, answer.err
    return int(answer.out)


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_filter_is_loaded_with_and_without_no_new_privileges(bundle: Bundle, no_new_privileges: bool) -> None:
    bundle.process["noNewPrivileges"] = no_new_privileges
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.linux["seccomp"] = profile(rule("mkdir", "SCMP_ACT_ERRNO"), rule("mkdirat", "SCMP_ACT_ERRNO"))
    answer = bundle.sh("grep -E 'Seccomp:|NoNewPrivs' /proc/self/status; mkdir /tmp/x")
    assert answer.out.split() == ["NoNewPrivs:", str(int(no_new_privileges)), "Seccomp:", "2"]
    assert "Operation not permitted" in answer.err


def test_an_error_has_the_number_that_was_asked_for(calling: Bundle) -> None:
    calling.linux["seccomp"] = profile(rule("sync", "SCMP_ACT_ERRNO", errnoRet=errno.ENODEV))
    assert errno_of(calling, "sync") == errno.ENODEV


def test_a_trap_is_a_signal_and_a_kill_the_end(calling: Bundle) -> None:
    calling.linux["seccomp"] = profile(rule("sync", "SCMP_ACT_TRAP"), rule("getppid", "SCMP_ACT_KILL_PROCESS"))
    calling.process["args"] = ["call", str(number("sync"))]
    assert calling.run().out == f"SIGSYS {number('sync')}\n"
    calling.process["args"] = ["call", str(number("getppid"))]
    answer = calling.run()
    assert (answer.code, answer.out) == (128 + 31, "")


def test_a_trace_without_a_tracer_is_no_such_call(calling: Bundle) -> None:
    calling.linux["seccomp"] = profile(rule("sync", "SCMP_ACT_TRACE"))
    assert errno_of(calling, "sync") == errno.ENOSYS


@pytest.mark.parametrize(
    "operator,value,second,refused,passed",
    [
        ("EQ", 5, 0, 5, 6),
        ("NE", 5, 0, 6, 5),
        ("LT", 2**40, 0, 2**40 - 1, 2**40),
        ("LE", 2**40, 0, 2**40, 2**40 + 1),
        ("GT", 2**40, 0, 2**40 + 1, 2**40),
        ("GE", 2**40, 0, 2**40, 2**40 - 1),
        ("MASKED_EQ", 0xF0, 0x30, 0x1_0000_0035, 0x45),
    ],
)
def test_every_operator_compares_arguments(
    calling: Bundle, operator: str, value: int, second: int, refused: int, passed: int
) -> None:
    # getppid takes no argument, so any will do.
    calling.linux["seccomp"] = profile(rule("getppid", "SCMP_ACT_ERRNO", (2, operator, value, second), errnoRet=71))
    assert errno_of(calling, "getppid", 0, 0, refused) == 71
    assert errno_of(calling, "getppid", 0, 0, passed) == 0


def test_conditions_on_several_arguments_must_all_hold(calling: Bundle) -> None:
    conditions = [(0, "EQ", 1, 0), (1, "EQ", 2, 0)]
    calling.linux["seccomp"] = profile(rule("getppid", "SCMP_ACT_ERRNO", *conditions, errnoRet=71))
    assert errno_of(calling, "getppid", 1, 2) == 71
    assert errno_of(calling, "getppid", 1, 3) == 0


def test_a_profile_need_not_know_the_calls_that_the_runtime_makes(calling: Bundle) -> None:
    """Least of all close_range, newer than many a profile."""
    allowed = [name for name in syscall_table.numbers(platform.machine()) if name not in ("close_range", "sync")]
    rules = {"names": allowed, "action": "SCMP_ACT_ALLOW"}
    calling.linux["seccomp"] = profile(rules, default="SCMP_ACT_ERRNO")
    assert errno_of(calling, "sync") == errno.EPERM


def test_calls_newer_than_the_profile_do_not_exist_rather_than_being_forbidden(calling: Bundle) -> None:
    allowed = [name for name in syscall_table.numbers(platform.machine()) if number(name) < 400 and name != "sync"]
    calling.linux["seccomp"] = profile(
        {"names": allowed, "action": "SCMP_ACT_ALLOW"}, rule("openat2", "SCMP_ACT_ALLOW"), default="SCMP_ACT_ERRNO"
    )
    assert errno_of(calling, "sync") == errno.EPERM
    assert errno_of(calling, number("openat2") + 5) == errno.ENOSYS


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 is x86's")
def test_a_32_bit_call_is_no_way_around_a_filter(bundle: Bundle) -> None:
    source = bundle.folder / "old.c"
    source.write_text(
        '#include <stdio.h>\nint main(void) { int r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(39), "b"("x"),'
        ' "c"(0755)); printf("%d\\n", r); return 0; }'
    )
    target = str(bundle.folder / "rootfs" / "bin" / "old")
    subprocess.run(["gcc", "-static", "-o", target, str(source)], check=True, timeout=60, capture_output=True)
    if subprocess.run([target], capture_output=True, cwd=bundle.folder).stdout not in (b"0\n", b"-17\n"):
        pytest.skip("this kernel has no 32-bit calls")
    bundle.process["args"] = ["old"]
    rules = (rule("mkdir", "SCMP_ACT_ERRNO", errnoRet=71),)
    bundle.linux["seccomp"] = profile(*rules, architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
    assert bundle.run().out == "-71\n"
    bundle.linux["seccomp"] = profile(*rules)
    assert bundle.run().code == 128 + 31, "a machine that the profile does not name"


@pytest.mark.parametrize("flag", ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"])
def test_flags_are_applied(bundle: Bundle, flag: str) -> None:
    bundle.linux["seccomp"] = profile(rule("sync", "SCMP_ACT_ERRNO"), flags=[flag, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"])
    assert bundle.sh("grep Seccomp: /proc/self/status").out.split() == ["Seccomp:", "2"]


def test_speculative_store_bypass_is_left_alone_unless_asked_for(bundle: Bundle) -> None:
    if not seccomp.supports("SECCOMP_FILTER_FLAG_SPEC_ALLOW"):
        pytest.skip("the kernel does not know the flag")
    line = "grep Speculation_Store_Bypass /proc/self/status"
    free = bundle.sh(line).out
    bundle.linux["seccomp"] = profile(rule("sync", "SCMP_ACT_ERRNO"))
    assert bundle.sh(line).out == free


class Listener:
    """Who answers for the kernel: accepts one container at listenerPath and answers its calls."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._socket.settimeout(30)
        self.state: dict[str, Any] = {}
        self.calls: list[int] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def end(self) -> None:
        self._thread.join(30)
        self._socket.close()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(16))
        self.state = json.loads(data)
        (fd,) = array.array("i", ancillary[0][2])
        try:
            self._answer_all(fd)
        finally:
            os.close(fd)

    def _answer_all(self, fd: int) -> None:
        receive, send = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND
        import select

        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while True:
            ((_, event),) = poll.poll(30_000) or [(fd, select.POLLHUP)]
            if event & select.POLLHUP:
                return
            asked = ctypes.create_string_buffer(80)
            fcntl.ioctl(fd, receive, asked)
            cookie, _, _, call_number = struct.unpack_from("<QIIi", asked.raw)
            self.calls.append(call_number)
            fcntl.ioctl(fd, send, struct.pack("<QqiI", cookie, 0, -errno.ENOMEDIUM, 0))


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_another_program_answers_calls_and_is_told_of_which_container(calling: Bundle, no_new_privileges: bool) -> None:
    path = calling.folder / "listener"
    listener = Listener(path)
    calling.process["noNewPrivileges"] = no_new_privileges
    notify = rule("sync", "SCMP_ACT_NOTIFY")
    calling.linux["seccomp"] = profile(notify, listenerPath=str(path), listenerMetadata="what I am")
    try:
        assert errno_of(calling, "sync") == errno.ENOMEDIUM
    finally:
        listener.end()
    assert listener.calls == [number("sync")]
    assert listener.state["fds"] == ["seccompFd"]
    assert listener.state["metadata"] == "what I am"
    assert listener.state["state"]["bundle"] == str(calling.folder)
    assert listener.state["pid"] > 0


def test_nobody_at_the_listeners_path_is_an_error(bundle: Bundle) -> None:
    notify = rule("sync", "SCMP_ACT_NOTIFY")
    bundle.linux["seccomp"] = profile(notify, listenerPath=str(bundle.folder / "nobody"))
    answer = bundle.sh("true")
    assert answer.code != 0
    assert "seccomp" in answer.err
    assert "no such file or directory" in answer.err


def test_notifying_of_write_is_refused(bundle: Bundle) -> None:
    bundle.linux["seccomp"] = profile(rule("write", "SCMP_ACT_NOTIFY"), listenerPath="/run/nobody")
    answer = bundle.sh("true")
    assert answer.code != 0
    assert "SCMP_ACT_NOTIFY cannot be used for the write syscall" in answer.err
