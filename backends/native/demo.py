"""Three containers to look at: one CPU wave, one memory saw-tooth, one that writes to disk and talks to the second.

Their programs are shell lines that need nothing but the image `host`: sh, coreutils, and perl or bash for the network.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from backends.base import Backend, Cleaning, Closing
from backends.capabilities import Creating, Lifecycle, Limiting, Removing
from backends.container import ContainerSpec
from backends.errors import InnkeeperError, NotFound
from backends.model import Guest, GuestRef, GuestState
from backends.trace import Recorder

LABEL = "innkeeper.demo"
_MIB = 1024 * 1024
_PORT = 7777
_FOLDERS = ("containers", "images", "leases", "names")
_MADE_AGAIN = ("network.json", "network.lock", "bridge.lock", "spawner", "spawner.lock", "spawner.log")

# As pid 1 the shell gets no signal it has no handler for: without the trap each stop would take ten seconds.
_CPU = """\
trap 'exit 0' TERM
while :; do
    echo 'a wave begins: 0.1 s to 0.9 s of work in each second, and back'
    for busy in 1 2 3 4 5 6 7 8 9 8 7 6 5 4 3 2; do
        timeout 0.$busy sh -c 'while :; do :; done'
        sleep 0.$((10 - busy))
    done
done
"""

# What is written to /dev/shm is the container's memory, page by page, until it is removed.
_MEMORY = f"""\
trap 'exit 0' TERM
command -v perl >/dev/null && perl -MSocket -e '
    socket(S, PF_INET, SOCK_DGRAM, 0); bind(S, sockaddr_in({_PORT}, INADDR_ANY));
    while (1) {{ my $from = recv(S, my $data, 65536, 0); send(S, $data, 0, $from) if defined $from }}' &
while :; do
    echo 'a tooth begins: 4 MiB more every half second, up to 40 MiB'
    for step in 1 2 3 4 5 6 7 8 9 10; do
        head -c 4194304 /dev/zero >> /dev/shm/saw
        sleep 0.5
    done
    rm -f /dev/shm/saw
    sleep 1
done
"""

# O_DIRECT: only writes that bypass the page cache are counted and held to a limit as they are made, on cgroup v1.
_IO = f"""\
trap 'exit 0' TERM
if [ -n "$PEER" ]; then
    if command -v perl >/dev/null; then
        perl -MSocket -e '
            socket(S, PF_INET, SOCK_DGRAM, 0); setsockopt(S, SOL_SOCKET, SO_RCVTIMEO, pack("l!l!", 1, 0));
            my $to = sockaddr_in({_PORT}, inet_aton($ENV{{PEER}}));
            while (1) {{
                for (1 .. 16) {{ send(S, "x" x 8192, 0, $to); recv(S, my $back, 65536, 0) }}
                select(undef, undef, undef, 0.25);
            }}' &
    elif command -v bash >/dev/null; then
        bash -c 'while :; do head -c 1400 /dev/zero >/dev/udp/$PEER/9; sleep 0.05; done' 2>/dev/null &
    fi
fi
file=/var/tmp/demo
while :; do
    echo 'a round begins: 60 times 2 MiB written and read'
    round=0
    while [ $round -lt 60 ]; do
        dd if=/dev/zero of=$file bs=256k count=8 conv=notrunc oflag=direct 2>/dev/null ||
            dd if=/dev/zero of=$file bs=256k count=8 conv=notrunc,fsync 2>/dev/null
        dd if=$file of=/dev/null bs=256k iflag=direct 2>/dev/null
        sleep 0.5
        round=$((round + 1))
    done
