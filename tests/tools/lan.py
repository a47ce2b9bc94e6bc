"""A network namespace that plays the host, with others as hosts beside it, for containers with real networks."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from backends.container import ContainerSpec
from backends.errors import InnkeeperError
from backends.kernel import linux, netlink, nft, rtnetlink
from backends.kernel.rtnetlink import Rtnetlink
from backends.model import Guest
from backends.native import nat
from backends.native.backend import NativeBackend, make
from backends.native.networks.rules import Bridge, Published, table_text
from backends.native.options.ports import Port
from backends.registry import BackendConfig
from backends.trace import Recorder
from tests.tools.host_image import host_image_in
from tests.tools.needs import facility

R = Recorder("test")
SERVER = (
    "import socket; s = socket.create_server(('', 80))\nwhile True: c, a = s.accept(); c.send(a[0].encode()); c.close()"
)
HOST, OTHER = "192.168.77.1", "192.168.77.2"


@contextmanager
def other_host() -> Iterator[int]:
    """A network namespace on a link of this one; yields a process in it."""
    ready, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        linux.unshare(linux.CLONE_NEWNET)
        os.write(writing, b"x")
        signal.pause()
    os.read(ready, 1)
    with Rtnetlink() as route:
        route.do(rtnetlink.add_veth("out0", "out1", netns_pid=pid, mac="02:00:00:00:00:01"))
        route.do(rtnetlink.add_address(socket.if_nametoindex("out0"), HOST, 24))

    def configure() -> str:
        netlink.ConfigureLink("out1", OTHER, 24, HOST).run()
        return ""

    in_other(pid, configure)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def in_other(pid: int, body: Callable[[], str]) -> str:
    """Run on the other host; return what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        linux.setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), linux.CLONE_NEWNET)
        os.write(writing, body().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def asked(address: str, port: int) -> str:
    """Return what the server says to us: where we seem to come from; or why it does not."""
    try:
        with socket.create_connection((address, port), timeout=3) as sock:
            return sock.recv(100).decode()
    except OSError as error:
        return error.strerror or str(error)


def as_host(body: Callable[[NativeBackend, Path, int], None]) -> None:
    """Run with a backend in a network namespace of its own, of which nothing is left."""
    root = Path(tempfile.mkdtemp(prefix="inn-test-"))
    with host_image_in(root):
        status = _as_host(body, root)
    shutil.rmtree(root)
    assert status == 0


def _as_host(body: Callable[[NativeBackend, Path, int], None], root: Path) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            linux.unshare(linux.CLONE_NEWNET)
            netlink.LoopbackUp().run()
            backend = make(BackendConfig(root, root / "run"))
            backend.open()
            try:
                with other_host() as other:
                    body(backend, root, other)
            finally:
                for guest in backend.guests():
                    backend.remove(guest.ref, R, force=True)
                backend.clean(R)
                backend.shutdown()
                backend.close()
            assert nat.table_name(root / "run") not in nft.run("list tables")
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def serve(backend: NativeBackend, *publish: str) -> Guest:
    """Start a container that says to each who connects where he seems to come from."""
    return backend.run(ContainerSpec("host", ("python3", "-c", SERVER), publish=publish), R)


@facility("nat")
def _nat(_: str) -> str:
    """Say why this kernel translates no addresses, by trying it in a network namespace."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            linux.unshare(linux.CLONE_NEWNET)
            to = Published("x", "10.1.2.3", "", (Port(80, 80),))
            nft.run(table_text("innkeeper_test", [Bridge("br0", "10.1.2.0/24")], [to]))
        except (InnkeeperError, OSError) as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        reason = pipe.read()
    os.waitpid(pid, 0)
    return reason
