"""All that is known of one image: what it is, who uses it, how it was made, how it is configured."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from backends.image import Image, ImageLayer, short_id
from widgets.line import EMPTY, Line, line, wrap
from widgets.text import clean, fit
from widgets.units import UNKNOWN, size

LABEL = 14

_BUILDER_NOISE = ("/bin/sh -c #(nop) ", "/bin/sh -c ")


def image_lines(
    image: Image, history: Sequence[ImageLayer] | None, facts: Mapping[str, Any] | None, width: int
) -> list[Line]:
    """Return the lines; without history or facts those parts are left out."""
    lines = [line((image.name, "title"))]
    names = [str(name) for name in (facts or {}).get("names") or ()]
    others = [name for name in names if name != image.name]
    if others:
        lines += wrap(_label("Also called", ", ".join(others)), width, LABEL)
    lines.append(_label("Id", image.id))
    if image.digest:
        lines.append(_label("Digest", image.digest))
    own = f", {size(image.own_bytes)} of it its own" if image.own_bytes is not None else ""
    lines.append(_label("Size", f"{size(image.size_bytes)} in {image.layers} layers{own}"))
    if image.platform:
        lines.append(_label("Platform", image.platform))
    if image.created_s is not None:
        lines.append(_label("Made", time.strftime("%Y-%m-%d %H:%M", time.localtime(image.created_s))))
    if image.note:
        lines += wrap(_label("Note", image.note), width, LABEL)
    lines += wrap(_label("Used by", ", ".join(image.users) or "nobody"), width, LABEL)
    if history is not None:
        lines += [EMPTY, *history_lines(history, width)]
    if facts is not None:
        lines += [EMPTY, *config_lines(facts.get("config") or {}, width)]
    return lines


def history_lines(history: Sequence[ImageLayer], width: int) -> list[Line]:
    """Each step: size, the first digits of its layer, who else has it, the command."""
    lines = [
        line(("History, oldest first", "head")),
        line((f"{'SIZE':>6}  {'LAYER':<12}  SHARED  COMMAND", "dim")),
    ]
    for step in history:
        shared = f"by {step.images}" if step.digest and step.images > 1 else ""
        command = clean(step.created_by)
        for noise in _BUILDER_NOISE:
            command = command.removeprefix(noise)
        lead = line(
            (f"{size(step.size_bytes) if step.digest else '':>6}  ", "strong"),
            (fit(short_id(step.digest), 12) + "  ", "dim"),
            (fit(shared, 6) + "  ", "accent"),
            command,
        )
        lines += wrap(lead, max(40, width), 30)
        if step.comment:
            lines += wrap(line(" " * 30, (step.comment, "dim")), max(40, width), 30)
    return lines


def config_lines(config: Mapping[str, Any], width: int) -> list[Line]:
    """What a container gets from it."""
    lines = [line(("What a container gets from it", "head"))]
    for title, key in (
        ("Entry point", "Entrypoint"), ("Command", "Cmd"), ("Folder", "WorkingDir"), ("User", "User"),
        ("Ports", "ExposedPorts"), ("Volumes", "Volumes"), ("Stop signal", "StopSignal"),
    ):  # fmt: skip
        value = config.get(key)
        if value:
            lines += wrap(_label(title, _words(value)), width, LABEL)
    for title, key in (("Variable", "Env"), ("Label", "Labels")):
        value = config.get(key) or ()
        pairs = [f"{name}={text}" for name, text in value.items()] if isinstance(value, Mapping) else map(str, value)
        for pair in pairs:
            lines += wrap(_label(title, pair), width, LABEL)
    if config.get("Healthcheck"):
        lines += wrap(_label("Health check", _words(config["Healthcheck"])), width, LABEL)
    return lines if len(lines) > 1 else [*lines, line((" nothing", "dim"))]


def _words(value: object) -> str:
    if isinstance(value, Mapping) and all(not each for each in value.values()):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _label(title: str, text: str) -> Line:
    return line((fit(title, LABEL), "dim"), text or UNKNOWN)
