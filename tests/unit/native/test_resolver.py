"""What the resolver makes of questions, and of those it asks."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.native.resolver import message, upstream
from backends.native.resolver.loop import READ, WRITE, Loop
from backends.native.resolver.message import Malformed, Question
from backends.native.resolver.upstream import Exchange, HostServers, servers_in

HEAD = bytes.fromhex("abcd01000001000000000000")


def question_of(name: str, kind: int = message.A) -> bytes:
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return HEAD + labels + b"\0" + struct.pack("!HH", kind, 1)


def test_a_question_is_read_whatever_follows_it() -> None:
    asked = message.parse(question_of("Web.Local") + b"anything")
    assert (asked.id, asked.name, asked.kind, asked.of_class) == (0xABCD, "web.local", message.A, message.IN)
    assert asked.wire == question_of("Web.Local")[12:]


@pytest.mark.parametrize(
    "data, code",
    [
        (b"short", None),
        (HEAD[:2] + b"\x81\x00" + HEAD[4:] + question_of("web")[12:], None),  # an answer
        (HEAD[:2] + b"\x28\x00" + HEAD[4:] + question_of("web")[12:], message.NOT_IMPLEMENTED),  # an update
        (HEAD[:5] + b"\x02" + HEAD[6:] + question_of("web")[12:], message.FORMAT_ERROR),  # two questions
        (HEAD + b"\xc0\x0c\0\1\0\1", message.FORMAT_ERROR),  # a name that is its own end
        (HEAD + b"\x03we", message.FORMAT_ERROR),
        (HEAD + b"\x3fa" * 100, message.FORMAT_ERROR),
        (question_of("web")[:-1], message.FORMAT_ERROR),
    ],
)
def test_what_is_no_question_gets_an_error_or_nothing(data: bytes, code: int | None) -> None:
    with pytest.raises(Malformed) as caught:
        message.parse(data)
    assert caught.value.code == code


@given(st.binary(max_size=600))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    for read in (message.parse, message.parse_answer):
        with suppress(Malformed):
            read(data)
    if len(data) >= 12:
        assert len(message.refuse(data, message.FORMAT_ERROR)) == 12


@given(st.binary(max_size=60))
def test_no_question_of_odd_bytes_does_more_than_be_answered(data: bytes) -> None:
    with suppress(Malformed):
        asked = message.parse(HEAD + data)
        for kind in (message.A, message.AAAA, message.PTR):
            like = Question(asked.id, asked.flags, asked.name, kind, asked.of_class, asked.wire)
            assert (
                len(message.answer_addresses(like, ["10.0.0.1", "fd00::1"] * 100)) <= message.MOST_UDP + 255 * 2 + 400
            )
        message.address_in(asked.name)


def test_an_answer_has_the_addresses_of_the_kind_that_was_asked() -> None:
    addresses = ["10.0.0.2", "fd00::2"]
    for kind, length, count in ((message.A, 4, 1), (message.AAAA, 16, 1), (16, 0, 0)):
        told = message.answer_addresses(message.parse(question_of("web", kind)), addresses)
        assert told[:2] == HEAD[:2]
        assert struct.unpack_from("!H", told, 6)[0] == count
        if count:
            assert told.endswith(
                socket.inet_pton(socket.AF_INET if length == 4 else socket.AF_INET6, addresses[length == 16])
            )


@pytest.mark.parametrize(
    "name, address",
    [
        ("4.3.2.1.in-addr.arpa", "1.2.3.4"),
        ("x.3.2.1.in-addr.arpa", None),
        ("2.1.in-addr.arpa", None),
        ("2." + "0." * 29 + "d.f.ip6.arpa", "fd00::2"),
        ("z." * 32 + "ip6.arpa", None),
        ("example.org", None),
    ],
)
def test_addresses_are_read_from_names(name: str, address: str | None) -> None:
    assert message.address_in(name) == address


def test_the_hosts_servers_are_read_anew_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    host = HostServers(path)
    assert host.servers() == ("127.0.0.1",)
    path.write_text("# nameserver 9.9.9.9\nsearch a b\nnameserver 127.0.0.53\nnameserver ::1\n")
    assert host.servers() == ("127.0.0.53", "::1")
    (tmp_path / "new").write_text("nameserver 10.0.0.1\n")
    (tmp_path / "new").rename(path)
    assert host.servers() == ("10.0.0.1",)
    assert servers_in("") == ("127.0.0.1",)


@contextmanager
def server(monkeypatch: pytest.MonkeyPatch, *answers: bytes) -> Iterator[None]:
    """A name server on 127.0.0.1 that gives these answers to the first question, under its number."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(5)
        monkeypatch.setattr(upstream, "PORT", udp.getsockname()[1])

        def serve() -> None:
            with suppress(OSError):
                asked, peer = udp.recvfrom(4096)
                for answer in answers:
                    udp.sendto(asked[:2] + answer[2:] if answer else b"", peer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        udp.close()
        thread.join()


def said(exchange: Exchange, timeout_s: float = 5.0) -> bytes | None:
    """Return what the exchange comes to."""
    loop, found = Loop(), []
    assert exchange.begin()
    assert exchange.sock is not None
    loop.watch(exchange.sock.fileno(), READ, lambda: found.append(exchange.read()))
    deadline = time.monotonic() + timeout_s
    while not any(found) and time.monotonic() < deadline:
        loop.after(0.05, lambda: None)
        loop.turn()
    exchange.close()
    return next((each for each in found if each), None)


def exchange_for(data: bytes) -> Exchange:
    return Exchange(message.parse(data), data, ["127.0.0.1"], lambda answer: None, tcp=False)


def test_only_an_answer_to_the_question_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    good = question_of("example.org")
    right = good[:2] + b"\x81\x80" + good[4:] + b"records"
    wrong = question_of("evil.example")
    wrong = wrong[:2] + b"\x81\x80" + wrong[4:]
    with server(monkeypatch, b"", good, wrong, b"??rubbish", right):
        told = said(exchange_for(good))
    assert told == right  # under the asker's number


def test_a_server_that_is_not_there_is_passed_over() -> None:
    exchange = Exchange(message.parse(question_of("a.b")), question_of("a.b"), [], lambda answer: None, tcp=False)
    assert not exchange.begin()


def test_a_loop_calls_nothing_that_was_closed_in_the_same_turn() -> None:
    loop, called = Loop(), []
    pairs = [socket.socketpair() for _ in range(2)]
    for own, other in pairs:
        other.send(b"x")

        def work(own: socket.socket = own) -> None:
            called.append(own)
            for each, _ in pairs:
                loop.ignore(each.fileno())

        loop.watch(own.fileno(), READ | WRITE, work)
    loop.turn()
    for own, other in pairs:
        own.close()
        other.close()
    assert len(called) == 1
