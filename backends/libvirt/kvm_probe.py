"""Whether a guest really runs under /dev/kvm, found out by running one.

The device alone says little: on machines that are virtual themselves it may be there and yet run a guest a
hundred times slower than emulation does, or not at all. So a boot sector of 220 bytes is booted: it goes
through protected into 64-bit mode with its own page tables, writes 6 MiB of memory, counts 20 million down,
prints "IK" on the serial port and ends QEMU through its debug-exit port. Real hardware needs 0.1 s for
it, emulation 0.2 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

LIMIT_S = 5.0
"""A guest that needs longer than this runs worse than under emulation."""

_EXITED = 33
"""QEMU's exit code when the guest writes 0x10 to the debug-exit port: (0x10 << 1) | 1."""

BOOT_SECTOR = (
    bytes.fromhex(
        # 16 bit: cli; zero ds, es, ss; stack at 0x7c00; clear the page tables at 0x1000-0x3fff
        "fa31c08ed88ec08ed0bc007cbf0010b90018f3ab"
        # level 4 at 0x1000 → level 3 at 0x2000 → level 2 at 0x3000: four 2 MiB pages, one to one
        "66c70600100320000066c70600200330000066c70600308300000066c70608308300200066c70610308300400066c7061830"
        "83006000"
        # cr4 = PAE, PGE; cr3 = 0x1000; EFER.LME; cr0 |= PG, PE; lgdt; far jump into 64-bit code
        "66b8a00000000f22e066b8001000000f22d866b9800000c00f32660d000100000f300f20c0660d010000800f22c00f0116d8"
        "7cea827c0800"
        # 64 bit: data segments; rep stosq of 6 MiB from 2 MiB on; 20,000,000 times dec ecx, jnz
        "66b810008ed88ec08ed0bf00002000b900000c0048c7c034120000f348abb9002d3101ffc975fc"
        # out 0x3f8: 'I', 'K', newline; out 0xf4: 0x10; hlt, for ever
        "66baf803b049eeb04beeb00aee66baf400b010eef4ebfd"
        # descriptor table: null, 64-bit code, data; its size and address
        "0000000000000000ffff0000009aaf00ffff00000092cf001700c07c0000"
    ).ljust(510, b"\0")
    + b"\x55\xaa"
)


@dataclass(frozen=True, slots=True)
class KvmProbe:
    """What became of the try."""

    works: bool
    found: str
    """For people: "a guest boots in 0.1 s", or what went wrong."""

    seconds: float
    key: str = ""
    """Boot and QEMU that it holds for."""


def probe_kvm(run_dir: Path | None, *, device: str = "/dev/kvm", qemu: str = "qemu-system-x86_64") -> KvmProbe:
    """Boot the sector under KVM, at most once per boot of the host and version of QEMU; bounded by LIMIT_S."""
    if not os.path.exists(device):
        return KvmProbe(False, "there is no /dev/kvm", 0.0)
    if not os.access(device, os.R_OK | os.W_OK):
        return KvmProbe(False, "/dev/kvm is not open to this user", 0.0)
    version = qemu_version(qemu)
    if version is None:
        return KvmProbe(False, f"{qemu} is not installed", 0.0)
    key = f"{_boot_id()} {version}"
    cache = run_dir / "libvirt" / "kvm-probe.json" if run_dir is not None else None
    known = _read(cache, key)
    if known is not None:
        return known
    probe = run_boot_sector(qemu, "kvm", key)
    _write(cache, probe)
    return probe


def run_boot_sector(qemu: str, accelerator: str, key: str = "") -> KvmProbe:
    """Boot the sector once and say what became of it."""
    with tempfile.NamedTemporaryFile(prefix="innkeeper-boot-", suffix=".bin") as sector:
        sector.write(BOOT_SECTOR)
        sector.flush()
        command = [
            qemu, "-accel", accelerator, "-m", "32", "-display", "none", "-nodefaults", "-no-user-config",
            "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=1",
            "-drive", f"file={sector.name},format=raw,if=floppy,readonly=on", "-boot", "a",
        ]  # fmt: skip
        began = time.monotonic()
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            return KvmProbe(False, f"a guest hangs or crawls: no answer within {LIMIT_S:g} s", LIMIT_S, key)
        except OSError as error:
            return KvmProbe(False, f"cannot run {qemu}: {error.strerror}", 0.0, key)
    took = time.monotonic() - began
    if done.returncode == _EXITED and b"IK" in done.stdout:
        return KvmProbe(True, f"a guest boots in {took:.1f} s", took, key)
    last = (done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
    return KvmProbe(False, f"QEMU ended with {done.returncode}: {last}", took, key)


def qemu_version(qemu: str = "qemu-system-x86_64") -> str | None:
    """Return the first line of its --version; None if it is not installed."""
    try:
        done = subprocess.run([qemu, "--version"], capture_output=True, timeout=5.0, check=False, text=True)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.partition("\n")[0].strip() or None


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "?"


def _read(cache: Path | None, key: str) -> KvmProbe | None:
    if cache is None:
        return None
    try:
        found = KvmProbe(**json.loads(cache.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.key == key else None


def _write(cache: Path | None, probe: KvmProbe) -> None:
    if cache is None:
        return
    with suppress(OSError):  # a folder that cannot be written costs the next look 5 s, no more
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps(asdict(probe)))