done
"""


@dataclass(frozen=True, slots=True)
class _Load:
    name: str
    script: str
    limits: dict[str, object]
    tells: str
    peer: str = ""
    """The load whose address it is told."""


_LOADS = (
    _Load("demo-cpu", _CPU, {"cpus": 0.5, "pids": 50}, "a wave of CPU load, held to half a core"),
    _Load("demo-mem", _MEMORY, {"memory_bytes": 64 * _MIB, "pids": 50},
          "memory in saw-teeth, below its limit of 64 MiB"),
    _Load("demo-io", _IO, {"io_write_bytes_per_s": 4 * _MIB, "memory_bytes": 64 * _MIB, "pids": 50},
          "writes to disk, held to 4 MiB a second, and talk with demo-mem", peer="demo-mem"),
)  # fmt: skip


class Runtime(Backend, Creating, Lifecycle, Removing, Limiting, Cleaning, Closing, Protocol):
    """What the demo needs of a backend."""


def demo_create(backend: Runtime, say: Callable[[str], None]) -> Sequence[GuestRef]:
    """Make and start the three; those that are there already are kept."""
    return [_ensure(backend, load, say) for load in _LOADS]


def demo_remove(backend: Runtime, say: Callable[[str], None], folders: Sequence[Path] = ()) -> None:
    """Remove every container with the demo's label; when none is left, the helpers and empty folders too.

    `folders` are those of the state and of the run. Tries all before it raises the first error.
    """
    first: InnkeeperError | None = None
    for guest in backend.guests():
        if LABEL not in guest.labels:
            continue
        say(f"removing the container {guest.name}")
        try:
            backend.remove(guest.ref, Recorder("client"), force=True)
        except NotFound:  # somebody was quicker
            continue
        except InnkeeperError as error:
            first = first or error
    if first is not None:
        raise first
    if not backend.guests():
        for line in backend.clean(Recorder("client")):
            say(line)
        backend.shutdown()
        _forget(folders)


def _forget(folders: Sequence[Path]) -> None:
    """Remove what is made again when needed, and folders that are then empty; images of the user's own stay."""
    for folder in folders:
        shutil.rmtree(folder / "images" / "host", ignore_errors=True)
        for name in _MADE_AGAIN:
            with suppress(OSError):
                (folder / name).unlink()
        for path in (*(folder / name for name in _FOLDERS), folder):
            with suppress(OSError):  # it is not empty, or is not there
                path.rmdir()


def _ensure(backend: Runtime, load: _Load, say: Callable[[str], None]) -> GuestRef:
    guest = _find(backend, load.name)
    if guest is None:
        say(f"making the container {load.name}: {load.tells}")
        guest = backend.create(_spec(backend, load), Recorder("client"))
        _limit(backend, guest, load, say)
    if guest.state in (GuestState.CREATED, GuestState.STOPPED, GuestState.LOST):
        say(f"starting {load.name}")
        backend.start(guest.ref, Recorder("client"))
    else:
        say(f"{load.name} is there already: {guest.state}")
    return guest.ref


def _find(backend: Runtime, name: str) -> Guest | None:
    """Return the demo's container of that name; one of the user's own is never taken for it."""
    return next((guest for guest in backend.guests() if guest.name == name and LABEL in guest.labels), None)


def _spec(backend: Runtime, load: _Load) -> ContainerSpec:
    peer = _find(backend, load.peer) if load.peer else None
    env = (f"PEER={peer.addresses[0].partition('/')[0]}",) if peer is not None and peer.addresses else ()
    return ContainerSpec(
        image="host",
        args=("/bin/sh", "-c", load.script),
        name=load.name,
        hostname=load.name,
        env=env,
        labels={LABEL: "1"},
    )


def _limit(backend: Runtime, guest: Guest, load: _Load, say: Callable[[str], None]) -> None:
    """Set the limits that this host can hold; a demo without one is better than none."""
    why_not = backend.limit_fields(guest)
    for name in load.limits:
        if why_not.get(name):
            say(f"{load.name} goes without the limit {name}: {why_not[name]}")
    wanted = {name: value for name, value in load.limits.items() if not why_not.get(name)}
    try:
        backend.set_limits(guest.ref, wanted, Recorder("client"))
    except InnkeeperError as error:
        say(f"{load.name} goes without limits: {error.message}")
