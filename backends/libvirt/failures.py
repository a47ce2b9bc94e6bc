"""libvirt's errors become ours, here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from backends.errors import (
    AlreadyExists,
    BackendUnavailable,
    Busy,
    InnkeeperError,
    NotFound,
    PermissionDenied,
    TimedOut,
    Unsupported,
    UsageError,
    WrongState,
)
from backends.libvirt.api import VirError, load

KINDS: dict[type[InnkeeperError], str] = {
    NotFound: """NO_DOMAIN NO_DOMAIN_SNAPSHOT NO_DOMAIN_CHECKPOINT NO_DOMAIN_BACKUP NO_DOMAIN_METADATA NO_NETWORK
        NO_NETWORK_PORT NO_STORAGE_POOL NO_STORAGE_VOL NO_NODE_DEVICE NO_INTERFACE NO_SECRET NO_NWFILTER
        NO_NWFILTER_BINDING NO_SERVER NO_CLIENT DEVICE_MISSING""",
    AlreadyExists: "DOM_EXIST NETWORK_EXIST NETWORK_PORT_EXIST STORAGE_VOL_EXIST",
    WrongState: """OPERATION_INVALID OPERATION_ABORTED SNAPSHOT_REVERT_RISKY MIGRATE_UNSAFE CHECKPOINT_INCONSISTENT
        STORAGE_POOL_BUILT INVALID_DOMAIN INVALID_NETWORK INVALID_STORAGE_POOL INVALID_STORAGE_VOL
        INVALID_NODE_DEVICE INVALID_INTERFACE INVALID_NWFILTER INVALID_SECRET INVALID_DOMAIN_SNAPSHOT INVALID_STREAM
        INVALID_NWFILTER_BINDING INVALID_DOMAIN_CHECKPOINT INVALID_NETWORK_PORT""",
    Unsupported: """NO_SUPPORT OPERATION_UNSUPPORTED CONFIG_UNSUPPORTED ARGUMENT_UNSUPPORTED CPU_INCOMPATIBLE
        NO_SECURITY_MODEL OS_TYPE MULTIPLE_INTERFACES MULTIPLE_DOMAINS""",
    PermissionDenied: "OPERATION_DENIED ACCESS_DENIED AUTH_FAILED AUTH_CANCELLED AUTH_UNAVAILABLE",
    Busy: "RESOURCE_BUSY BLOCK_COPY_ACTIVE OPERATION_TIMEOUT",
    TimedOut: "AGENT_UNRESPONSIVE AGENT_UNSYNCED AGENT_COMMAND_TIMEOUT AGENT_COMMAND_FAILED",
    UsageError: "INVALID_ARG OVERFLOW XML_ERROR XML_DETAIL XML_INVALID_SCHEMA INVALID_MAC CONF_SYNTAX",
    BackendUnavailable: """NO_CONNECT INVALID_CONN RPC UNKNOWN_HOST SSH LIBSSH GNUTLS_ERROR NO_HOSTNAME NO_XEN
        NO_XENSTORE NO_SOURCE NO_TARGET""",
    # What says nothing but that it failed; the message is all there is.
    InnkeeperError: """INTERNAL_ERROR NO_MEMORY OPERATION_FAILED GET_FAILED POST_FAILED HTTP_ERROR SEXPR_SERIAL
        XEN_CALL NO_KERNEL NO_ROOT NO_NAME NO_OS NO_DEVICE DRIVER_FULL CALL_FAILED OPEN_FAILED READ_FAILED
        PARSE_FAILED WRITE_FAILED SYSTEM_ERROR BUILD_FIREWALL MIGRATE_PERSIST_FAILED HOOK_SCRIPT_FAILED
        STORAGE_PROBE_FAILED DBUS_SERVICE MIGRATE_FINISH_OK""",
}
"""Names of libvirt's error codes (without VIR_ERR_) by the error that the user gets."""

_FROM_RPC, _FROM_REMOTE = 7, 13
_LOST_CODES = frozenset({"INTERNAL_ERROR", "SYSTEM_ERROR"})
"""With these codes the client side of the connection itself says that it is gone."""

_HINTS = {
    "OPERATION_TIMEOUT": "another call holds the guest; if its QEMU hangs, force it off",
    "AUTH_UNAVAILABLE": "be root, or a member of the group libvirt",
    "OPERATION_DENIED": "the connection may only read",
}

_by_code: dict[int, str] = {}


def code_names() -> dict[int, str]:
    """Return libvirt's error codes with their names, as the installed library has them."""
    if not _by_code:
        module = load()
        levels = {"VIR_ERR_NONE", "VIR_ERR_WARNING", "VIR_ERR_ERROR", "VIR_ERR_OK"}
        names = [name for name in dir(module) if name.startswith("VIR_ERR_") and name not in levels]
        _by_code.update({getattr(module, name): name.removeprefix("VIR_ERR_") for name in names})
    return _by_code


def kind_of(code_name: str) -> type[InnkeeperError] | None:
    """Return the error class for one of libvirt's codes, or None if the table does not know it."""
    return next((kind for kind, names in KINDS.items() if code_name in names.split()), None)


def translate(what: str, error: Exception) -> InnkeeperError:
    """Return our error for a libvirtError; the message names what was tried and what libvirt said."""
    raw = cast(VirError, error)
    name = code_names().get(raw.get_error_code() or 0, "INTERNAL_ERROR")
    said = (raw.get_error_message() or str(error)).strip()
    kind = kind_of(name) or InnkeeperError
    if is_connection_lost(name, raw.get_error_domain(), said):
        kind = BackendUnavailable
    if "Active console session exists" in said:
        kind = Busy
    if name == "OPERATION_INVALID" and "unable to read from monitor" in said.lower():
        said += " (the guest's QEMU ended)"
    return kind(f"cannot {what}: {said}", hint=_HINTS.get(name, ""))


def is_connection_lost(name: str, domain: int | None, said: str) -> bool:
    """True if the error is of the connection and not of the request."""
    if domain not in (_FROM_RPC, _FROM_REMOTE):
        return False
    return name in _LOST_CODES or "socket" in said


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn any libvirtError of the body into one of ours; `what` completes "cannot …"."""
    try:
        yield
    except load().libvirtError as error:
        raise translate(what, error) from error
