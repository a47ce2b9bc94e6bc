"""What becomes of a question: an answer of ours, an error, or somebody else's answer, later."""

from __future__ import annotations

from collections.abc import Callable

from backends.native.resolver import message
from backends.native.resolver.asker import MOST_EXCHANGES, Asker
from backends.native.resolver.directory import Directory
from backends.native.resolver.loop import READ, WRITE, Loop, Timer
from backends.native.resolver.message import Malformed, Question
from backends.native.resolver.upstream import TRY_S, Exchange, HostServers

Reply = Callable[[bytes], None]

MOST_EXCHANGES_OF_ALL = 1024


class Answering:
    """Answers questions of containers."""

    def __init__(self, loop: Loop, directory: Directory, host: HostServers) -> None:
        self._loop, self._directory, self._host = loop, directory, host
        self._exchanges: dict[Exchange, tuple[Asker, Timer]] = {}

    def answer(self, asker: Asker, data: bytes, reply: Reply, *, tcp: bool) -> bool:
        """Answer a message, now or later; False if nothing will ever be said to it."""
        try:
            question = message.parse(data)
        except Malformed as error:
            if error.code is None:
                return False
            reply(message.refuse(data, error.code))
            return True
        own = self._own(asker, question)
        if own is not None:
            reply(own)
            return True
        return self._ask_others(asker, question, data, reply, tcp=tcp)

    def _own(self, asker: Asker, question: Question) -> bytes | None:
        """Return the answer that needs nobody else; None where somebody else may know."""
        if question.of_class != message.IN:
            return message.answer_code(question, message.REFUSED)
        if question.kind == message.PTR:
            names = self._directory.names(asker.id, question.name)
            if names is not None:
                return message.answer_names(question, names)
        addresses = self._directory.addresses(asker.id, question.name)
        if addresses is not None:
            return message.answer_addresses(question, addresses)
        if not self._directory.has_way_out(asker.id):
            return message.answer_code(question, message.NO_SUCH_NAME)
        return None

    def _ask_others(self, asker: Asker, question: Question, data: bytes, reply: Reply, *, tcp: bool) -> bool:
        if asker.exchanges >= MOST_EXCHANGES or len(self._exchanges) >= MOST_EXCHANGES_OF_ALL:
            reply(message.answer_code(question, message.SERVER_FAILURE))
            return True
        servers = self._directory.servers(asker.id) or self._host.servers()

        def done(answer: bytes | None) -> None:
            reply(answer if answer is not None else message.answer_code(question, message.SERVER_FAILURE))

        exchange = Exchange(question, data, servers, done, tcp=tcp)
        asker.exchanges += 1
        self._try_next(asker, exchange)
        return True

    def _try_next(self, asker: Asker, exchange: Exchange) -> None:
        """Ask the next server, or give up."""
        self._forget(exchange)
        if not exchange.begin():
            self._end(asker, exchange, None)
            return
        assert exchange.sock is not None
        timer = self._loop.after(TRY_S, lambda: self._try_next(asker, exchange))
        self._exchanges[exchange] = asker, timer
        events = WRITE if exchange.wants_to_write() else READ
        self._loop.watch(exchange.sock.fileno(), events, lambda: self._go_on(asker, exchange))

    def _go_on(self, asker: Asker, exchange: Exchange) -> None:
        try:
            if exchange.wants_to_write():
                exchange.write()
                if not exchange.wants_to_write():
                    assert exchange.sock is not None
                    self._loop.watch(exchange.sock.fileno(), READ, lambda: self._go_on(asker, exchange))
                return
            answer = exchange.read()
        except OSError:  # nobody listens there
            self._try_next(asker, exchange)
            return
        if answer is not None:
            self._forget(exchange)
            self._end(asker, exchange, answer)

    def _forget(self, exchange: Exchange) -> None:
        entry = self._exchanges.pop(exchange, None)
        if entry is not None:
            entry[1].cancel()
        if exchange.sock is not None:
            self._loop.ignore(exchange.sock.fileno())
            exchange.close()

    def _end(self, asker: Asker, exchange: Exchange, answer: bytes | None) -> None:
        exchange.close()
        asker.exchanges -= 1
        exchange.done(answer)

    def drop(self, asker: Asker) -> None:
        """The asker has gone: nobody waits for what it asked."""
        for exchange, (owner, _) in list(self._exchanges.items()):
            if owner is asker:
                self._forget(exchange)
                asker.exchanges -= 1
