"""libvirt's own event loop in one daemon thread.

It must be registered before the first connection is opened, once a process; without it neither events nor
keepalive work, silently. libvirt's asyncio loop is not used: it hangs at exit and calls into asyncio from
other threads.
"""

from __future__ import annotations

import threading

from backends.libvirt.api import load

_lock = threading.Lock()
_running = False


def ensure_running() -> None:
    """Start the loop if this process has none yet. Raises BackendUnavailable without libvirt-python."""
    global _running
    module = load()
    with _lock:
        if _running:
            return
        module.virEventRegisterDefaultImpl()
        threading.Thread(target=_run, name="libvirt-events", daemon=True).start()
        _running = True


def _run() -> None:
    module, pause = load(), threading.Event()
    while True:
        try:
            module.virEventRunDefaultImpl()
        except module.libvirtError:
            pause.wait(0.1)  # one pass failed; the loop itself goes on, but never spins
