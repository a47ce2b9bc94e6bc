"""Containers kept as templates: their layers, volumes and what was asked of them.

::

    STATE/templates/NAME/    template.json (layers, what was asked, …) and volumes/
    STATE/templates/.NAME…   half made or half removed
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from backends.container import Secret
from backends.errors import AlreadyExists, Damaged, NotFound
from backends.image import Template
from backends.kernel.trees import remove_tree
from backends.model import Guest, GuestRef
from backends.native import asked as asked_json
from backends.native import spec, volumes
from backends.native.cloning import Cloning
from backends.native.core import NAME
from backends.native.layers_in_use import TEMPLATES
from backends.native.origin import Origin
from backends.native.saved_layers import SavedLayers
from backends.native.store import new_id, read_file, write_file
from backends.trace import Recorder

_FILE = "template.json"
_REMOVAL_S = 10.0


class Templating(Cloning):
    """Keeps templates and makes containers from them."""

    def templates(self) -> Sequence[Template]:
        """Return all templates by name."""
        users: dict[str, list[str]] = {}
        for container_id in self._store.ids():
            with suppress(NotFound, Damaged):
                record = self._store.record(container_id)
                users.setdefault(record.template, []).append(record.name)
        found = [path.name for path in self._template_folders() if not path.name.startswith(".")]
        return [self._as_template(name, self._kept(name), users.get(name, ())) for name in sorted(found)]

    def template_create(self, ref: GuestRef, name: str, recorder: Recorder) -> Template:
        """Keep a container's files and settings as a template."""
        target = self._templates / spec.check_name(name)
        with self._store.locked(ref.id), self._store.making():
            if target.exists():
                raise AlreadyExists(f"there is a template {name} already", hint=f"inn template rm {name}")
            asked, origin = self._likeness(ref)
            self._templates.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self._templates / f".{name}.{new_id()}"
            draft.mkdir(mode=0o700)
            try:
                with self._layers_of(ref, recorder) as layers, SavedLayers(self._store.state_dir).using():
                    volumes.copy(origin.volumes, str(draft))
                    content = {
                        "created_s": time.time(),
                        "spec": asked_json.to_json(replace(asked, name=None)),
                        "secrets": [asdict(secret) for secret in asked.secrets],
                        **asdict(replace(origin, layers=layers(), volumes="", name="", template="")),
                    }
                    write_file(draft / _FILE, json.dumps(content))
                    _rename(draft, target, name)
            finally:
                remove_tree(draft, ignore_errors=True)
        return self._as_template(name, content, ())

    def template_use(self, template: str, name: str | None, recorder: Recorder) -> Guest:
        """Make a container from a template."""
        with self._store.making(), SavedLayers(self._store.state_dir).using():
            kept = self._kept(template)
            asked = asked_json.from_json(kept["spec"])
            asked = replace(asked, name=name, secrets=tuple(Secret(**secret) for secret in kept["secrets"]))
            asked = self._without_ports(asked, recorder)
            self._check(asked)
            known = {key: kept[key] for key in Origin.__dataclass_fields__}
            ours = {"volumes": str(self._templates / template), "template": template, "name": f"{template}-0"}
            made = self._make(asked, Origin(**known | ours))  # the first one without a name is NAME-1
        return self._guest(GuestRef(NAME, made.id))

    def template_remove(self, name: str, recorder: Recorder) -> None:
        """Remove a template; containers made from it keep the layers that they share with it."""
        with self._store.making(alone=True, timeout_s=_REMOVAL_S):
            self._kept(name)
            grave = self._templates / f".{name}.{new_id()}"
            (self._templates / name).rename(grave)
        remove_tree(grave, ignore_errors=True)
        SavedLayers(self._store.state_dir).collect()

    @property
    def _templates(self) -> Path:
        return self._store.state_dir / TEMPLATES

    def _template_folders(self) -> list[Path]:
        try:
            return [self._templates / name for name in os.listdir(self._templates)]
        except FileNotFoundError:
            return []

    def _kept(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads(read_file(str(self._templates / spec.check_name(name) / _FILE))))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"there is no template {name}", hint="see: inn template ls") from None
        except (ValueError, TypeError) as error:
            raise Damaged(f"template {name}: {_FILE} is damaged: {error}") from error

    def _as_template(self, name: str, kept: Mapping[str, Any], users: Sequence[str]) -> Template:
        saved = SavedLayers(self._store.state_dir)
        sizes = [saved.size(layer) for layer in kept["layers"] if saved.holds(layer)]
        return Template(
            name=name,
            created_s=float(kept["created_s"]),
            image=str(kept["image"]),
            size_bytes=None if None in sizes else sum(size or 0 for size in sizes),
            guests=tuple(sorted(users)),
        )


def _rename(draft: Path, target: Path, name: str) -> None:
    try:
        draft.rename(target)
    except OSError as error:
        if not target.exists():
            raise
        raise AlreadyExists(f"there is a template {name} already") from error
