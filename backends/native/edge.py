"""The edge of the native backend: what the system says leaves it as one of our errors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from backends.errors import InnkeeperError, PermissionDenied, os_error_text

_VERBS = (
    "guests inspect trace processes create explain run remove rename start stop kill restart pause resume wait exec "
    "attach limits set_limits snapshots snapshot_create snapshot_restore snapshot_remove snapshot_diff "
    "clone templates template_create template_use template_remove images image_import "
    "image_remove image_inspect image_history image_tag image_load image_save image_prune "
    "image_pull image_push registry_login registry_logout build commit changes "
    "clean set_restart_policy clear_log copy_in copy_out boot halt checkpoint restore "
    "networks network_create network_remove network_connect network_disconnect"
)

T = TypeVar("T", bound=type)


def translated(backend: T) -> T:
    """Make the verbs of a backend class raise InnkeeperErrors where they would raise OSErrors."""
    for name in _VERBS.split():
        setattr(backend, name, _wrapped(getattr(backend, name), name))
    return backend


def _wrapped(verb: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(verb)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return verb(*arguments, **options)
        except OSError as error:
            kind = PermissionDenied if isinstance(error, PermissionError) else InnkeeperError
            raise kind(f"cannot {name.replace('_', ' ')}: {os_error_text(error)}") from error

    return call
