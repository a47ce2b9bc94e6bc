"""How the kernel schedules the program: policy, I/O priority, CPUs, memory nodes, personality, as steps."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from dataclasses import dataclass

from backends.kernel import process_calls
from backends.kernel.mounts import KernelStep
from backends.kernel.number_list import numbers_of

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
MEMORY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}


@dataclass(frozen=True, slots=True)
class SetScheduler(KernelStep):
    """Scheduling policy and its parameters (sched(7), sched_setattr(2))."""

    policy: str
    flags: tuple[str, ...] = ()
    nice: int = 0
    priority: int = 0
    runtime_ns: int = 0
    deadline_ns: int = 0
    period_ns: int = 0
    kind = "scheduler"

    def describe(self) -> str:
        return f"schedule as {self.policy}, nice {self.nice}, priority {self.priority}"

    def by_hand(self) -> str:
        if self.policy == "SCHED_DEADLINE":
            times = f"--sched-runtime {self.runtime_ns} --sched-deadline {self.deadline_ns}"
            return f"chrt --deadline {times} --sched-period {self.period_ns} 0 PROGRAM"
        return f"chrt --{self.policy.removeprefix('SCHED_').lower()} {self.priority} PROGRAM"

    def run(self) -> None:
        flags = sum({FLAGS[name] for name in self.flags})
        numbers = self.nice, self.priority, self.runtime_ns, self.deadline_ns, self.period_ns
        try:
            process_calls.sched_setattr(POLICIES[self.policy], flags, *numbers)
        except OSError as error:
            raise OSError(error.errno, f"error setting scheduler: {os.strerror(error.errno or 0).lower()}") from error


@dataclass(frozen=True, slots=True)
class SetIoPriority(KernelStep):
    """Priority among those who read and write disks (ioprio_set(2))."""

    io_class: str
    priority: int
    kind = "ionice"

    def describe(self) -> str:
        return f"disk priority {self.io_class.removeprefix('IOPRIO_CLASS_')} {self.priority}"

    def by_hand(self) -> str:
        return f"ionice -c {IO_CLASSES[self.io_class]} -n {self.priority} PROGRAM"

    def run(self) -> None:
        try:
            value = IO_CLASSES[self.io_class] << 13 | self.priority
            process_calls.ioprio_set(process_calls.IOPRIO_WHO_PROCESS, 0, value)
        except OSError as error:
            raise OSError(error.errno, f"failed to set io priority: {os.strerror(error.errno or 0).lower()}") from error


@dataclass(frozen=True, slots=True)
class SetAffinity(KernelStep):
    """CPUs a process runs on (sched_setaffinity(2))."""

    cpus: str
    """A list such as "0-3,7"."""

    pid: int = 0
    """0: this one."""

    kind = "affinity"

    def describe(self) -> str:
        return f"run on CPUs {self.cpus}"

    def by_hand(self) -> str:
        return f"taskset -pc {self.cpus} {self.pid or '$$'}"

    def run(self) -> None:
        wanted: Collection[int] = numbers_of(self.cpus)
        try:
            os.sched_setaffinity(self.pid, wanted)
        except OSError as error:
            text = f"cannot run on CPUs {self.cpus}: {os.strerror(error.errno or 0)}"
            raise OSError(error.errno, text) from error


@dataclass(frozen=True, slots=True)
class SetMemoryPolicy(KernelStep):
    """NUMA nodes that memory comes from (set_mempolicy(2))."""

    mode: str
    nodes: str = ""
    flags: tuple[str, ...] = ()
    kind = "mempolicy"

    def describe(self) -> str:
        return f"take memory by {self.mode}" + (f" of nodes {self.nodes}" if self.nodes.strip() else "")

    def run(self) -> None:
        nodes = numbers_of(self.nodes)
        mode = MEMORY_MODES[self.mode] | sum({MEMORY_FLAGS[name] for name in self.flags})
        try:
            process_calls.set_mempolicy(mode, sum(1 << node for node in nodes), max(nodes, default=-1) + 1)
        except OSError as error:
            said = "the kernel has no NUMA" if error.errno == errno.ENOSYS else os.strerror(error.errno or 0)
            raise OSError(error.errno, f"cannot set the memory policy: {said}") from error


@dataclass(frozen=True, slots=True)
class SetPersonality(KernelStep):
    """Execution domain: LINUX32 makes uname(2) tell a 32-bit machine (personality(2))."""

    domain: str
    kind = "personality"

    def describe(self) -> str:
        return f"set the personality {self.domain}"

    def by_hand(self) -> str:
        return "setarch linux32 PROGRAM" if self.domain == "LINUX32" else "setarch linux64 PROGRAM"

    def run(self) -> None:
        process_calls.personality(process_calls.PER_LINUX32 if self.domain == "LINUX32" else process_calls.PER_LINUX)
