"""How long a snapshot takes, and going back to one, with few files and with many.

    python -m tests.bench.snapshots [FILES…]        default: 10 100000; as root

Makes containers of the host image below a temporary folder, writes so many files of 100 bytes into each, and saves it
while it is stopped and while it runs. Prints milliseconds; "deleting" is what a restore puts aside, deleted after the
container is back. "frozen" is how long the one that runs stood still, and the last column how many times as long a
`cp -a` of the same layer takes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from backends.container import ContainerSpec
from backends.model import Guest
from backends.native.backend import NativeBackend, make
from backends.native.snapshots import Snapshots
from backends.registry import BackendConfig
from backends.trace import Recorder

_R = Recorder("bench")
_A_FOLDER = 1000
_FREEZE = ("freeze ", "thaw ")


def main() -> None:
    """Measure and print a table."""
    counts = [int(word) for word in sys.argv[1:]] or [10, 100_000]
    root = Path(tempfile.mkdtemp(prefix="inn-bench-"))
    backend = make(BackendConfig(root, root / "run"))
    backend.open()
    try:
        print(f"{'files':>8}  {'save stopped':>12}  {'restore':>8}  {'deleting':>8}", end="")
        print(f"  {'save running':>12}  {'frozen':>8}  {'cp -a':>7}")
        for count in counts:
            _measure(backend, root, count)
    finally:
        for guest in backend.guests():
            backend.remove(guest.ref, _R, force=True)
        backend.clean(_R)
        backend.shutdown()
        backend.close()
        shutil.rmtree(root)


def _measure(backend: NativeBackend, root: Path, count: int) -> None:
    guest = backend.create(ContainerSpec("host", ("sleep", "1000"), network="none"), _R)
    _fill(root, guest, count)
    saving = _ms(lambda: backend.snapshot_create(guest.ref, "stopped", _R))
    _fill(root, guest, count)
    store, _ = backend.places
    snapshots = Snapshots(store.folder(guest.ref.id), guest.name)
    with store.locked(guest.ref.id):
        restoring = _ms(lambda: snapshots.restore("stopped", _R))
    deleting = _ms(snapshots.forget_old)
    _fill(root, guest, count)
    backend.start(guest.ref, _R)
    recorder = Recorder("bench")
    copying = _ms(lambda: backend.snapshot_create(guest.ref, "running", recorder))
    frozen, thawed = (next(step for step in recorder.records if step.text.startswith(word)) for word in _FREEZE)
    frozen_ms = (thawed.time_s - frozen.time_s) * 1000
    upper, copy = root / "containers" / guest.ref.id / "upper", root / "cp"
    by_cp = _ms(lambda: subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", upper, copy], check=True))
    shutil.rmtree(copy)
    backend.remove(guest.ref, _R, force=True)
    print(f"{count:>8}  {saving:>12.1f}  {restoring:>8.1f}  {deleting:>8.1f}  {copying:>12.1f}  {frozen_ms:>8.1f}  "
          f"{by_cp / frozen_ms:>6.1f}x", flush=True)  # fmt: skip


def _fill(root: Path, guest: Guest, count: int) -> None:
    for number in range(count):
        folder = root / "containers" / guest.ref.id / "upper" / "srv" / str(number // _A_FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_bytes(b"x" * 100)


def _ms(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
