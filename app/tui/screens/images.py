"""The images that guests are made from: what they are, what they share, who uses them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from app.core.commands import COMMANDS
from app.tui.asker import Answer
from app.tui.facts import Question
from app.tui.questions import ask_text, confirm, pick
from app.tui.registries import parse
from app.tui.screens.asset import AssetScreen
from app.tui.shelf import Shelf
from app.tui.views import command_bindings, command_hints
from backends.assets import ImageKeeping, Images
from backends.base import Backend
from backends.image import BuildSpec, Image, Pruned, PruneOptions, short_id
from backends.trace import Recorder
from widgets.glyphs import GLYPHS
from widgets.image_lines import image_lines
from widgets.image_table import ImageRow, ImageTable
from widgets.line import Line, Span, line
from widgets.text import clean, counted
from widgets.units import size

PRUNES = (
    ("all images that no guest uses", PruneOptions(all=True)),
    ("only those without a name", PruneOptions()),
    ("all that no guest uses, and the build cache", PruneOptions(all=True, build_cache=True)),
    ("those without a name, and the build cache", PruneOptions(build_cache=True)),
)
"""What can be chosen to go."""


class ImageScreen(AssetScreen[ImageRow]):
    """All images of all backends that keep some."""

    view_name = "images"
    every_s = 5.0
    MORE_HINTS = (
        ("C", "create"),
        *command_hints("image", "pull", "remove", "prune", "push", "tag"),
        ("Enter", "details"),
        ("/", "filter"),
        ("o", "sort"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *command_bindings("image"),
        Binding(COMMANDS["guest.create"].key, "create", "create a container from it", show=False, id="image.create"),
    ]

    def make_table(self) -> ImageTable:
        return ImageTable(id="list")

    def make_shelf(self) -> Shelf[Image]:
        # Lists of their own: what prune would free is not known before a pull that runs has ended, what is here is.
        self._freed = Shelf(self.innkeeper, self.roster, "prune", ImageKeeping, _freed_in, self.show_views)
        return Shelf(self.innkeeper, self.roster, "images", Images, _read, self.show_list)

    def refresh_list(self, *, older_than_s: float = 0.0) -> None:
        super().refresh_list(older_than_s=older_than_s)
        self._freed.refresh(older_than_s=older_than_s)

    def rows(self) -> list[ImageRow]:
        assert self.shelf is not None
        now_s = time.time()
        return [
            ImageRow(name, image, _age(image, now_s), self.shelf.is_stale(name))
            for name, images in self.shelf.items.items()
            for image in images
        ]

    def backend_of(self, row: ImageRow) -> str:
        return row.backend

    def name_of(self, row: ImageRow) -> str:
        return row.image.name

    def question(self, row: ImageRow) -> Question | None:
        name = row.image.name

        def question(backend: Backend) -> object:
            if not isinstance(backend, ImageKeeping):
                return None
            return backend.image_history(name), backend.image_inspect(name)

        return (row.backend, row.image.id, name), question

    def detail_lines(self, row: ImageRow, facts: Any, width: int) -> list[Line]:
        history, told = facts if facts is not None else (None, None)
        return image_lines(row.image, history, told, width)

    def summary(self) -> list[Span]:
        freed = [each.freed_bytes for found in self._freed.items.values() for each in found]
        count = len({row.image.id for row in self.table.rows})
        spans: list[Span] = [(f" {counted(count, 'image')} ", "dim")]
        if freed and sum(freed):
            spans.append((f" prune frees {size(sum(freed))} ", "accent"))
        return spans

    # ---- verbs

    def action_create(self) -> None:
        row = self.table.current
        self.innkeeper.open_form(row.image.name if row is not None else "", row.backend if row is not None else None)

    def do_image_pull(self) -> None:
        backend = self.home("image.pull")
        if backend is None:
            return
        row = self.table.current
        before = row.image.name if row is not None and not row.image.is_dangling else ""
        ask_text(
            self.app,
            f"Pull into {clean(backend.title)}:",
            lambda text: self._pull(backend.name, text),
            hint=f"busybox   registry.example:5000/team/app:2   http://127.0.0.1:5000/app   {before}".rstrip(),
        )

    def _pull(self, backend: str, text: str) -> None:
        name, transfer = parse(text)
        self.innkeeper.registries.begin("image.pull", backend, transfer, name=name, options=transfer)

    def _push(self, backend: str, text: str) -> None:
        name, transfer = parse(text)
        self.innkeeper.registries.begin("image.push", backend, transfer, name=name, options=transfer)

    def do_image_push(self) -> None:
        rows = [row for row in self.table.chosen if not row.image.is_dangling]
        if not self.can("image.push", rows):
            return

        def push() -> None:
            for row in rows:
                self._push(row.backend, row.image.name)

        if len(rows) == 1:
            row = rows[0]
            ask_text(
                self.app,
                f"Push {clean(row.image.name)} (Enter agrees):",
                lambda name: self._push_as(row, name),
                value=row.image.name,
            )
        else:
            confirm(self.app, f"Push {len(rows)} images?", [_name_line(row) for row in rows[:8]], "push them", push)

    def _push_as(self, row: ImageRow, text: str) -> None:
        """Push it; under another name it gets that name first, as a registry knows it by nothing else."""
        name, _ = parse(text)
        if name == row.image.name:
            self._push(row.backend, text)
            return
        operation = self.actions.submit("image.tag", None, backend=row.backend, name=row.image.name, new_name=name)
        if operation is not None:
            self.innkeeper.after[operation.id] = lambda event: (
                self._push(row.backend, text) if event.error is None else None
            )

    def do_image_tag(self) -> None:
        rows = self.table.chosen[:1]
        if self.can("image.tag", rows):
            row = rows[0]
            ask_text(
                self.app,
                f"A further name of {clean(row.image.name)}:",
                lambda name: self.submit("image.tag", row.backend, name=row.image.name, new_name=name),
                value="" if row.image.is_dangling else row.image.name,
            )

    def do_image_remove(self) -> None:
        rows = self.table.chosen
        if not self.can("image.remove", rows):
            return
        used = [row for row in rows if row.image.users]
        details = [_name_line(row) for row in rows[:8]] if len(rows) > 1 else []
        freed = sum(row.image.own_bytes or 0 for row in rows)
        details.append(line((f"this frees about {size(freed)} if they have no other name", "dim")))
        if used:
            names = ", ".join(used[0].image.users[:3])
            details.append(line((f"{GLYPHS.warning} {used[0].image.name} is used by {names}", "warn")))
        what = clean(rows[0].image.name) if len(rows) == 1 else f"{len(rows)} images"

        def remove() -> None:
            for row in rows:
                self.submit("image.remove", row.backend, name=row.image.name)

        confirm(self.app, f"Remove {what}?", details, "remove", remove)

    def do_image_prune(self) -> None:
        """Choose what is to go, with what each choice would free."""
        backend = self.home("image.prune")
        if backend is None or not isinstance(backend, ImageKeeping):
            return
        name, keeping = backend.name, backend

        def question() -> list[Pruned]:
            return [keeping.image_prune(each, Recorder("client"), dry_run=True) for _, each in PRUNES]

        def reply(answer: Answer[list[Pruned]]) -> None:
            if answer.error is not None:
                self.say(answer.error.message, "bad")
            elif not any(each.images or each.freed_bytes for each in answer.value):
                self.say("prune would free nothing: all of it is used", "good")
            elif self.is_current:
                self._choose_prune(name, answer.value)

        self.say("looking what prune would free; a pull that runs has to end first")
        self.innkeeper.asker.ask(f"prune {name}", "choices", question, reply)

    def _choose_prune(self, backend: str, found: Sequence[Pruned]) -> None:
        def chosen(index: int) -> None:
            self._confirm_prune(backend, PRUNES[index][1], found[index])

        lines = [
            line(f"{title:<46} ", (f"{counted(len(each.images), 'image')}, {size(each.freed_bytes)}", "dim"))
            for (title, _), each in zip(PRUNES, found, strict=True)
        ]
        pick(self.app, "Prune what?", lines, chosen)

    def _confirm_prune(self, backend: str, options: PruneOptions, found: Pruned) -> None:
        details = [line(f"  {name}") for name in found.images[:8]]
        if len(found.images) > 8:
            details.append(line((f"  and {len(found.images) - 8} more", "dim")))
        details.append(
            line(f"No guest uses them. Frees {size(found.freed_bytes)} in {counted(found.layers, 'layer')}.")
        )
        confirm(
            self.app,
            f"Prune {counted(len(found.images), 'image')}?", details, "prune",
            lambda: self.submit("image.prune", backend, options=options),
        )  # fmt: skip

    def do_image_load(self) -> None:
        backend = self.home("image.load")
        if backend is not None:
            ask_text(
                self.app,
                "Load images from the archive or folder:",
                lambda path: self.submit("image.load", backend.name, source=str(Path(path).expanduser())),
                hint="images.tar",
            )

    def do_image_save(self) -> None:
        rows = self.table.chosen
        if not self.can("image.save", rows):
            return
        first = rows[0]
        names = [row.image.name for row in rows if row.backend == first.backend]
        plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in names[0])
        ask_text(
            self.app,
            f"Save {clean(names[0]) if len(names) == 1 else f'{len(names)} images'} to:",
            lambda path: self.submit("image.save", first.backend, names=names, target=str(Path(path).expanduser())),
            value=f"{plain}.tar",
        )

    def do_image_build(self) -> None:
        backend = self.home("image.build")
        if backend is None:
            return

        def folder(path: str) -> None:
            ask_text(self.app, "Name of the image:", lambda name: build(path, name), hint="team/app:1")

        def build(path: str, name: str) -> None:
            spec = BuildSpec(str(Path(path).expanduser()), names=(name,))
            self.innkeeper.registries.begin("image.build", backend.name, spec.transfer, spec=spec)
            self.innkeeper.show_view("operations")

        ask_text(self.app, "Build the folder with a Dockerfile:", folder, value=".")


def _read(backend: Images) -> Sequence[Image]:
    return backend.images()


def _freed_in(backend: ImageKeeping) -> Sequence[Pruned]:
    return [backend.image_prune(PruneOptions(all=True), Recorder("client"), dry_run=True)]


def _age(image: Image, now_s: float) -> float | None:
    """Rounded: a table that counts seconds repaints every row every second."""
    if image.created_s is None:
        return None
    age_s = max(0.0, now_s - image.created_s)
    step_s = 60 if age_s >= 60 else 10
    return age_s // step_s * step_s


def _name_line(row: ImageRow) -> Line:
    return line(f"  {row.image.name}  ", (f"{short_id(row.image.id)}  {size(row.image.size_bytes)}", "dim"))
