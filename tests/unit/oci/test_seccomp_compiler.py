"""What a compiled filter answers, found by running it as the kernel would."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.errors import Unsupported
from backends.kernel import syscall_table
from backends.kernel.seccomp_compiler import ALLOW, ERRNO, KILL_THREAD, action_of, compile_profile
from backends.native.seccomp_profile import default_profile

X86_64, I386 = 0xC000003E, 0x40000003
EPERM, ENOSYS = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")


def answer(program: bytes, number: int, *args: int, arch: int = X86_64) -> int:
    """Run a BPF program on a system call."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *(args + (0,) * 6)[:6])
    code = list(struct.iter_unpack("<HBBI", program))
    place = accumulator = 0
    while True:
        operation, true, false, value = code[place]
        place += 1
        if operation == 0x06:
            return int(value)
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x05:
            place += value
        else:
            holds = {0x15: accumulator == value, 0x25: accumulator > value, 0x35: accumulator >= value}[operation]
            place += true if holds else false


def call(name: str, machine: str = "x86_64") -> int:
    return syscall_table.numbers(machine)[name]


def profile(*rules: dict[str, Any], default: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "syscalls": list(rules), **more}


def rule(name: str, action: str = "SCMP_ACT_ALLOW", *args: tuple[int, str, int, int], **more: Any) -> dict[str, Any]:
    entries = [{"index": i, "op": f"SCMP_CMP_{op}", "value": v, "valueTwo": w} for i, op, v, w in args]
    return {"names": [name], "action": action, "args": entries, **more}


def test_dockers_profile_permits_forbids_and_denies_knowledge() -> None:
    program = compile_profile(default_profile())
    assert answer(program, call("read")) == ALLOW
    assert answer(program, call("mount")) == EPERM
    assert answer(program, call("io_uring_setup")) == EPERM
    assert answer(program, call("clone3")) == ENOSYS
    assert answer(program, 5000) == ENOSYS, "newer than the profile"
    assert answer(program, call("clone"), 0x1200011) == ALLOW
    assert answer(program, call("clone"), 0x10000000) == EPERM, "a new user namespace"
    assert answer(program, call("personality"), 0xFFFFFFFF) == ALLOW
    assert answer(program, call("personality"), 0x4000) == EPERM


@pytest.mark.parametrize("family", [38, 40])
def test_no_junk_in_the_upper_half_of_a_register_hides_a_socket_family(family: int) -> None:
    program = compile_profile(default_profile())
    assert answer(program, call("socket"), family) == EPERM
    assert answer(program, call("socket"), 0x1_0000_0000 | family) == EPERM
    assert answer(program, call("socket"), 2) == ALLOW


@pytest.mark.parametrize(
    "capability,name",
    [("CAP_SYS_ADMIN", "mount"), ("CAP_SYS_TIME", "settimeofday"), ("CAP_BPF", "bpf"), ("CAP_SYS_NICE", "mbind")],
)
def test_a_capability_opens_the_calls_that_need_it(capability: str, name: str) -> None:
    assert answer(compile_profile(default_profile()), call(name)) == EPERM
    assert answer(compile_profile(default_profile([capability])), call(name)) == ALLOW


def test_a_container_with_cap_sys_admin_gets_clone3_too() -> None:
    program = compile_profile(default_profile(["CAP_SYS_ADMIN"]))
    assert answer(program, call("clone3")) == ALLOW
    assert answer(program, call("clone"), 0x10000000) == ALLOW


def test_each_way_of_calling_the_kernel_has_its_own_numbers() -> None:
    program = compile_profile(default_profile())
    assert answer(program, call("mount", "i386"), arch=I386) == EPERM
    assert answer(program, call("read", "i386"), arch=I386) == ALLOW
    assert answer(program, call("mount", "x32")) == EPERM
    assert answer(program, call("ioctl", "x32")) == ALLOW
    assert answer(program, call("read"), arch=0xC00000B7) == KILL_THREAD, "another machine's calls"


def test_machines_that_a_profile_does_not_name_are_killed() -> None:
    program = compile_profile(profile(rule("read"), architectures=["SCMP_ARCH_X86_64"]))
    assert answer(program, call("read", "i386"), arch=I386) == KILL_THREAD
    assert answer(program, call("read", "x32")) == KILL_THREAD
    assert answer(program, call("read")) == ALLOW


def test_socketcall_makes_no_sockets_where_families_are_told_apart() -> None:
    program = compile_profile(default_profile())
    socketcall = call("socketcall", "i386")
    assert answer(program, socketcall, 1, arch=I386) == EPERM
    assert answer(program, socketcall, 3, arch=I386) == ALLOW


def test_socketcall_and_ipc_answer_as_what_they_stand_for() -> None:
    rules = [rule("connect", "SCMP_ACT_ERRNO", errnoRet=13), rule("shmget", "SCMP_ACT_ERRNO", errnoRet=12)]
    program = compile_profile(profile(*rules, default="SCMP_ACT_ALLOW", architectures=["SCMP_ARCH_X86"]))
    assert answer(program, call("socketcall", "i386"), 3, arch=I386) == ERRNO | 13
    assert answer(program, call("socketcall", "i386"), 2, arch=I386) == ALLOW
    assert answer(program, call("ipc", "i386"), 0x1_0000 | 23, arch=I386) == ERRNO | 12


