"""From `linux.seccomp` of an OCI config.json to a BPF program.

::

    which machine? ── none of the profile's ──> kill
        │
        number newer than every call the profile names? ──> ENOSYS
        │
        binary search over ranges of numbers with the same answer ──> answer
                                    │
                                    conditions on arguments, one rule after another ──> answer, or the default

A call newer than all that the profile's author knew must not look forbidden (EPERM): programs fall back to an
older one only on ENOSYS. Constant answers need no argument, so the kernel keeps them in a bitmap and a permitted
call costs nothing. Rules mean what they mean in libseccomp: a rule without conditions beats those with; conditions
of one rule hold together, unless two look at the same argument: then each is a rule of its own, as in runc.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.errors import Unsupported
from backends.kernel import syscall_table
from backends.kernel.bpf import Program
from backends.kernel.linux import MACHINE

KILL_THREAD, KILL_PROCESS, TRAP, ERRNO = 0x00000000, 0x80000000, 0x00030000, 0x00050000
USER_NOTIF, TRACE, LOG, ALLOW = 0x7FC00000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000

_PLAIN = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_NOTIFY": USER_NOTIF,
}
_WITH_NUMBER = {"SCMP_ACT_ERRNO": ERRNO, "SCMP_ACT_TRACE": TRACE}
_ENOSYS = ERRNO | errno.ENOSYS


@dataclass(frozen=True, slots=True)
class _Machine:
    """One way of calling the kernel."""

    table: str
    audit_arch: int
    bits: int


_MACHINES = {
    "SCMP_ARCH_X86_64": _Machine("x86_64", 0xC000003E, 64),
    "SCMP_ARCH_X32": _Machine("x32", 0xC000003E, 64),
    "SCMP_ARCH_X86": _Machine("i386", 0x40000003, 32),
    "SCMP_ARCH_AARCH64": _Machine("aarch64", 0xC00000B7, 64),
    "SCMP_ARCH_ARM": _Machine("arm", 0x40000028, 32),
}
_NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}

_NARROW = {
    "socket": {0, 1, 2}, "socketpair": {0, 1, 2}, "personality": {0}, "clone": {0}, "unshare": {0}, "ioctl": {1},
    "fcntl": {1}, "prctl": {0}, "keyctl": {0}, "bpf": {0}, "setsockopt": {1, 2}, "getsockopt": {1, 2}, "kill": {1},
    "setns": {1}, "open": {1}, "openat": {2}, "madvise": {2}, "arch_prctl": {0}, "mknod": {1}, "mknodat": {2},
    "chmod": {1}, "fchmod": {1}, "fchmodat": {2}, "setpriority": {0, 1, 2}, "umask": {0},
}  # fmt: skip
"""Arguments of which the kernel reads 32 bits only: comparing 64 would let junk in the upper half hide the value
(CVE-2019-10063)."""


Condition = tuple[int, str, int, int]
"""(argument, operator, value, second value)."""


@dataclass(slots=True)
class _Rules:
    """What one call answers."""

    always: int | None = None
    when: list[tuple[tuple[Condition, ...], int]] = field(default_factory=list)


_Outcome = int | tuple[str, _Rules]
"""An answer, or a call whose arguments are looked at."""


def action_of(name: str, number: int | None) -> int:
    """Return the kernel's number of an action; errnoRet is EPERM where it is not given."""
    if name in _WITH_NUMBER:
        return _WITH_NUMBER[name] | ((errno.EPERM if number is None else number) & 0xFFFF)
    if name not in _PLAIN:
        raise Unsupported(f"linux.seccomp: string {name} is not a valid action for seccomp")
    return _PLAIN[name]


