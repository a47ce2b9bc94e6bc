"""The images that guests are made from: what they are, what they share, who uses them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from app.core.commands import COMMANDS
from app.tui.asker import Answer
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
from widgets.text import clean
from widgets.units import size


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
        self._freed: dict[str, Pruned] = {}
        return Shelf(self.innkeeper, self.roster, "images", Images, self._read, self.show_list)

    def _read(self, backend: Images) -> list[Image]:
        """On the backend's own thread."""
        found = list(backend.images())
        if isinstance(backend, ImageKeeping) and isinstance(backend, Backend):
            asked = PruneOptions(all=True)
            self._freed[backend.name] = backend.image_prune(asked, Recorder("client"), dry_run=True)
        return found

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

    def question(self, row: ImageRow) -> tuple[object, Callable[[Backend], object]] | None:
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
        freed = [each.freed_bytes for each in self._freed.values()]
        spans: list[Span] = [(f" {len({row.image.id for row in self.table.rows})} images ", "dim")]
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
        self.ask_text(
            f"Pull into {clean(backend.title)}:",
            lambda name: self.submit("image.pull", backend.name, name=name),
            hint=f"busybox   registry.example:5000/team/app:2   {before}".rstrip(),
        )

    def do_image_push(self) -> None:
        rows = [row for row in self.table.chosen if not row.image.is_dangling]
        if not self.can("image.push", rows):
            return

        def push() -> None:
            for row in rows:
                self.submit("image.push", row.backend, name=row.image.name)

        if len(rows) == 1:
            row = rows[0]
            self.ask_text(
                f"Push {clean(row.image.name)} (Enter agrees):",
                lambda name: self._push_as(row, name),
                value=row.image.name,
            )
        else:
            self.confirm(f"Push {len(rows)} images?", [_name_line(row) for row in rows[:8]], "push them", push)

    def _push_as(self, row: ImageRow, name: str) -> None:
        """Push it; under another name it gets that name first, as a registry knows it by nothing else."""
        if name != row.image.name:
            self.submit("image.tag", row.backend, name=row.image.name, new_name=name)
        self.submit("image.push", row.backend, name=name)

    def do_image_tag(self) -> None:
        rows = self.table.chosen[:1]
        if self.can("image.tag", rows):
            row = rows[0]
            self.ask_text(
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

        self.confirm(f"Remove {what}?", details, "remove", remove)

    def do_image_prune(self) -> None:
        backend = self.home("image.prune")
        if backend is None or not isinstance(backend, ImageKeeping):
            return
        options, name = PruneOptions(all=True), backend.name

        def reply(answer: Answer[Pruned]) -> None:
            if answer.error is not None:
                self.say(answer.error.message, "bad")
            elif not answer.value.images and not answer.value.freed_bytes:
                self.say("prune would free nothing: every image is used", "good")
            else:
                self._confirm_prune(name, options, answer.value)

        keeping: ImageKeeping = backend
        self.innkeeper.asker.ask(
            f"images {name}", "prune", lambda: keeping.image_prune(options, Recorder("client"), dry_run=True), reply
        )

    def _confirm_prune(self, backend: str, options: PruneOptions, found: Pruned) -> None:
        details = [line(f"  {name}") for name in found.images[:8]]
        if len(found.images) > 8:
            details.append(line((f"  and {len(found.images) - 8} more", "dim")))
        details.append(line(f"No guest uses them. Frees {size(found.freed_bytes)} in {found.layers} layers."))
        self.confirm(
            f"Prune {len(found.images)} images?", details, "prune",
            lambda: self.submit("image.prune", backend, options=options),
        )  # fmt: skip

    def do_image_load(self) -> None:
        backend = self.home("image.load")
        if backend is not None:
            self.ask_text(
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
        self.ask_text(
            f"Save {clean(names[0]) if len(names) == 1 else f'{len(names)} images'} to:",
            lambda path: self.submit("image.save", first.backend, names=names, target=str(Path(path).expanduser())),
            value=f"{plain}.tar",
        )

    def do_image_build(self) -> None:
        backend = self.home("image.build")
        if backend is None:
            return

        def folder(path: str) -> None:
            self.ask_text("Name of the image:", lambda name: build(path, name), hint="team/app:1")

        def build(path: str, name: str) -> None:
            self.submit("image.build", backend.name, spec=BuildSpec(str(Path(path).expanduser()), names=(name,)))
            self.innkeeper.show_view("operations")

        self.ask_text("Build the folder with a Dockerfile:", folder, value=".")


def _age(image: Image, now_s: float) -> float | None:
    """Rounded: a table that counts seconds repaints every row every second."""
    if image.created_s is None:
        return None
    age_s = max(0.0, now_s - image.created_s)
    step_s = 60 if age_s >= 60 else 10
    return age_s // step_s * step_s


def _name_line(row: ImageRow) -> Line:
    return line(f"  {row.image.name}  ", (f"{short_id(row.image.id)}  {size(row.image.size_bytes)}", "dim"))
