"""Forwarding between the host's links: turned on with the first bridge of any state folder, off with the last.

::

    /run/innkeeper/forwarding/NETNS     what was changed: there if we turned something on in this network namespace
    /run/innkeeper/forwarding/.lock

All state folders of a host share it: forwarding stays on as long as a bridge of any of them is there. Links that the
host did not forward between before stay closed to one another (rules.Closed): it is no router because of us.
For IPv6 the host must not lose what routers tell it: a link that listens to them goes on to (accept_ra 2).
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from backends.kernel import procfs
from backends.native.locking import locked
from backends.native.networks.rules import Closed
from backends.native.store import write_file

_FOLDER = Path("/run/innkeeper/forwarding")
_SYSCTL = Path("/proc/sys/net")
_V4, _V6 = _SYSCTL / "ipv4/ip_forward", _SYSCTL / "ipv6/conf/all/forwarding"
_BRIDGE = re.compile(r"inn0|inn-[0-9a-f]{8}")


def prepare(bridge: str, *, ipv6: bool) -> Closed:
    """Put on record what turn_on() is going to change for a bridge; return what has to stay closed. Raises OSError."""
    with _locked():
        memo = _read()
        if not _others(bridge):
            memo = {}  # of a namespace or a time that has gone
        changed = dict(memo)
        for key, path in (("ipv4", _V4), *([("ipv6", _V6)] if ipv6 else [])):
            if key not in changed and _value(path) == "0":
                changed[key] = sorted(name for _, name in socket.if_nameindex() if not _BRIDGE.fullmatch(name))
        if "ipv6" in changed and "accept_ra" not in changed:
            changed["accept_ra"] = [name for name in changed["ipv6"] if _value(_accept_ra(name)) == "1"]
        if changed != memo or not changed:
            _write(changed)
        return _closed(changed)


def turn_on(*, ipv6: bool) -> None:
    """Forward. Raises OSError."""
    with _locked():
        memo = _read()
        if _value(_V4) == "0":
            _V4.write_text("1")
        if ipv6 and _value(_V6) == "0":
            for name in memo.get("accept_ra", ()):
                with suppress(OSError):
                    _accept_ra(name).write_text("2")
            _V6.write_text("1")


def turn_off() -> None:
    """Have it as it was before, if no bridge of ours is there any more."""
    if not _FOLDER.exists():
        return
    with _locked():
        memo = _read()
        if _others(""):
            return
        for key, path in (("ipv4", _V4), ("ipv6", _V6)):
            if key in memo:
                with suppress(OSError):
                    path.write_text("0")
        for name in memo.get("accept_ra", ()):
            with suppress(OSError):
                _accept_ra(name).write_text("1")
        _memo().unlink(missing_ok=True)


def closed() -> Closed:
    """Return the links between which the host must not forward, as prepare() found them."""
    return _closed(_read())


def _closed(memo: dict[str, Any]) -> Closed:
    return Closed(tuple(memo.get("ipv4", ())), tuple(memo.get("ipv6", ())))


def _others(bridge: str) -> bool:
    return any(_BRIDGE.fullmatch(name) and name != bridge for _, name in socket.if_nameindex())


def _memo() -> Path:
    return _FOLDER / str(os.stat("/proc/self/ns/net").st_ino)


def _read() -> dict[str, Any]:
    try:
        memo = json.loads(_memo().read_text())
        return dict(memo) if memo.pop("boot") == procfs.boot_id() else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(memo: dict[str, Any]) -> None:
    if memo:
        write_file(_memo(), json.dumps({**memo, "boot": procfs.boot_id()}))
    else:
        _memo().unlink(missing_ok=True)


def _accept_ra(name: str) -> Path:
    return _SYSCTL / f"ipv6/conf/{name}/accept_ra"


def _value(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


@contextmanager
def _locked() -> Iterator[None]:
    _FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    with locked(_FOLDER / ".lock"):
        yield