def compile_profile(profile: Mapping[str, Any]) -> bytes:
    """Return the BPF program of a profile. Raises Unsupported for what cannot be built."""
    native = _NATIVE.get(MACHINE)
    if native is None:
        raise Unsupported(f"linux.seccomp: system call filters are not built for {MACHINE}")
    default = action_of(profile["defaultAction"], profile.get("defaultErrnoRet"))
    # Machines that this one cannot run need no rules.
    kin = {"x86_64": ("SCMP_ARCH_X32", "SCMP_ARCH_X86"), "aarch64": ("SCMP_ARCH_ARM",)}[MACHINE]
    wanted = [name for name in kin if name in profile.get("architectures", ())]
    rules = _collect(profile, default)
    program = Program()
    kill = program.answer(KILL_THREAD)
    starts: dict[int, int] = {}
    x32 = _section(program, _MACHINES[wanted.pop(0)], rules, default) if "SCMP_ARCH_X32" in wanted else kill
    for name in (*wanted, native):
        machine = _MACHINES[name]
        start = _section(program, machine, rules, default)
        if name == "SCMP_ARCH_X86_64":
            program.if_at_least(syscall_table.X32_BIT, x32, start)
            start = program.load(0)
        starts[machine.audit_arch] = start
    place = program.answer(KILL_THREAD)
    for audit_arch, start in starts.items():
        place = program.if_equal(audit_arch, start, place)
    program.load(4)
    try:
        return program.to_bytes()
    except ValueError as error:
        raise Unsupported(f"linux.seccomp: {error}") from error


def _section(program: Program, machine: _Machine, rules: Mapping[str, _Rules], default: int) -> int:
    """Write what one machine's calls answer; returns its place."""
    table = syscall_table.numbers(machine.table)
    named = [name for name in rules if name in table]
    outcomes: dict[int, _Outcome] = {}
    for name in named:
        found = rules[name]
        if found.always is not None or found.when:
            outcomes[table[name]] = found.always if found.always is not None else (name, found)
    if machine.table == "i386":
        _demultiplex(outcomes, rules, table, default)
    start = program.go(_search(program, machine, sorted(outcomes.items()), default))
    newest = max((table[name] for name in named if not _is_private(machine, table[name])), default=None)
    if newest is not None and default not in (ALLOW, LOG) and default & 0x7FFF0000 != TRACE:
        program.if_greater(newest, program.answer(_ENOSYS), start)
    return program.load(0)


def _is_private(machine: _Machine, number: int) -> bool:
    return machine.table == "arm" and number >= syscall_table.ARM_PRIVATE


def _collect(profile: Mapping[str, Any], default: int) -> dict[str, _Rules]:
    """Return the rules by call; those that say the default are empty, but their call is one that the profile knows."""
    found: dict[str, _Rules] = {}
    for rule in profile.get("syscalls", ()):
        action = action_of(rule["action"], rule.get("errnoRet"))
        for name in rule["names"]:
            found.setdefault(name, _Rules())
        if action == default:
            continue
        conditions: list[Condition] = [
            (entry["index"], entry["op"], entry["value"], entry.get("valueTwo", 0)) for entry in rule.get("args", ())
        ]
        looks_twice = len({index for index, *_ in conditions}) < len(conditions)
        groups = [(condition,) for condition in conditions] if looks_twice else [tuple(conditions)]
        for name in rule["names"]:
            rules = found[name]
            if not conditions:
                rules.always = action if rules.always is None else rules.always
            else:
                rules.when += [(group, action) for group in groups]
    return found


def _demultiplex(
    outcomes: dict[int, _Outcome], rules: Mapping[str, _Rules], table: Mapping[str, int], default: int
) -> None:
    """Let i386's socketcall(2) and ipc(2) answer as the calls that they stand for.

    socketcall's arguments are in memory, where no filter sees them. Where the profile looks at the family of
    sockets, it therefore makes none: else it would make those of every family.
    """
    families: dict[str, list[tuple[str, Condition]]] = {
        "socketcall": [(n, (0, "SCMP_CMP_EQ", i, 0)) for i, n in enumerate(syscall_table.SOCKETCALLS, 1)],
        "ipc": [(n, (0, "SCMP_CMP_MASKED_EQ", 0xFFFF, i)) for n, i in syscall_table.IPC_CALLS.items()],
    }
    for multiplexer, calls in families.items():
        own = rules.get(multiplexer, _Rules())
        when = []
        for name, condition in calls:
            rule = rules.get(name, _Rules())
            if rule.always is None and rule.when:
                when.append(((condition,), ERRNO | errno.EPERM))
            elif rule.always is not None and own.always is None:
                when.append(((condition,), rule.always))
        if when:
            otherwise = [] if own.always is None else [((), own.always)]
            outcomes[table[multiplexer]] = (multiplexer, _Rules(None, [*when, *own.when, *otherwise]))


