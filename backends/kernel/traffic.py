"""How fast a link sends, and how late and how surely what it sends arrives: traffic control (tc(8), linux/pkt_sched.h).

::

    rate alone               root: tbf
    delay, jitter, loss      root: netem
    both                     root: netem, below it tbf: what is late is then sent at the rate
    loss without sch_netem   a BPF program at clsact's egress that drops at random

All of it belongs to the link, and goes with it. At a container's start a few netlink messages of our own do it, which
cost microseconds; changes and readings are in `traffic_live`.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from backends.errors import Unsupported
from backends.kernel import linux
from backends.kernel.mounts import KernelStep
from backends.kernel.rtnetlink import Message, Rtnetlink

MOST_BYTES_PER_S = 2**32 - 1
"""What struct tc_ratespec holds, some 34 Gbit/s."""

ROOT, CLSACT, EGRESS = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFFFFF3
NETEM_HANDLE, TBF_HANDLE, CLSACT_HANDLE = 0x10000, 0x20000, 0xFFFF0000
LOSS_PRIORITY, ALL_PROTOCOLS = 1, 0x0003

_NEWQDISC, _NEWTFILTER = 36, 44
_CREATE, _EXCL, _REPLACE = 0x400, 0x200, 0x100
_TCMSG = struct.Struct("=BxxxiIII")
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_NETEM_LATENCY64, _NETEM_JITTER64 = 10, 11
_BPF_FD, _BPF_NAME, _BPF_FLAGS, _BPF_DIRECT = 6, 7, 8, 1
_ETHERNET = 1

_FRAME = 1514
_LARGEST_PACKET = 65_600
"""What segmentation offload makes of many frames, with headers."""

_WAITING_S = 0.1
NETEM_PACKETS = 10_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What is asked of what a link sends."""

    bytes_per_s: int | None = None
    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Evenly spread to either side of the delay; packets overtake one another then."""

    loss_pct: float = 0.0

    @property
    def is_free(self) -> bool:
        """True if nothing is asked."""
        return self == Shape()


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: sch_tbf(8)."""

    bytes_per_s: int
    burst_bytes: int
    limit_bytes: int
    """What may wait."""

    kind = "tbf"

    def options(self) -> bytes:
        """Return struct tc_tbf_qopt and what goes with it."""
        rate = struct.pack("=BBHhHI", 0, _ETHERNET, 0, 0, 0, min(self.bytes_per_s, MOST_BYTES_PER_S))
        parameters = rate + bytes(12) + struct.pack("=III", self.limit_bytes, 0, 0)
        return (
            _attribute(_TBF_PARMS, parameters)
            + _attribute(_TBF_RATE64, struct.pack("=Q", self.bytes_per_s))
            + _attribute(_TBF_BURST, struct.pack("=I", self.burst_bytes))
        )

    def words(self) -> str:
        """Return it as tc(8) wants it."""
        return f"tbf rate {self.bytes_per_s}bps burst {self.burst_bytes} limit {self.limit_bytes}"


@dataclass(frozen=True, slots=True)
class Emulation:
    """A network that is far away or bad: sch_netem(8)."""

    delay_s: float
    jitter_s: float
    loss_pct: float
    kind = "netem"

    def options(self) -> bytes:
        """Return struct tc_netem_qopt and what goes with it."""
        head = struct.pack("=IIIIII", 0, NETEM_PACKETS, round(self.loss_pct / 100 * (2**32 - 1)), 0, 0, 0)
        return (
            head
            + _attribute(_NETEM_LATENCY64, struct.pack("=q", round(self.delay_s * 1e9)))
            + _attribute(_NETEM_JITTER64, struct.pack("=q", round(self.jitter_s * 1e9)))
        )

    def words(self) -> str:
        """Return it as tc(8) wants it."""
        late = f" delay {self.delay_s * 1000:g}ms {self.jitter_s * 1000:g}ms" if self.delay_s or self.jitter_s else ""
        lost = f" loss {self.loss_pct:g}%" if self.loss_pct else ""
        return f"netem limit {NETEM_PACKETS}{late}{lost}"


