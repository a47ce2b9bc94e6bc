"""Who runs a container: our own runtime, or an installed one, as Docker's exec drivers once did.

The supervisor, the log, limits, pause, figures, network, secrets and the image's layers are the same with each; a
driver makes the first process, joins further ones to it, and forgets it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backends.errors import UsageError

if TYPE_CHECKING:
    from backends.kernel.cgroup import CgroupHost
    from backends.native.drivers.driver import Driver

NAMES = ("native", "runc", "crun")


def get(name: str, run_dir: Path) -> Driver:
    """Return a driver by its name. Raises UsageError for one that is not known, Unsupported for one not installed."""
    if name == "native":
        from backends.native.drivers.native import NativeDriver

        return NativeDriver()
    if name not in NAMES:
        raise UsageError(f"driver {name!r} is not known", hint=", ".join(NAMES))
    from backends.native.drivers.runtime import RuntimeDriver

    return RuntimeDriver.found(name, run_dir)


def from_checkpoint(folder: Path) -> Driver | None:
    """Return the driver of a start that is to be made from a checkpoint; None for any other."""
    if not (folder / "restore.json").exists():
        return None
    from backends.native.drivers.restored import asked

    return asked(folder)


def check(name: str, run_dir: Path, host: CgroupHost) -> None:
    """Raise UsageError or Unsupported for a driver that cannot work here; ours can."""
    if name != "native":
        get(name, run_dir).check(host)


def clean_up(name: str, run_dir: Path, container_id: str) -> None:
    """Let an installed runtime forget a container that has ended; never raises for one that is unknown to it."""
    if name != "native" and name in NAMES:
        from backends.native.drivers import runtime

        runtime.forget(name, run_dir, container_id)