def _search(program: Program, machine: _Machine, outcomes: Sequence[tuple[int, _Outcome]], default: int) -> int:
    """Write a binary search by number, A holding it; returns its place."""
    edges: list[tuple[int, _Outcome]] = [(0, default)]
    for number, outcome in outcomes:
        if edges[-1][0] == number:
            edges[-1] = (number, outcome)
        else:
            edges.append((number, outcome))
        edges.append((number + 1, default))
    merged: list[tuple[int, _Outcome]] = []
    for index, (number, outcome) in enumerate(edges):
        if index + 1 < len(edges) and edges[index + 1][0] == number:
            continue
        if not merged or merged[-1][1] != outcome:
            merged.append((number, outcome))
    return _tree(program, machine, merged, default)


def _tree(program: Program, machine: _Machine, edges: Sequence[tuple[int, _Outcome]], default: int) -> int:
    if len(edges) == 1:
        outcome = edges[0][1]
        return program.answer(outcome) if isinstance(outcome, int) else _chain(program, machine, outcome, default)
    middle = len(edges) // 2
    upper = _tree(program, machine, edges[middle:], default)
    lower = _tree(program, machine, edges[:middle], default)
    return program.if_at_least(edges[middle][0], upper, lower)


def _chain(program: Program, machine: _Machine, call: tuple[str, _Rules], default: int) -> int:
    """Write the conditions of one call, the first rule that holds answering; returns their place."""
    name, rules = call
    place = program.answer(default)
    for conditions, action in reversed(rules.when):
        if not conditions:
            place = program.answer(action)
            continue
        then = program.answer(action)
        for condition in reversed(conditions):
            narrow = machine.bits == 32 or condition[0] in _NARROW.get(name, ())
            then = _compare(program, condition, narrow, then, place)
        place = then
    return place


def _compare(program: Program, condition: Condition, narrow: bool, then: int, otherwise: int) -> int:
    """Write one comparison of an argument; returns its place."""
    index, operator, value, second = condition
    if operator in ("SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE"):
        operator = {"NE": "SCMP_CMP_EQ", "LT": "SCMP_CMP_GE", "LE": "SCMP_CMP_GT"}[operator[-2:]]
        then, otherwise = otherwise, then
    low, high = 16 + 8 * index, 20 + 8 * index
    mask = 2**64 - 1
    if operator == "SCMP_CMP_MASKED_EQ":
        mask, value = value, second
    branch = {"SCMP_CMP_GE": program.if_at_least, "SCMP_CMP_GT": program.if_greater}.get(operator, program.if_equal)
    branch(value & 0xFFFFFFFF, then, otherwise)
    if mask & 0xFFFFFFFF != 0xFFFFFFFF:
        program.mask(mask)
    place = program.load(low)
    if narrow:
        return place
    if operator in ("SCMP_CMP_GE", "SCMP_CMP_GT"):
        place = program.if_equal(value >> 32, place, otherwise)
        program.if_greater(value >> 32, then, place)
    else:
        program.if_equal(value >> 32, place, otherwise)
        if mask >> 32 != 0xFFFFFFFF:
            program.mask(mask >> 32)
    return program.load(high)


def actions_of(profile: Mapping[str, Any]) -> Iterable[str]:
    """Yield every action that a profile uses."""
    yield profile["defaultAction"]
    for rule in profile.get("syscalls", ()):
        yield rule["action"]
