"""From `process` of a config.json to the steps that turn a container's init, or an exec session, into that process.

The order is runc's. The filter comes last with noNewPrivileges; without, loading it needs CAP_SYS_ADMIN and so
comes before the privileges go.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from backends.kernel import capability, credentials, lsm, scheduling, seccomp
from backends.kernel.account import Account, group_numbers, look_up
from backends.trace import Step

KEEP_GROUPS = "run.oci.keep_original_groups"
"""crun's annotation, which podman sets for --group-add keep-groups: the process stays in its caller's groups."""


def keeps_groups(config: Mapping[str, Any]) -> bool:
    """Whether the program stays in the groups of who called the runtime."""
    return KEEP_GROUPS in (config.get("annotations") or {})


def account_of(process: Mapping[str, Any], user: str | None = None) -> Account:
    """Return whom the process runs as. Runs after the pivot: names and home are the container's own.

    user is "name", "uid", "name:group" …, looked up as docker does; None: the numbers of `process.user`.
    Raises LookupError for a name that is not there.
    """
    asked = process.get("user", {})
    # additionalGroups is Innkeeper's own: names, which only the container's own files turn into numbers.
    more = (*asked.get("additionalGids", ()), *group_numbers(asked.get("additionalGroups", ())))
    if user is not None:
        found = look_up(user)
        return Account(found.uid, found.gid, tuple(dict.fromkeys((*found.groups, *more))), found.home)
    uid, gid = asked.get("uid", 0), asked.get("gid", 0)
    return Account(uid, gid, more, look_up(f"{uid}:{gid}").home)


def parent_steps(config: Mapping[str, Any], process: Mapping[str, Any], pid: int) -> list[Step]:
    """Return what the runtime does for init (or an exec session) from outside, once its pid is known."""
    steps: list[Step] = []
    if "oomScoreAdj" in process:
        steps.append(credentials.SetOomScore(process["oomScoreAdj"], pid))
    if process.get("rlimits") and _has_userns(config):
        steps.append(credentials.RaiseRlimits(pid, _rlimits(process)))
    if not process.get("execCPUAffinity"):
        steps += _all_cpus(pid)
    return steps


def _all_cpus(pid: int) -> list[Step]:
    """Whoever calls may be bound to some CPUs: a container's are its cpuset's, as in runc."""
    count = os.cpu_count() or 1
    return [scheduling.SetAffinity(f"0-{count - 1}", pid)] if len(os.sched_getaffinity(0)) < count else []


def affinity_steps(process: Mapping[str, Any], pid: int, *, final: bool) -> list[Step]:
    """Return the CPUs of an exec session: before it enters the container's cgroup, and after (`final`)."""
    cpus = process.get("execCPUAffinity", {}).get("final" if final else "initial", "")
    return [scheduling.SetAffinity(cpus, pid)] if cpus.strip(" ,\t\n") else []


def privilege_steps(config: Mapping[str, Any], process: Mapping[str, Any], account: Account) -> list[Step]:
    """Return the last steps before execve, for init and for exec alike; all run inside the container.

    They open no file after SetRlimits, and the working directory is entered among them.
    """
    has_no_new = bool(process.get("noNewPrivileges"))
    filters = _filter(config)
    steps: list[Step] = [*_labels(process)]
    if has_no_new:
        steps.append(credentials.NoNewPrivileges())
    steps += [*_scheduling(config, process), credentials.OwnStdio(account.uid)]
    cwd = process.get("cwd", "/")
    steps.append(credentials.EnterDirectory(cwd))
    if process.get("rlimits"):
        steps.append(credentials.SetRlimits(_rlimits(process)))
    if not has_no_new:
        steps += filters
    steps += _become(process, account, cwd, keep_groups=keeps_groups(config))
    if has_no_new:
        steps += filters
    return steps


def split_filter(steps: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """Return (all but, only) a system call filter at the very end of privilege_steps.

    What the filter may forbid, looking up the program above all, is done between the two.
    """
    if steps and isinstance(steps[-1], seccomp.LoadSeccomp):
        return list(steps[:-1]), [steps[-1]]
    return list(steps), []


def warnings(process: Mapping[str, Any]) -> list[str]:
    """Return what cannot be granted here and is passed over, as runc does, for the runtime's log."""
    sets = process.get("capabilities", {})
    lacking = capability.missing(tuple(name for kind in capability.SETS for name in sets.get(kind, ())))
    return [f"ignoring unknown or unavailable capabilities: [{' '.join(lacking)}]"] if lacking else []


def _become(process: Mapping[str, Any], account: Account, cwd: str, *, keep_groups: bool) -> list[Step]:
    # Without `capabilities` the process gets none, as in crun: nothing that was not asked for.
    sets = {name: tuple(process.get("capabilities", {}).get(name, ())) for name in capability.SETS}
    return [
        capability.DropBounding(sets["bounding"]),
        capability.KeepCapabilities(),
        credentials.SetUser(account.uid, account.gid, None if keep_groups else account.groups),
        credentials.EnterDirectory(cwd, is_last_try=True),
        capability.SetCapabilities(sets["effective"], sets["permitted"], sets["inheritable"], sets["ambient"]),
    ]


def _labels(process: Mapping[str, Any]) -> list[Step]:
    steps: list[Step] = []
    for name, module in (("apparmorProfile", "apparmor"), ("selinuxLabel", "selinux")):
        if process.get(name):
            steps.append(lsm.SetExecLabel(process[name], module))
    return steps


def _scheduling(config: Mapping[str, Any], process: Mapping[str, Any]) -> list[Step]:
    steps: list[Step] = []
    asked = process.get("scheduler")
    if asked is not None:
        times = (asked.get(name, 0) for name in ("runtime", "deadline", "period"))
        numbers = (asked.get("nice", 0), asked.get("priority", 0), *times)
        steps.append(scheduling.SetScheduler(asked["policy"], tuple(asked.get("flags", ())), *numbers))
    asked = process.get("ioPriority")
    if asked is not None:
        steps.append(scheduling.SetIoPriority(asked["class"], asked.get("priority", 0)))
    linux = config.get("linux", {})
    if "personality" in linux:
        steps.append(scheduling.SetPersonality(linux["personality"]["domain"]))
    policy = linux.get("memoryPolicy")
    if policy is not None:
        flags = tuple(policy.get("flags", ()))
        steps.append(scheduling.SetMemoryPolicy(policy["mode"], policy.get("nodes", ""), flags))
    return steps


def _rlimits(process: Mapping[str, Any]) -> tuple[tuple[str, int, int], ...]:
    return tuple((limit["type"], limit["soft"], limit["hard"]) for limit in process["rlimits"])


def _filter(config: Mapping[str, Any]) -> list[Step]:
    profile = config.get("linux", {}).get("seccomp")
    return [seccomp.load_step(profile)] if profile and profile.get("defaultAction") else []


def _has_userns(config: Mapping[str, Any]) -> bool:
    return any(entry["type"] == "user" for entry in config.get("linux", {}).get("namespaces", ()))