@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"])
def test_new_calls_are_not_denied_where_the_default_lets_them_pass(default: str) -> None:
    program = compile_profile(profile(rule("mkdir", "SCMP_ACT_ERRNO"), default=default))
    assert answer(program, 5000) == action_of(default, None)


def test_a_rule_without_conditions_beats_those_with() -> None:
    rules = [rule("socket", "SCMP_ACT_ALLOW", (0, "EQ", 2, 0)), rule("socket", "SCMP_ACT_ERRNO", errnoRet=97)]
    assert answer(compile_profile(profile(*rules)), call("socket"), 2) == ERRNO | 97
    assert answer(compile_profile(profile(*reversed(rules))), call("socket"), 2) == ERRNO | 97


def test_calls_that_this_machine_does_not_have_are_passed_over() -> None:
    program = compile_profile(profile(rule("riscv_flush_icache"), rule("no_such_call"), rule("read")))
    assert answer(program, call("read")) == ALLOW


def test_a_filter_that_is_too_long_is_refused() -> None:
    args = [(0, "EQ", value << 32 | value, 0) for value in range(2000)]
    with pytest.raises(Unsupported, match=r"linux\.seccomp: the filter has \d+ instructions"):
        compile_profile(profile(rule("write", "SCMP_ACT_ALLOW", *args)))


_NAMES = st.sampled_from(["read", "write", "mkdir", "lseek", "pread64", "mseal", "openat2", "nonsense"])
_WORDS = st.sampled_from([0, 1, 5, 2**32 - 1, 2**32, 2**32 + 5, 2**63, 2**64 - 1])
_CONDITIONS = st.tuples(
    st.integers(0, 5), st.sampled_from(["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]), _WORDS, _WORDS
)
_RULES = st.builds(
    lambda name, action, args, number: rule(name, action, *args, errnoRet=number),
    _NAMES,
    st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_TRAP", "SCMP_ACT_LOG", "SCMP_ACT_KILL_PROCESS"]),
    st.lists(_CONDITIONS, max_size=3),
    st.integers(0, 200),
)


def _expected(given_profile: dict[str, Any], name: str, args: tuple[int, ...]) -> int:
    default = action_of(given_profile["defaultAction"], None)
    table = syscall_table.numbers("x86_64")
    known = [table[entry["names"][0]] for entry in given_profile["syscalls"] if entry["names"][0] in table]
    if known and table[name] > max(known) and default != ALLOW:
        return ENOSYS
    ours = [entry for entry in given_profile["syscalls"] if name in entry["names"]]
    ours = [entry for entry in ours if action_of(entry["action"], entry["errnoRet"]) != default]
    for entry in ours:
        if not entry["args"]:
            return action_of(entry["action"], entry["errnoRet"])
    for entry in ours:
        results = [_holds(condition, args) for condition in entry["args"]]
        looks_twice = len({condition["index"] for condition in entry["args"]}) < len(results)
        if any(results) if looks_twice else all(results):
            return action_of(entry["action"], entry["errnoRet"])
    return default


def _holds(condition: dict[str, Any], args: tuple[int, ...]) -> bool:
    value, wanted = args[condition["index"]], condition["value"]
    results: dict[str, bool] = {
        "NE": value != wanted, "LT": value < wanted, "LE": value <= wanted, "EQ": value == wanted,
        "GE": value >= wanted, "GT": value > wanted, "MASKED_EQ": value & wanted == condition["valueTwo"],
    }  # fmt: skip
    return results[condition["op"].removeprefix("SCMP_CMP_")]


@settings(deadline=None, max_examples=300)
@given(
    st.lists(_RULES, max_size=8),
    st.sampled_from(["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL"]),
    st.sampled_from(["read", "write", "mkdir", "lseek", "pread64", "mseal", "openat2", "close", "listns"]),
    st.tuples(*[_WORDS] * 6),
)
def test_a_filter_answers_what_its_profile_says(
    rules: list[dict[str, Any]], default: str, name: str, args: tuple[int, ...]
) -> None:
    described = profile(*rules, default=default)
    assert answer(compile_profile(described), call(name), *args) == _expected(described, name, args)


def test_the_numbers_are_those_that_libseccomp_has() -> None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp is not installed")
    resolve = library.seccomp_syscall_resolve_name_arch
    tokens = {"x86_64": 0xC000003E, "i386": 0x40000003, "x32": 0x4000003E, "aarch64": 0xC00000B7, "arm": 0x40000028}
    checked = 0
    for machine, token in tokens.items():
        for name, number in syscall_table.numbers(machine).items():
            theirs = resolve(ctypes.c_uint32(token), name.encode())
            if theirs >= 0:  # else it is too old to know the call, or the call is a part of socketcall or ipc
                assert (machine, name, number) == (machine, name, theirs)
                checked += 1
    assert checked > 1700
