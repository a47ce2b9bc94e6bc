"""Images, clones and templates made of simulated guests, and what has changed in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from backends.errors import AlreadyExists, NotFound, Unsupported, UsageError
from backends.image import CommitOptions, FileChange, Image, Template
from backends.model import Guest, GuestKind, GuestRef
from backends.simulated.act import Act
from backends.simulated.core import SimulatedCore
from backends.simulated.gallery import Picture, whole_name
from backends.simulated.machine import Machine
from backends.simulated.shelf import changed, layer
from backends.trace import Recorder

MIB = 1024**2

_PATHS = (
    ("C", "/etc", None), ("C", "/etc/hosts", 214), ("A", "/etc/app.conf", 1_204), ("C", "/var", None),
    ("A", "/var/cache/index.db", 9_437_184), ("A", "/var/log/app.log", 482_113), ("D", "/tmp/install.sh", None),
    ("A", "/run/app.pid", 3),
)  # fmt: skip


@dataclass(slots=True)
class Kept:
    """A template and who was made from it."""

    template: Template
    machine: Machine


class CopyVerbs(SimulatedCore):
    """Committing, SnapshotComparing, Cloning, Templating."""

    def commit(self, ref: GuestRef, name: str, options: CommitOptions, recorder: Recorder) -> Image:
        """Make an image of a container."""
        with self._verb("commit", ref) as machine:
            _must_be_container(machine, "commit")
            gallery = self._world.gallery
            before = gallery.find(machine.image)
            now_s = self._world.now().epoch_s
            step = layer(options.message or machine.command, 12 * MIB, now_s, machine.ref, now_s)
            made = Picture((*before.history, step), now_s, changed(before.config, options.changes))
            names = [whole_name(name)] if name else []
            self._do(machine, recorder, "image", f"commit {machine.name}", lambda: gallery.put(made, names))
            return gallery.image(made, names[0] if names else "")

    def changes(self, ref: GuestRef) -> Sequence[FileChange]:
        """Return what differs from its image."""
        with self._call("changes"):
            machine = self._world.get(ref)
            _must_be_container(machine, "compare")
            return _changes(machine.name, 0 if machine.started_s is None else len(_PATHS))

    def snapshot_diff(self, ref: GuestRef, name: str, other: str | None = None) -> Sequence[FileChange]:
        """Return what differs between two snapshots, or from the present state."""
        with self._call("snapshot_diff"):
            machine = self._world.get(ref)
            for each in (name, other):
                if each is not None:
                    machine.snapshots.get(each)
            return () if name == other else _changes(f"{name} {other}", 5)

    def clone(self, ref: GuestRef, name: str | None, recorder: Recorder, *, snapshot: str | None = None) -> Guest:
        """Make a guest like another."""
        with self._verb("clone", ref) as machine:
            if snapshot is not None:
                machine.snapshots.get(snapshot)
            guest = self._copy(machine, name, recorder, f"clone {machine.name}")
        return guest

    def templates(self) -> Sequence[Template]:
        """Return all templates."""
        with self._call("templates"):
            made = [(machine.template, machine.name) for machine in self._world.machines.values()]
            return [
                Template(
                    each.template.name, each.template.created_s, each.template.image, each.template.size_bytes,
                    tuple(guest for template, guest in made if template == each.template.name),
                )
                for each in self._world.templates.values()
            ]  # fmt: skip

    def template_create(self, ref: GuestRef, name: str, recorder: Recorder) -> Template:
        """Keep a guest to make others from."""
        with self._verb("template_create", ref) as machine:
            if not name:
                raise UsageError("a template needs a name")
            if name in self._world.templates:
                raise AlreadyExists(f"there is already a template {name!r}")
            made = Template(name, self._world.now().epoch_s, machine.image, 12 * MIB)
            keep = Kept(made, machine)
            text = f"keep {machine.name} as template {name}"
            self._do(machine, recorder, "template", text, lambda: self._world.templates.update({name: keep}))
            return made

    def template_use(self, template: str, name: str | None, recorder: Recorder) -> Guest:
        """Make a guest from a template."""
        with self._call("template_use"):
            kept = self._template(template)
            guest = self._copy(kept.machine, name, recorder, f"make a guest from {template}", template)
        self._tell()
        return guest

    def template_remove(self, name: str, recorder: Recorder) -> None:
        """Remove a template."""
        with self._call("template_remove"):
            self._template(name)
            recorder.run(Act("template", f"remove template {name}", lambda: self._world.templates.pop(name)))

    def _template(self, name: str) -> Kept:
        if name not in self._world.templates:
            raise NotFound(f"there is no template {name!r}")
        return self._world.templates[name]

    def _copy(self, machine: Machine, name: str | None, recorder: Recorder, text: str, template: str = "") -> Guest:
        taken = {each.name for each in self._world.machines.values()}
        free = (f"{machine.name}-{number}" for number in range(2, len(taken) + 3))
        chosen = name if name is not None else next(each for each in free if each not in taken)
        self._world.check_name(chosen)

        def make() -> Machine:
            made = self._world.add(chosen, machine.kind, machine.image, machine.limits)
            made.command, made.template, made.restart_policy = machine.command, template, machine.restart_policy
            self._world.fabric.attach_as(machine, made)
            self._world.cellar.share(machine, made)
            return made

        made: Machine = recorder.run(Act("clone", f"{text} as {chosen}", make))
        made.records.append(recorder.records[-1])
        return made.guest()


def _changes(seed: str, count: int) -> list[FileChange]:
    random = Random(seed)
    chosen = [path for path in _PATHS if random.random() < 0.8][:count]
    return [FileChange(kind, path, size) for kind, path, size in sorted(chosen, key=lambda each: each[1])]


def _must_be_container(machine: Machine, verb: str) -> None:
    if machine.kind is GuestKind.VM:
        raise Unsupported(f"cannot {verb} {machine.name}: a virtual machine is made from no image")
