"""What a step's words mean where they are no mere values: here-documents, scripts of RUN, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from backends.errors import UsageError
from backends.native.build import changes
from backends.native.build.changes import Config
from backends.native.build.dockerfile import DockerfileError, parse_line
from backends.native.build.instruction import Instruction
from backends.native.build.stages import Stage
from backends.native.build.telling import short
from backends.native.build.words import WordError, expand

_MOST_TRIGGERS = 200
_FETCHED = ("http://", "https://", "ftp://", "git://", "git@", "ssh://")


def history(step: Instruction, found: Mapping[str, Any]) -> str:
    """Return what the image's history says of a step."""
    if step.keyword in ("CMD", "ENTRYPOINT") and found:
        key = {"CMD": "Cmd", "ENTRYPOINT": "Entrypoint"}[step.keyword]
        return f"{step.keyword} {json.dumps(found[key] or [])}"
    if step.keyword == "ENV":
        return f"ENV {step.rest}"
    return f"{step.keyword} {step.rest}"


def body(text: str, is_plain: bool, values: Mapping[str, str], escape: str, line: int) -> str:
    """Return the content of a here-document. Raises DockerfileError."""
    if is_plain:
        return text
    try:
        return expand(text, values, escape, keep_quotes=True)
    except WordError as error:
        raise DockerfileError(line, f"here-document: {error}") from None


def check_sources(step: Instruction, sources: Sequence[str]) -> None:
    """Raise DockerfileError for sources that are not in the context."""
    for source in sources:
        if source.startswith(_FETCHED):
            hint = "fetch it before the build and ADD the file, or fetch it in a RUN"
            raise DockerfileError(
                step.line, f"{step.keyword} {short(source, 60)}: what is elsewhere is not fetched", hint=hint
            )
    for name in ("checksum", "keep-git-dir"):
        if step.flag(name):
            raise DockerfileError(step.line, f"--{name} goes with what is fetched, and ADD fetches nothing here")


def check_run(step: Instruction) -> None:
    """Raise DockerfileError for options of RUN that are not supported."""
    if step.flag("security") not in ("", "sandbox"):
        raise DockerfileError(step.line, f"RUN --security={step.flag('security')} is not supported")
    if step.flag("network") not in ("", "default", "none", "host"):
        raise DockerfileError(step.line, f"RUN --network={step.flag('network')}: it can be default, none or host")


def script(step: Instruction, config: Config) -> list[str]:
    """Return what RUN runs; a shell gets its here-documents as they stand."""
    args = changes.command_of(step, config)
    if step.is_json or not step.heredocs:
        return args
    *before, line = args
    if len(step.heredocs) == 1 and line.strip().lstrip("0123456789").startswith("<<") and len(line.split()) == 1:
        return [*before, step.heredocs[0].body]
    return [*before, line + "\n" + "".join(f"{doc.body}{doc.name}\n" for doc in step.heredocs)]


def triggers_of(config: Config, stage: Stage) -> list[Instruction]:
    """Return what ONBUILD of a stage's base image left for its children. Raises UsageError."""
    texts = list(config.get("OnBuild") or ())
    if len(texts) > _MOST_TRIGGERS:
        raise UsageError(f"image {stage.base} has more than {_MOST_TRIGGERS} ONBUILD instructions")
    found = []
    for text in texts:
        try:
            step = parse_line(text, stage.line)
        except UsageError as error:
            raise UsageError(f"ONBUILD {text[:60]!r} of image {stage.base}: {error.message}") from None
        if step.keyword in ("ONBUILD", "FROM", "MAINTAINER"):
            raise UsageError(f"image {stage.base} asks for ONBUILD {step.keyword}, which cannot be")
        found.append(step)
    return found
