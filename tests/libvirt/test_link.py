"""A connection with one thread: bounded calls, abandoned when they hang, counted and capped."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from backends.errors import BackendUnavailable, NotFound
from backends.libvirt import event_loop, link
from backends.libvirt.api import Connection
from backends.libvirt.link import Link, Pool, stuck_threads
from tests.tools.needs import needs
from tests.tools.waiting import wait_until

pytestmark = needs("libvirt")
URI = "test:///default"


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Holds calls until it is set; all are let go at the end."""
    event_loop.ensure_running()
    opened = threading.Event()
    yield opened
    opened.set()
    wait_until(lambda: stuck_threads() == 0, 10, "stuck calls return")


def names(connection: Connection) -> list[str]:
    """A call that answers."""
    return [domain.name() for domain in connection.listAllDomains()]


def test_a_call_returns_what_libvirt_said(gate: threading.Event) -> None:
    made = Link(URI, "test")

    assert made.call("list", names, 5) == ["test"]

    made.close()


def test_an_error_of_libvirt_is_ours_and_leaves_the_link_usable(gate: threading.Event) -> None:
    made = Link(URI, "test")

    with pytest.raises(NotFound, match="cannot look a guest up"):
        made.call("look a guest up", lambda connection: connection.lookupByName("nobody"), 5)

    assert made.call("list", names, 5) == ["test"]
    made.close()


def test_a_call_that_hangs_is_given_up_and_its_link_with_it(gate: threading.Event) -> None:
    made = Link(URI, "test")

    with pytest.raises(BackendUnavailable, match=r"did not answer within 0\.1 s"):
        made.call("wait", lambda _: gate.wait(30), 0.1)

    assert not made.is_usable
    assert stuck_threads() == 1
    with pytest.raises(BackendUnavailable, match="is gone"):
        made.call("list", names, 5)
    gate.set()
    wait_until(lambda: stuck_threads() == 0, 10)


def test_no_more_connections_are_made_while_too_many_calls_hang(gate: threading.Event) -> None:
    for _ in range(link.MAX_STUCK):
        with pytest.raises(BackendUnavailable, match="did not answer"):
            Link(URI, "test").call("wait", lambda _: gate.wait(30), 0.05)

    with pytest.raises(BackendUnavailable, match="calls to libvirt hang"):
        Link(URI, "test").call("list", names, 5)

    gate.set()
    wait_until(lambda: stuck_threads() == 0, 10)
    made = Link(URI, "test")
    assert made.call("list", names, 5) == ["test"]
    made.close()


def test_a_pool_gives_each_call_a_link_of_its_own_and_uses_idle_ones_again(gate: threading.Event) -> None:
    pool, used = Pool(URI), []

    def note(_: Connection) -> None:
        used.append(threading.get_ident())

    pool.call("one", note, 5)
    pool.call("two", note, 5)
    pool.call("nested", lambda _: pool.call("inner", note, 5), 5)

    assert used[0] == used[1] != used[2]
    pool.close()


def test_a_uri_that_leads_nowhere_is_unavailable(gate: threading.Event) -> None:
    made = Link("qemu+unix:///system?socket=/nowhere/at-all", "test")

    with pytest.raises(BackendUnavailable, match="/nowhere/at-all"):
        made.call("list", names, 10)

    assert not made.is_usable
    made.close()
