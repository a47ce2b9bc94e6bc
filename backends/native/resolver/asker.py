"""One container as the resolver has it: its sockets, and how much it may ask."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field

QUESTIONS_PER_S = 2000.0
BURST = 1000.0
"""What it may ask; more waits in the kernel, which drops what has no room there."""

MOST_EXCHANGES = 64
"""Questions of one container that others are being asked at the same time."""

MOST_CONNECTIONS = 8


@dataclass
class Asker:
    """A container that can ask."""

    id: str
    pid: int
    udp: socket.socket
    tcp: socket.socket
    pidfd: int
    exchanges: int = 0
    connections: set[object] = field(default_factory=set)
    _tokens: float = BURST
    _counted_s: float = field(default_factory=time.monotonic)

    def may_ask(self) -> bool:
        """Count one question; False if it has asked too much of late."""
        now_s = time.monotonic()
        self._tokens = min(BURST, self._tokens + (now_s - self._counted_s) * QUESTIONS_PER_S)
        self._counted_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def close(self) -> None:
        """Let go of its sockets, and with them of its network namespace."""
        self.udp.close()
        self.tcp.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
