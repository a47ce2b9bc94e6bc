"""System call filters: from the OCI description to BPF, and the step that loads it (seccomp(2)).

libseccomp compiles the filter (through pyseccomp). Compiling takes milliseconds and is done by the
warm spawner, once per profile; a container's init only loads the bytes.
"""

from __future__ import annotations

import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from backends.errors import Unsupported
from backends.kernel import linux
from backends.kernel.mounts import KernelStep

_ARCHES = {"x86_64": ("X86_64", "X86", "X32"), "aarch64": ("AARCH64", "ARM")}
_OPERATORS = {
    "SCMP_CMP_NE": "NE",
    "SCMP_CMP_LT": "LT",
    "SCMP_CMP_LE": "LE",
    "SCMP_CMP_EQ": "EQ",
    "SCMP_CMP_GE": "GE",
    "SCMP_CMP_GT": "GT",
    "SCMP_CMP_MASKED_EQ": "MASKED_EQ",
}


@dataclass(frozen=True, slots=True)
class LoadSeccomp(KernelStep):
    """Load a compiled filter; every program the container runs has it."""

    program: bytes
    """BPF instructions, 8 bytes each."""

    summary: str = ""
    kind = "seccomp"

    def describe(self) -> str:
        return f"load a system call filter of {len(self.program) // 8} instructions" + (
            f" ({self.summary})" if self.summary else ""
        )

    def run(self) -> None:
        linux.load_seccomp_filter(self.program)


def why_unavailable() -> str:
    """Say why filters cannot be compiled here; empty if they can."""
    try:
        import pyseccomp  # noqa: F401
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        return f"libseccomp cannot be used: {error}"
    return ""


def compile_filter(profile: Mapping[str, Any]) -> bytes:
    """Compile `linux.seccomp` of an OCI config.json. Raises Unsupported, saying what is not understood."""
    reason = why_unavailable()
    if reason:
        raise Unsupported(f"cannot build the system call filter: {reason}", hint="apt install libseccomp2")
    return _compile(_freeze(profile))


def _freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted((key, _freeze(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(item) for item in value)
    return value


@lru_cache(maxsize=16)
def _compile(frozen: Any) -> bytes:
    import pyseccomp

    profile = dict(frozen)
    default = _action(pyseccomp, profile["defaultAction"], profile.get("defaultErrnoRet"))
    rules = pyseccomp.SyscallFilter(default)
    for name in _ARCHES.get(platform.machine(), ()):
        arch = getattr(pyseccomp.Arch, name, None)
        if arch is not None and not rules.exist_arch(arch):
            rules.add_arch(arch)
    for frozen_rule in profile.get("syscalls", ()):
        rule = dict(frozen_rule)
        action = _action(pyseccomp, rule["action"], rule.get("errnoRet"))
        if action == default:
            continue
        for call in rule["names"]:
            _add(pyseccomp, rules, action, call, rule.get("args", ()))
    looks_at_families = any("socket" in dict(rule)["names"] and dict(rule).get("args") for rule in profile["syscalls"])
    return (_no_socket_by_socketcall() if looks_at_families else b"") + _export(rules)


def _no_socket_by_socketcall() -> bytes:
    """Refuse i386's socketcall(SYS_SOCKET), ahead of a filter that looks at the family of sockets.

    socketcall's arguments are in memory, where no filter sees them; libseccomp then allows it for every family
    as soon as `socket` is allowed for one, and takes no rule against it (EEXIST).
    """
    if platform.machine() != "x86_64":
        return b""
    load, if_equal, answer = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    code = (
        (load, 0, 0, 4), (if_equal, 0, 5, 0x40000003),  # struct seccomp_data: arch is AUDIT_ARCH_I386
        (load, 0, 0, 0), (if_equal, 0, 3, 102),  # nr is socketcall
        (load, 0, 0, 16), (if_equal, 0, 1, 1),  # the low half of args[0] is SYS_SOCKET
        (answer, 0, 0, 0x00050000 | errno.EPERM),  # SECCOMP_RET_ERRNO
    )  # fmt: skip
    return b"".join(struct.pack("<HBBI", *line) for line in code)


def _add(library: Any, rules: Any, action: Any, call: str, conditions: Sequence[Any]) -> None:
    arguments = [_condition(library, dict(condition)) for condition in conditions]
    try:
        library.resolve_syscall(library.Arch.NATIVE, call)
    except ValueError:
        return  # a call that this machine does not have needs no rule
    try:
        rules.add_rule(action, call, *arguments)
    except (ValueError, OSError) as error:
        raise Unsupported(f"cannot filter the system call {call}: {error}") from error


def _condition(library: Any, condition: dict[str, Any]) -> Any:
    operator = getattr(library, _OPERATORS[condition["op"]])
    if condition["op"] == "SCMP_CMP_MASKED_EQ":
        return library.Arg(condition["index"], operator, condition["value"], condition.get("valueTwo", 0))
    return library.Arg(condition["index"], operator, condition["value"])


def _action(library: Any, name: str, errno_ret: int | None) -> Any:
    number = errno.EPERM if errno_ret is None else errno_ret
    actions = {
        "SCMP_ACT_ALLOW": lambda: library.ALLOW,
        "SCMP_ACT_ERRNO": lambda: library.ERRNO(number),
        "SCMP_ACT_KILL": lambda: library.KILL,
        "SCMP_ACT_KILL_THREAD": lambda: library.KILL,
        "SCMP_ACT_KILL_PROCESS": lambda: library.KILL_PROCESS,
        "SCMP_ACT_LOG": lambda: library.LOG,
        "SCMP_ACT_TRAP": lambda: library.TRAP,
    }
    if name not in actions:
        raise Unsupported(f"seccomp action {name} is not supported")
    return actions[name]()


def _export(rules: Any) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    with os.fdopen(fd, "w+b") as memory:
        rules.export_bpf(memory)
        memory.seek(0)
        return memory.read()