Queueing = Bucket | Emulation


@dataclass(frozen=True, slots=True)
class Plan:
    """What a shape comes to on this kernel."""

    queueing: tuple[Queueing, ...]
    """From the root down; empty: the link's own."""

    dropped_pct: float = 0.0
    """What a BPF program drops, where netem is not there to do it."""

    def placed(self) -> list[tuple[int, int, Queueing]]:
        """Return (parent, handle, what) of each."""
        handles = [NETEM_HANDLE if each.kind == "netem" else TBF_HANDLE for each in self.queueing]
        parents = [ROOT, *(handle | 1 for handle in handles)]
        return list(zip(parents, handles, self.queueing, strict=False))


def plan(shape: Shape, *, has_netem: bool) -> Plan:
    """Return what does it. Raises Unsupported where only netem could."""
    wants_netem = bool(shape.delay_s or shape.jitter_s or (shape.loss_pct and has_netem))
    if wants_netem and not has_netem:
        raise Unsupported(f"cannot delay packets: {NO_NETEM}", hint=NETEM_HINT)
    found: list[Queueing] = []
    if wants_netem:
        found.append(Emulation(shape.delay_s, shape.jitter_s, shape.loss_pct))
    if shape.bytes_per_s is not None:
        found.append(_bucket(shape.bytes_per_s, is_below_netem=wants_netem))
    return Plan(tuple(found), 0.0 if wants_netem else shape.loss_pct)


def _bucket(bytes_per_s: int, *, is_below_netem: bool) -> Bucket:
    """Return a bucket with 10 ms of burst and 100 ms of queue, but room for what a TCP connection cannot do without.

    Before Linux 6.13 netem miscounts packets that a bucket below it cuts up, until it lets none through any more; one
    that whole packets fit into cuts nothing.
    """
    least = _LARGEST_PACKET if is_below_netem else 2 * _FRAME
    burst = max(bytes_per_s // 100, least)
    return Bucket(bytes_per_s, burst, burst + max(round(bytes_per_s * _WAITING_S), 16 * _FRAME))


NO_NETEM = "this kernel is built without network emulation (sch_netem)"
NETEM_HINT = "modprobe sch_netem, or a kernel with CONFIG_NET_SCH_NETEM"


def why_no_netem() -> str:
    """Say why packets cannot be delayed here; empty if they can. The kernel loads the module if it is not there yet."""
    return "" if _knows("netem") else NO_NETEM


def why_no_rate() -> str:
    """Say why a link's rate cannot be limited here; empty if it can."""
    return "" if _knows("tbf") else "this kernel is built without the token bucket filter (sch_tbf)"


def _knows(kind: str) -> bool:
    """Ask for queueing without its parameters: refused by a kernel that has it with EINVAL, by another with ENOENT."""
    try:
        with Rtnetlink() as route:
            route.do(_new_qdisc(socket.if_nametoindex("lo"), ROOT, 0x70000, kind, None))
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.EOPNOTSUPP)
    return True


@dataclass(frozen=True, slots=True)
class ShapeLink(KernelStep):
    """Limit what a new link sends. Runs in the link's network namespace."""

    link: str
    shape: Shape
    kind = "traffic"

    def describe(self) -> str:
        return f"{self.link} sends {words(self.shape)}"

    def by_hand(self) -> str:
        return by_hand(self.link, plan(self.shape, has_netem=not why_no_netem()))

    def run(self) -> None:
        wanted = plan(self.shape, has_netem=not (self.shape.delay_s or self.shape.jitter_s or self.shape.loss_pct) or
                      not why_no_netem())  # fmt: skip
        index = socket.if_nametoindex(self.link)
        messages = [_new_qdisc(index, parent, handle, each.kind, each.options())
                    for parent, handle, each in wanted.placed()]  # fmt: skip
        with Rtnetlink() as route:
            route.do(*messages)
            if wanted.dropped_pct:
                with open(loss_program(wanted.dropped_pct), closefd=True) as program:
                    route.do(
                        _new_qdisc(index, CLSACT, CLSACT_HANDLE, "clsact", None),
                        _new_filter(index, program.fileno()),
                    )

    def undo(self) -> None:
        """Nothing: it goes with the link."""


