"""Links of a running container, put in and taken out."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backends.errors import InnkeeperError, WrongState
from backends.kernel import linux, netlink, procfs, rtnetlink
from backends.kernel.mounts import KernelStep
from backends.kernel.rtnetlink import Rtnetlink
from backends.model import Limits
from backends.native import nat, shaping
from backends.native.network import bridge_lock, let_go
from backends.native.networks.endpoint import Endpoint
from backends.native.plan import address_steps, link_steps
from backends.native.record import ContainerRecord, Status
from backends.trace import Recorder, Step


def plug(
    run_dir: Path, record: ContainerRecord, endpoint: Endpoint, status: Status, limits: Limits, recorder: Recorder
) -> None:
    """Give a running container the link of an endpoint that is on its record. Undoes all if it fails."""
    ends = [shaping.Ends(endpoint.link, endpoint.ifname)]
    done: list[Step] = []
    space = _open(status)
    try:
        with bridge_lock(run_dir):
            links = link_steps(endpoint, status.pid or 0, publishes=bool(record.publish))
            for step in (*links, *nat.steps(record, run_dir, is_live=True), *shaping.host_steps(ends, limits)):
                recorder.run(step)
                done.append(step)
        configure = address_steps(record.endpoints)[record.endpoints.index(endpoint)]
        for step in (configure, *shaping.guest_steps(ends, limits)):
            recorder.run(InSpace(step, space, status.pid or 0))
    except BaseException:
        for step in reversed(done):
            with suppress(OSError, InnkeeperError):
                step.undo()
        with suppress(OSError, InnkeeperError):
            let_go(run_dir, [endpoint])
        _publish_again(run_dir, record.with_endpoints([each for each in record.endpoints if each != endpoint]))
        raise
    finally:
        os.close(space)


def _publish_again(run_dir: Path, record: ContainerRecord) -> None:
    """Lead the ports to where they led before: with the way out of a link that was not to be they were taken back."""
    with suppress(OSError, InnkeeperError):
        for step in nat.steps(record, run_dir, is_live=True):
            step.run()


def unplug(run_dir: Path, record: ContainerRecord, gone: Endpoint, status: Status, recorder: Recorder) -> None:
    """Take a link from a running container; record: what it has from now on. Its way out and ports move on."""
    space = _open(status)
    try:
        nat.withdraw(run_dir, record)
        recorder.run(RemoveLink(gone.link))
        let_go(run_dir, [gone])
        for step in nat.steps(record, run_dir, is_live=True):
            recorder.run(step)
        recorder.run(InSpace(MoveWayOut(_ways_out(record.endpoints)), space, status.pid or 0))
    finally:
        os.close(space)


@dataclass(frozen=True, slots=True)
class RemoveLink(KernelStep):
    """Delete the host's end of a pair of links, and with it the container's."""

    name: str
    kind = "link"

    def describe(self) -> str:
        return f"delete link {self.name}, with its end in the container"

    def by_hand(self) -> str:
        return f"ip link delete {self.name}"

    def run(self) -> None:
        netlink.delete_link(self.name)


@dataclass(frozen=True, slots=True)
class MoveWayOut(KernelStep):
    """See that there is a default route over the first network that has a way out. Runs inside."""

    gateways: tuple[str, ...]
    kind = "route"

    def describe(self) -> str:
        return f"the way out is over {' and '.join(self.gateways) or 'no network'}"

    def by_hand(self) -> str:
        return "; ".join(f"ip route add default via {gateway}" for gateway in self.gateways)

    def run(self) -> None:
        with Rtnetlink() as route:
            for gateway in self.gateways:
                with suppress(FileExistsError):
                    route.do(rtnetlink.add_default_route(gateway))


@dataclass(frozen=True, slots=True)
class InSpace(KernelStep):
    """Does a step in a network namespace, by a thread that enters it and ends: no other thread notices."""

    step: Step
    space: int
    pid: int

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The step's own."""
        return self.step.kind

    def describe(self) -> str:
        return self.step.describe()

    def by_hand(self) -> str:
        by_hand = self.step.by_hand()
        return f"nsenter -n -t {self.pid} sh -c {shlex.quote(by_hand)}" if by_hand else ""

    def run(self) -> None:
        """Do it. Raises what the step raises."""
        failed: list[BaseException] = []

        def work() -> None:
            try:
                linux.setns(self.space, linux.CLONE_NEWNET)
                self.step.run()
            except Exception as error:  # the end of a thread
                failed.append(error)

        _in_thread(work)
        if failed:
            raise failed[0]


def _in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work, name="network")
    thread.start()
    thread.join()


def _ways_out(endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
    ways = [each for each in endpoints if not each.internal]
    first6 = next((each.gateway6 for each in ways if each.address6), "")
    return tuple(gateway for gateway in (ways[0].gateway if ways else "", first6) if gateway)


def _open(status: Status) -> int:
    """Return a descriptor of a running container's network namespace. Raises WrongState."""
    ended = WrongState("it has just ended")
    if status.pid is None or status.pid_start is None:
        raise ended
    try:
        space = os.open(f"/proc/{status.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise ended from None
    if not procfs.is_same_process(status.pid, status.pid_start):
        os.close(space)
        raise ended
    return space
