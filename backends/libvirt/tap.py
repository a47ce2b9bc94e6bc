"""Queueing of a guest's link on this host."""

from __future__ import annotations

from contextlib import suppress

from backends.errors import KernelRefused


def clear_queueing(tap: str) -> None:
    """Take the queueing away that libvirt left half-built on a tap when it could not limit its bandwidth.

    libvirt adds htb classes, then an sfq leaf; where the kernel has no sfq it stops in between.
    """
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as route:
        found = route.link_lookup(ifname=tap)
        if not found:
            return
        for handle in ({"parent": 0xFFFFFFFF}, {"kind": "ingress", "parent": 0xFFFFFFF1}):
            with suppress(KeyError):
                try:
                    route.tc("del", index=found[0], **handle)
                except NetlinkError as error:
                    if error.code not in (2, 22, 95):  # none there
                        raise KernelRefused(f"clear the queueing of {tap}", OSError(error.code, str(error))) from error