def words(shape: Shape) -> str:
    """Return a shape as people say it."""
    parts = [f"{shape.bytes_per_s} bytes/s"] if shape.bytes_per_s is not None else []
    if shape.delay_s or shape.jitter_s:
        give = f" ± {shape.jitter_s * 1000:g}" if shape.jitter_s else ""
        parts.append(f"{shape.delay_s * 1000:g}{give} ms late")
    if shape.loss_pct:
        parts.append(f"with {shape.loss_pct:g} % lost")
    return ", ".join(parts) or "as it can"


def by_hand(link: str, wanted: Plan) -> str:
    """Return the shell lines that would do it."""
    lines = []
    for parent, handle, each in wanted.placed():
        place = "root" if parent == ROOT else f"parent {parent >> 16:x}:{parent & 0xFFFF:x}"
        lines.append(f"tc qdisc replace dev {link} {place} handle {handle >> 16:x}: {each.words()}")
    if wanted.dropped_pct:  # what the BPF program does, in words that a shell has
        chain = f"""'{{ type filter hook egress device "{link}" priority 0; }}'"""
        share = f"numgen random mod 100000 < {round(wanted.dropped_pct * 1000)}"
        lines += ["nft add table netdev loss", f"nft add chain netdev loss out {chain}",
                  f"nft add rule netdev loss out '{share} drop'"]  # fmt: skip
    return "; ".join(lines) or f"tc qdisc del dev {link} root"


def loss_program(pct: float) -> int:
    """Return a descriptor of a loaded BPF program that drops so many of a hundred packets. Raises OSError."""
    threshold = min(round(pct / 100 * 2**32), 2**32 - 1)
    code = b"".join((
        _instruction(0x85, 0, 0, 7),  # r0 = bpf_get_prandom_u32()
        _instruction(0xA6, 0, 2, threshold),  # if r0 < threshold go on with the third after this
        _instruction(0xB4, 0, 0, 0xFFFFFFFF),  # TC_ACT_UNSPEC: as if there were no filter
        _instruction(0x95, 0, 0, 0),
        _instruction(0xB4, 0, 0, 2),  # TC_ACT_SHOT
        _instruction(0x95, 0, 0, 0),
    ))  # fmt: skip
    return linux.load_program(linux.BPF_PROG_TYPE_SCHED_CLS, code)


def _instruction(code: int, destination: int, offset: int, value: int) -> bytes:
    return struct.pack("=BBhI", code, destination, offset, value)


def _new_qdisc(index: int, parent: int, handle: int, kind: str, options: bytes | None) -> Message:
    body = _TCMSG.pack(socket.AF_UNSPEC, index, handle, parent, 0) + _attribute(_TCA_KIND, kind.encode() + b"\0")
    if options is not None:
        body += _attribute(_TCA_OPTIONS, options)
    return Message(_NEWQDISC, _CREATE | _EXCL, body)


def _new_filter(index: int, program_fd: int) -> Message:
    info = LOSS_PRIORITY << 16 | socket.htons(ALL_PROTOCOLS)
    options = (
        _attribute(_BPF_FD, struct.pack("=I", program_fd))
        + _attribute(_BPF_NAME, b"innkeeper-loss\0")
        + _attribute(_BPF_FLAGS, struct.pack("=I", _BPF_DIRECT))
    )
    body = _TCMSG.pack(socket.AF_UNSPEC, index, 1, EGRESS, info)
    return Message(
        _NEWTFILTER, _CREATE | _EXCL, body + _attribute(_TCA_KIND, b"bpf\0") + _attribute(_TCA_OPTIONS, options)
    )


def _attribute(number: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, number) + value + bytes(-length % 4)


def has_wishes(shapes: Sequence[Shape]) -> bool:
    """Say whether any of the shapes asks for something."""
    return any(not shape.is_free for shape in shapes)
