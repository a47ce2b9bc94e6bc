"""nftables through libnftables, by ctypes: what `nft -f` does, without the program (libnftables(3)).

A text is one transaction: all of it is in force, or none.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from functools import cache

from backends.errors import InnkeeperError, Unsupported

_LIBRARY = "libnftables.so.1"
_FAMILIES = {"inet": 1, "ip": 2, "ip6": 10}
_NETFILTER, _GETTABLE, _REQUEST_ACK, _TABLE_NAME, _ERROR = 12, 10 << 8 | 1, 5, 1, 2


class NftError(InnkeeperError):
    """The kernel or libnftables refused a rule set."""


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(_LIBRARY)
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = (ctypes.c_uint32,)
    for name in ("nft_ctx_free", "nft_ctx_buffer_error", "nft_ctx_buffer_output"):
        getattr(library, name).argtypes = (ctypes.c_void_p,)
    for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
        getattr(library, name).argtypes = (ctypes.c_void_p,)
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    return library


def why_unavailable() -> str:
    """Say why rules cannot be set here; empty if they can, as far as can be told."""
    try:
        _library()
    except OSError as error:
        return f"libnftables cannot be used: {error}"
    return ""


def run(text: str) -> str:
    """Carry out commands of nft(8) as one transaction and return what they print. Raises NftError, Unsupported."""
    reason = why_unavailable()
    if reason:
        raise Unsupported(f"cannot set network rules: {reason}", hint="apt install libnftables1")
    library = _library()
    context = library.nft_ctx_new(0)
    try:
        library.nft_ctx_buffer_error(context)
        library.nft_ctx_buffer_output(context)
        if library.nft_run_cmd_from_buffer(context, text.encode()):
            said = (library.nft_ctx_get_error_buffer(context) or b"").decode(errors="replace").strip()
            raise NftError(f"cannot set network rules: {said.splitlines()[0] if said else 'nftables refused them'}")
        return (library.nft_ctx_get_output_buffer(context) or b"").decode(errors="replace")
    finally:
        library.nft_ctx_free(context)


def has_table(family: str, name: str) -> bool:
    """Say whether there is a table of that name, in microseconds (linux/netfilter/nf_tables.h, NFT_MSG_GETTABLE)."""
    value = name.encode() + b"\0"
    body = struct.pack("=BBHHH", _FAMILIES[family], 0, 0, 4 + len(value), _TABLE_NAME) + value + bytes(-len(value) % 4)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER) as sock:
            sock.send(struct.pack("=IHHII", 16 + len(body), _GETTABLE, _REQUEST_ACK, 1, 0) + body)
            kind, _, _, _, number = struct.unpack_from("=HHIIi", sock.recv(65536), 4)
    except OSError:  # a kernel without netfilter
        return False
    return bool(kind != _ERROR or number == 0)


def dropping_forward() -> list[tuple[str, str]]:
    """Return (table, chain) of every chain that drops forwarded packets unless a rule accepts them. Raises NftError."""
    found: list[tuple[str, str]] = []
    table = chain = ""
    for line in run("list chains").splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif "hook forward" in line and "policy drop" in line:
            found.append((table, chain))
    return found
