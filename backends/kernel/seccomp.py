"""System call filters: the step that loads one, and what this kernel can do (seccomp(2)).

Compiling takes a few milliseconds and is done by the warm spawner, once per profile; a container's init only
loads the bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from backends import quick_json
from backends.errors import Unsupported
from backends.kernel import linux, process_calls
from backends.kernel.mounts import KernelStep
from backends.kernel.seccomp_compiler import USER_NOTIF, actions_of, compile_profile

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,  # the process that loads it has one thread
    "SECCOMP_FILTER_FLAG_LOG": process_calls.SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": process_calls.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": process_calls.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}


@dataclass(frozen=True, slots=True)
class LoadSeccomp(KernelStep):
    """Load a compiled filter; every program the container runs has it."""

    program: bytes
    """BPF instructions, 8 bytes each."""

    summary: str = ""
    flags: int = 0
    kind = "seccomp"

    @property
    def has_listener(self) -> bool:
        """Say whether run() returns the descriptor on which calls are told (SCMP_ACT_NOTIFY).

        From then on each such call waits for whoever holds the descriptor. It is therefore handed over with
        write(2), which no profile may notify, and fetched by the other side with pidfd_getfd(2).
        """
        return bool(self.flags & process_calls.SECCOMP_FILTER_FLAG_NEW_LISTENER)

    def describe(self) -> str:
        return f"load a system call filter of {len(self.program) // 8} instructions" + (
            f" ({self.summary})" if self.summary else ""
        )

    def run(self) -> int | None:
        found = process_calls.seccomp_set_mode_filter(self.program, self.flags)
        return found if self.has_listener else None


def load_step(profile: Mapping[str, Any]) -> LoadSeccomp:
    """Return the step that loads `linux.seccomp` of an OCI config.json. Raises Unsupported, naming the property."""
    program, flags, summary = _prepare(quick_json.dumps(profile, sort_keys=True))
    return LoadSeccomp(program, summary, flags)


def compile_filter(profile: Mapping[str, Any]) -> bytes:
    """Return the BPF program of a profile. Raises Unsupported, saying what is not understood."""
    return load_step(profile).program


@lru_cache(maxsize=16)
def _prepare(text: str) -> tuple[bytes, int, str]:
    profile = quick_json.loads(text)
    allowed = sum(len(rule["names"]) for rule in profile.get("syscalls", ()) if rule["action"] == "SCMP_ACT_ALLOW")
    return compile_profile(profile), _flags(profile), f"{allowed} calls allowed"


def _flags(profile: Mapping[str, Any]) -> int:
    notifies = "SCMP_ACT_NOTIFY" in actions_of(profile)
    if notifies and not process_calls.seccomp_has_action(USER_NOTIF):
        raise Unsupported("linux.seccomp: this kernel cannot notify of system calls (SCMP_ACT_NOTIFY)")
    flags = process_calls.SECCOMP_FILTER_FLAG_NEW_LISTENER if notifies else 0
    asked = profile.get("flags")
    if asked is None:
        # Without the flag the kernel slows the whole program down (speculative store bypass); runc's default too.
        asked = ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"] if supports("SECCOMP_FILTER_FLAG_SPEC_ALLOW") else []
    for name in asked:
        if not supports(name):
            raise Unsupported(f"linux.seccomp.flags: this kernel does not know {name}")
        if FLAGS[name] != process_calls.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV or notifies:
            flags |= FLAGS[name]
    return flags


@lru_cache(maxsize=8)
def supports(flag: str) -> bool:
    """Say whether a flag of `linux.seccomp.flags` is known here and to this kernel."""
    if flag not in FLAGS:
        return False
    number = FLAGS[flag]
    if number == process_calls.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV:
        number |= process_calls.SECCOMP_FILTER_FLAG_NEW_LISTENER
    return process_calls.seccomp_has_flag(number)


def why_unavailable() -> str:
    """Say why filters cannot be loaded here; empty if they can."""
    if not os.path.exists("/proc/sys/kernel/seccomp"):
        try:
            linux.prctl(21)  # PR_GET_SECCOMP
        except OSError:
            return "the kernel is built without CONFIG_SECCOMP_FILTER"
    machine = os.uname().machine
    return "" if machine in ("x86_64", "aarch64") else f"filters are not built for {machine}"
