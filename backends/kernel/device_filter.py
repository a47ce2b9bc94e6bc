"""Which devices a container may use, as what an ordered list of allow and deny entries comes to.

The list means what cgroup v1's devices controller makes of it (admin-guide/cgroup-v1/devices.rst), on v2 too:
an entry of type "a" sets the answer for all devices and forgets what came before; others add or take away
exceptions from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from backends.errors import UsageError

TYPES = ("c", "b")
ACCESS = "rwm"


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """One kind of access, and whether it is allowed."""

    device_type: str
    """ "c", "b", or "a" for all devices."""

    major: int | None
    minor: int | None
    """None is any."""

    access: str
    """Of "r", "w", "m" (mknod)."""

    allow: bool = True

    def __str__(self) -> str:
        numbers = ":".join("*" if number is None else str(number) for number in (self.major, self.minor))
        return f"{self.device_type} {numbers} {self.access}"


DEFAULT_RULES = (
    DeviceRule("c", None, None, "m"),
    DeviceRule("b", None, None, "m"),
    *(DeviceRule("c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),
    *(DeviceRule("c", 5, minor, "rwm") for minor in (0, 1, 2)),
    DeviceRule("c", 136, None, "rwm"),
)
"""Docker's: any node may be made, but only null, zero, full, random, urandom and terminals be opened."""

_Which = tuple[str, int | None, int | None]


@dataclass(slots=True)
class DeviceFilter:
    """What a list of rules comes to: an answer for all devices, and the exceptions from it."""

    allows_all: bool = False
    exceptions: dict[_Which, str] = field(default_factory=dict)
    """(type, major, minor) → the kinds of access for which the answer is the other one."""

    def apply(self, rule: DeviceRule) -> None:
        """Add one entry of the list. Raises UsageError for what v1 would silently leave undone."""
        if rule.device_type == "a":
            self.allows_all, self.exceptions = rule.allow, {}
        elif rule.allow == self.allows_all:
            self._take_away(rule)
        else:
            which = _which(rule)
            self.exceptions[which] = _ordered({*self.exceptions.get(which, ""), *rule.access})

    def _take_away(self, rule: DeviceRule) -> None:
        which = _which(rule)
        for wider in _wider(rule):
            if wider != which and set(self.exceptions.get(wider, "")) & set(rule.access):
                verb = "deny" if self.allows_all else "allow"
                raise UsageError(
                    f'the entry "{rule}" cannot punch a hole in the wildcard "{verb} {_text(wider)}": '
                    "cgroup v1 has no such rules"
                )
        left = _ordered(set(self.exceptions.get(which, "")) - set(rule.access))
        if left:
            self.exceptions[which] = left
        else:
            self.exceptions.pop(which, None)

    def rules(self) -> list[DeviceRule]:
        """Return the exceptions as rules, in the order in which they came: v1's devices.list keeps it."""
        return [DeviceRule(*which, access, allow=not self.allows_all) for which, access in self.exceptions.items()]


def filter_of(rules: Iterable[DeviceRule]) -> DeviceFilter:
    """Return what the rules come to, in their order; nothing is allowed before the first."""
    found = DeviceFilter()
    for rule in rules:
        found.apply(rule)
    return found


def parse_list(text: str) -> DeviceFilter:
    """Parse v1's devices.list: what is allowed now; denials in a group that allows all are not listed there."""
    found = DeviceFilter()
    for line in text.splitlines():
        kind, numbers, access = line.split()
        major, minor = (None if word == "*" else int(word) for word in numbers.split(":"))
        found.apply(DeviceRule(kind, major, minor, access))
    return found


def _which(rule: DeviceRule) -> _Which:
    return rule.device_type, rule.major, rule.minor


def _wider(rule: DeviceRule) -> list[_Which]:
    kind = rule.device_type
    return [(kind, None, rule.minor), (kind, rule.major, None), (kind, None, None)]


def _text(which: _Which) -> str:
    return str(DeviceRule(*which, "")).strip()


def _ordered(access: set[str]) -> str:
    return "".join(letter for letter in ACCESS if letter in access)
