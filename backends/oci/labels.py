"""Security labels that this host has no module for: left out with a warning, as crun does.

Callers give them from their own defaults; a container that is refused for that would run nowhere but there.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from backends.kernel import lsm


def drop_unknown(process: MutableMapping[str, Any], linux: MutableMapping[str, Any] | None = None) -> list[str]:
    """Take out of a configuration what AppArmor and SELinux would do where they are not; return what was."""
    dropped = []
    if process.get("apparmorProfile") and not lsm.has_apparmor():
        dropped.append(f"process.apparmorProfile {process.pop('apparmorProfile')!r}: this kernel has no AppArmor")
    if process.get("selinuxLabel") and not lsm.has_selinux():
        dropped.append(f"process.selinuxLabel {process.pop('selinuxLabel')!r}: this kernel has no SELinux")
    if linux is not None and linux.get("mountLabel") and not lsm.has_selinux():
        dropped.append(f"linux.mountLabel {linux.pop('mountLabel')!r}: this kernel has no SELinux")
    return [f"ignoring {text}" for text in dropped]
