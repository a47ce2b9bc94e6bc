"""The templates that guests are made from: what they hold, who was made from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.binding import BindingType

from app.core.commands import COMMANDS
from app.tui.questions import ask_text, confirm, pick
from app.tui.screens.asset import AssetScreen
from app.tui.shelf import Shelf
from app.tui.views import command_bindings, command_hints
from backends.assets import Templating
from backends.image import Template
from widgets.glyphs import GLYPHS
from widgets.line import Line, Span, line
from widgets.template_table import TemplateRow, TemplateTable, template_lines
from widgets.text import clean, counted


class TemplateScreen(AssetScreen[TemplateRow]):
    """All templates of all backends that keep some."""

    view_name = "templates"
    every_s = 5.0
    MORE_HINTS = (*command_hints("template", "use", "remove"), ("Enter", "details"), ("/", "filter"), ("o", "sort"))
    BINDINGS: ClassVar[list[BindingType]] = [*command_bindings("template")]

    def make_table(self) -> TemplateTable:
        return TemplateTable(id="list")

    def make_shelf(self) -> Shelf[Template]:
        return Shelf(self.innkeeper, self.roster, "templates", Templating, _read, self.show_list)

    def rows(self) -> list[TemplateRow]:
        assert self.shelf is not None
        return [
            TemplateRow(name, template, self.shelf.is_stale(name))
            for name, templates in self.shelf.items.items()
            for template in templates
        ]

    def backend_of(self, row: TemplateRow) -> str:
        return row.backend

    def name_of(self, row: TemplateRow) -> str:
        return row.template.name

    def detail_lines(self, row: TemplateRow, facts: Any, width: int) -> list[Line]:
        return template_lines(row.template, width)

    def summary(self) -> list[Span]:
        return [(f" {counted(len(self.table.rows), 'template')} ", "dim")]

    # ---- verbs

    def do_template_use(self) -> None:
        rows = self.table.chosen[:1]
        if not self.can("template.use", rows):
            return
        row = rows[0]
        ask_text(
            self.app,
            f"Name of the guest from {clean(row.template.name)}:",
            lambda name: self.submit("template.use", row.backend, template=row.template.name, name=name or None),
            hint="empty: one is made up",
            check=lambda text: "",
        )

    def do_template_remove(self) -> None:
        rows = self.table.chosen
        if not self.can("template.remove", rows):
            return
        details = [line(f"  {row.template.name}") for row in rows[:8]] if len(rows) > 1 else []
        details.append(line((COMMANDS["template.remove"].help, "dim")))
        guests = [name for row in rows for name in row.template.guests]
        if guests:
            details.append(line((f"{GLYPHS.warning} {', '.join(guests[:5])} came from it", "warn")))
        what = clean(rows[0].template.name) if len(rows) == 1 else f"{len(rows)} templates"

        def remove() -> None:
            for row in rows:
                self.submit("template.remove", row.backend, name=row.template.name)

        confirm(self.app, f"Remove {what}?", details, "remove", remove)

    def do_template_create(self) -> None:
        """Choose a guest and keep it."""
        backend = self.home("template.create")
        if backend is None:
            return
        guests = [each.guest for each in self.roster.rows if each.ref.backend == backend.name]
        if not guests:
            self.say("there is no guest to keep as a template")
            return

        def chosen(index: int) -> None:
            guest = guests[index]
            ask_text(
                self.app,
                f"Name of the template of {clean(guest.name)}:",
                lambda name: self.actions.submit("template.create", guest.ref, name=name),
                value=guest.name,
            )

        lines = [line(guest.name, (f"  {guest.state.value}", "dim")) for guest in guests]
        pick(self.app, "Keep which guest as a template?", lines, chosen)


def _read(backend: Templating) -> Sequence[Template]:
    return backend.templates()
