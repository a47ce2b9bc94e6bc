"""The bridge that containers share, and its coming and going. What is kept of networks is in networks/."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from backends.errors import InnkeeperError
from backends.kernel import netlink
from backends.native import nat
from backends.native.locking import locked as locked
from backends.native.networks.endpoint import DEFAULT, Endpoint


def bridge_name(state_dir: Path, *, is_default: bool) -> str:
    """Return the bridge of a state folder: inn0 for the usual one, a name made from the path for others."""
    return "inn0" if is_default else "inn-" + hashlib.sha256(str(state_dir).encode()).hexdigest()[:8]


def detach(link: str) -> None:
    """Delete a container's link. The bridge stays as long as the spawner: making it anew costs each start.

    The link would go with its network namespace, but the kernel takes those down in its own time.
    """
    with suppress(OSError):
        netlink.delete_link(link)


def let_go(run_dir: Path, endpoints: Sequence[Endpoint]) -> None:
    """Delete a container's links, and with the last one on it the bridge of a network that a user made."""
    for each in endpoints:
        detach(each.link)
    for bridge in {each.bridge for each in endpoints if each.network != DEFAULT}:
        with suppress(OSError, InnkeeperError):
            tidy_bridge(run_dir, bridge)


def tidy_bridge(run_dir: Path, bridge: str, *, patience_s: float = 0.0) -> None:
    """Delete the bridge when no container hangs on it any more; wait so long for links that are on their way out."""
    deadline = time.monotonic() + patience_s
    while not _is_tidy(run_dir, bridge) and time.monotonic() < deadline:
        time.sleep(0.02)


def _is_tidy(run_dir: Path, bridge: str) -> bool:
    with bridge_lock(run_dir):
        if netlink.link_exists(bridge):
            if netlink.links_of(bridge):
                return False
            netlink.delete_link(bridge)
        nat.close(run_dir, bridge)  # also if somebody else deleted the bridge
        return True


@contextmanager
def bridge_lock(run_dir: Path) -> Iterator[None]:
    """Hold while a link is put on the bridge, and while an empty bridge is deleted."""
    with locked(run_dir / "bridge.lock"):
        yield
