"""How far a stage of a build is, and the keys that its steps are kept under."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from backends.native.build.changes import Config, environment
from backends.native.build.stages import SCRATCH, Stage
from backends.native.images.stored import StoredImage

_VERSION = 1
"""Part of every key: raised when a step would come out otherwise."""


@dataclass(slots=True)
class State:
    """How far a stage is."""

    stage: Stage
    image: StoredImage | None = None
    """None: nothing yet (scratch)."""

    args: dict[str, str] = field(default_factory=dict)
    """Of the ARGs so far that have a value."""

    own_command: bool = False
    """CMD was given in this stage, not taken over."""

    pending: dict[str, Any] = field(default_factory=dict)
    """Changes of the configuration that the next step takes along."""

    @property
    def config(self) -> Config:
        return {**((self.image.config.raw.get("config") or {}) if self.image else {}), **self.pending}

    @property
    def values(self) -> dict[str, str]:
        """What variables are replaced by: ENV wins over ARG."""
        return {**self.args, **environment(self.config)}


def key_of(state: State, *parts: object) -> str:
    """Return the key of a step: all that its result depends on."""
    base = state.image.id if state.image else SCRATCH
    pending = {name: value for name, value in state.pending.items() if value is not None or name == "OnBuild"}
    text = json.dumps([_VERSION, base, pending, *parts], sort_keys=True, default=list)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
