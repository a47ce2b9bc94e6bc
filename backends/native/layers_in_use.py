"""Which layers somebody still needs: what a collection of garbage may not take.

Layers are shared by whoever names them in a list: containers (container.json, and pending.json of a change that a
crash cut short), their snapshots, and templates. There are no counters that a crash could leave wrong; who wants to
remove a layer reads the lists.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from backends.errors import Damaged
from backends.native.store import read_file

PENDING = "pending.json"
TEMPLATES = "templates"


def layers_in_use(state_dir: Path) -> set[str]:
    """Return the folders of all layers that containers, snapshots and templates of a state folder are made of.

    What is only half made or half removed counts too. True only while nobody makes anything (ContainerStore.making
    alone). Raises Damaged if a list cannot be read: what it names must not be taken for free.
    """
    found: set[str] = set()
    for path in _lists(state_dir):
        found.update(_layers(path))
    return found


def _lists(state_dir: Path) -> Iterator[str]:
    for container in _folders(f"{state_dir}/containers"):
        yield f"{container}/container.json"
        yield f"{container}/{PENDING}"
        for snapshot in _folders(f"{container}/snapshots"):
            yield f"{snapshot}/snapshot.json"
    for template in _folders(f"{state_dir}/{TEMPLATES}"):
        yield f"{template}/template.json"


def _folders(path: str) -> list[str]:
    try:
        return [f"{path}/{name}" for name in os.listdir(path)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _layers(path: str) -> list[str]:
    try:
        raw = json.loads(read_file(path))
        parts = (raw, raw.get("record") or {}, raw.get("taken") or {})  # the latter two in pending.json
        return [str(layer) for part in parts for layer in part.get("layers") or ()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (ValueError, TypeError, AttributeError) as error:
        text = f"{path} is damaged, so nobody knows which layers it needs: {error}"
        raise Damaged(text, hint=f"mend it, or delete {os.path.dirname(path)}, and clean up: inn clean") from error
