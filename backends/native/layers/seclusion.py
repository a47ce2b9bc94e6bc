"""Where a layer is unpacked: nothing is in reach there but the layer itself, and those below it to read.

A mount namespace with that as its only mount, no network, no descriptors but the three, and of root's rights
only those over files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from backends.kernel import linux
from backends.kernel.capability import SetCapabilities
from backends.kernel.mounts import MountOverlay, SetPropagation

_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP")


def enter(target: str, work: str, place: str, below: Sequence[str], *, in_userns: bool) -> bool:
    """Be in the tree to write to, with no way out; says whether it shows the layers below too.

    target, work and place are empty folders: the new layer, overlayfs's scratch folder, and where to mount; below are
    the folders of the layers below, top first. Raises OSError.
    """
    is_merged = False
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWIPC)
    SetPropagation().run()
    if below:
        found = os.stat(below[0])  # "/" is as below where the layer does not name it
        os.chown(target, found.st_uid, found.st_gid)
        os.chmod(target, stat.S_IMODE(found.st_mode))
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
        try:
            MountOverlay(tuple(below), target, work, place, in_userns, plain=True).run()
            is_merged = True
        except OSError as error:
            if not in_userns:
                raise OSError(f"cannot stack it on the layers below: {error.strerror}") from error
    if not is_merged:
        linux.mount(target, place, "", linux.MS_BIND)
    os.chdir(place)
    linux.pivot_root(".", ".")
    linux.umount(".", linux.MNT_DETACH)
    os.chdir("/")
    linux.close_range(3)
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    SetCapabilities(_CAPABILITIES, _CAPABILITIES).run()
    return is_merged
