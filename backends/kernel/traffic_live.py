"""Traffic control of links that are in use, through pyroute2: changing it, and reading what it did.

pyroute2 takes a third of a second to load: only `set_limits` and `inn limits` come here, no start does.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from backends.errors import InnkeeperError, KernelRefused, NotFound
from backends.kernel import linux, traffic
from backends.kernel.mounts import KernelStep
from backends.kernel.traffic import Bucket, Queueing, Shape

T = TypeVar("T")
_GONE = (errno.ENODEV, errno.ENOENT, errno.ESRCH)


@dataclass(frozen=True, slots=True)
class Counters:
    """What a link's queueing has counted since it was set."""

    held_back: int = 0
    """How often it had to wait for the rate (overlimits)."""

    dropped: int = 0
    """Packets, for want of room in the queue or as asked."""

    waiting_bytes: int = 0
    """Bytes in the queue now (backlog)."""

    def plus(self, other: Counters) -> Counters:
        """Return the sum."""
        return Counters(
            self.held_back + other.held_back, self.dropped + other.dropped, self.waiting_bytes + other.waiting_bytes
        )


@dataclass(frozen=True, slots=True)
class ChangeShape(KernelStep):
    """Change what a link in use may send; packets that wait stay where only figures change."""

    link: str
    pid: int
    """A process in whose network namespace the link is; 0: ours."""

    before: Shape
    after: Shape
    kind = "traffic"

    def describe(self) -> str:
        return f"{self.link} sends {traffic.words(self.after)}"

    def by_hand(self) -> str:
        lines = traffic.by_hand(self.link, _plan(self.after))
        return f"nsenter -n -t {self.pid} sh -c '{lines}'" if self.pid else lines

    def run(self) -> None:
        try:
            _set(self.link, self.pid, self.after)
        except InnkeeperError:
            with suppress(InnkeeperError):
                _set(self.link, self.pid, self.before)
            raise

    def undo(self) -> None:
        _set(self.link, self.pid, self.before)


def counters(link: str, pid: int = 0) -> Counters:
    """Return what was counted on a link. Raises NotFound when it has gone."""

    def read(route: Any, index: int) -> Counters:
        held_back = dropped = waiting = 0
        for found in route.get_qdiscs(index=index):
            if found.get("handle") in (traffic.NETEM_HANDLE, traffic.TBF_HANDLE, traffic.CLSACT_HANDLE):
                stats = found.get_attr("TCA_STATS2")
                queue = stats.get_attr("TCA_STATS_QUEUE") if stats is not None else None
                if queue is not None:
                    held_back += queue["overlimits"]
                    dropped += queue["drops"]
                    waiting += queue["backlog"]
        return Counters(held_back, dropped, waiting)

    return _with_route(link, pid, "read the queueing of", read)


def _plan(shape: Shape) -> traffic.Plan:
    return traffic.plan(shape, has_netem=not traffic.why_no_netem())


def _set(link: str, pid: int, shape: Shape) -> None:
    """Give a link this shape, whatever it had. Raises NotFound, KernelRefused, Unsupported."""
    wanted = _plan(shape)
    _with_route(link, pid, "limit what is sent on", lambda route, index: _bring_about(route, index, wanted))


def _bring_about(route: Any, index: int, wanted: traffic.Plan) -> None:
    present = {found["handle"]: found["parent"] for found in route.get_qdiscs(index=index)}
    placed = wanted.placed()
    ours = {handle for handle in present if handle in (traffic.NETEM_HANDLE, traffic.TBF_HANDLE)}
    fits = ours == {handle for _, handle, _ in placed} and all(
        present.get(handle) == parent for parent, handle, _ in placed
    )
    if ours and not fits:
        route.tc("del", index=index, parent=traffic.ROOT)
    for parent, handle, each in placed:
        route.tc("change" if fits else "add", each.kind, index, handle, parent=parent, **_options(each))
    if traffic.CLSACT_HANDLE in present:
        route.tc("del", "clsact", index=index)
    if wanted.dropped_pct:
        program = traffic.loss_program(wanted.dropped_pct)
        try:
            route.tc("add", "clsact", index)
            route.tc("add-filter", "bpf", index, ":1", fd=program, name="innkeeper-loss", parent=traffic.EGRESS,
                     direct_action=True, prio=traffic.LOSS_PRIORITY, protocol=traffic.ALL_PROTOCOLS)  # fmt: skip
        finally:
            os.close(program)


def _options(each: Queueing) -> dict[str, int | float]:
    """Return pyroute2's words for it; times are in microseconds there."""
    if isinstance(each, Bucket):
        return {"rate": each.bytes_per_s, "burst": each.burst_bytes, "limit": each.limit_bytes}
    return {"delay": round(each.delay_s * 1e6), "jitter": round(each.jitter_s * 1e6), "loss": each.loss_pct,
            "limit": traffic.NETEM_PACKETS}  # fmt: skip


def _with_route(link: str, pid: int, what: str, work: Callable[[Any, int], T]) -> T:
    """Call work(IPRoute, index of the link) in the network namespace of a process, in a thread of its own.

    A thread that has entered a namespace of others is of no more use, and ends.
    """
    found: list[T] = []
    failure: list[Exception] = []

    def enter_and_work() -> None:
        try:
            if pid:
                _enter(pid)
            found.append(_work(link, work))
        except (OSError, InnkeeperError) as error:
            failure.append(error)

    thread = threading.Thread(target=enter_and_work, name=f"traffic of {link}", daemon=True)
    thread.start()
    thread.join()
    if not failure:
        return found[0]
    error = failure[0]
    if isinstance(error, OSError):
        if error.errno in _GONE and not _exists(link, pid):
            raise NotFound(f"cannot {what} {link}: it has gone") from error
        raise KernelRefused(f"{what} {link}", error) from error
    raise error


def _enter(pid: int) -> None:
    space = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(space, linux.CLONE_NEWNET)
    finally:
        os.close(space)


def _work(link: str, work: Callable[[Any, int], T]) -> T:
    from pyroute2 import IPRoute, NetlinkError

    try:
        with IPRoute() as route:
            indices = route.link_lookup(ifname=link)
            if not indices:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            return work(route, indices[0])
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error


def _exists(link: str, pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}/net/dev_snmp6/{link}" if pid else f"/sys/class/net/{link}")
