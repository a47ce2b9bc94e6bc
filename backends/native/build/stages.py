"""The stages of a Dockerfile, and which of them a target needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backends.errors import UsageError
from backends.native.build import mounts
from backends.native.build.dockerfile import Dockerfile, DockerfileError
from backends.native.build.instruction import Instruction
from backends.native.build.words import WordError, expand

SCRATCH = "scratch"

PREDEFINED = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY",
              "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")  # fmt: skip
"""Arguments that RUN gets without an ARG, and that are no part of cache or history."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is between one FROM and the next."""

    number: int
    name: str
    """In small letters; empty if it has none."""

    base: str
    """An image, "scratch", or what an earlier stage is called."""

    platform: str
    line: int
    steps: tuple[Instruction, ...]
    base_stage: int | None = None
    """Number of the stage that it goes on from."""

    def title(self, count: int) -> str:
        """What output calls it; without a name the number, if there are several."""
        return self.name or (f"stage {self.number}" if count > 1 else "")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A Dockerfile, with its stages found and the variables of their FROMs replaced."""

    stages: tuple[Stage, ...]
    escape: str
    global_args: Mapping[str, str]
    """Of the ARGs before the first FROM, as far as they have a value."""

    def stage(self, text: str, before: int | None = None) -> int | None:
        """Return the number of the stage that a name or number means, among those before one."""
        found = [stage for stage in self.stages[:before] if stage.name and stage.name == text.lower()]
        if found:
            return found[-1].number
        last = len(self.stages) if before is None else before
        return int(text) if text.isascii() and text.isdigit() and len(text) < 6 and int(text) < last else None

    def target(self, text: str) -> int:
        """Return the number of the stage to end with. Raises UsageError."""
        if not text:
            return len(self.stages) - 1
        number = self.stage(text)
        if number is None:
            names = [stage.name for stage in self.stages if stage.name]
            hint = f"stages with names: {', '.join(names[:20])}" if names else "no stage has a name"
            raise UsageError(f"there is no stage {text!r} to end with", hint=hint)
        return number

    def needed(self, target: int) -> list[int]:
        """Return the numbers of the stages that a target needs, itself last. Raises DockerfileError for a mount."""
        wanted, found = [target], set()
        while wanted:
            number = wanted.pop()
            if number in found:
                continue
            found.add(number)
            stage = self.stages[number]
            others = [stage.base_stage, *(self.stage(step.flag("from"), number) for step in stage.steps)]
            others += [self.stage(source, number) for step in stage.steps for source in mounts.sources(step)]
            wanted += [other for other in others if other is not None]
        return sorted(found)


def recipe(file: Dockerfile, build_args: Mapping[str, str], platforms: Mapping[str, str]) -> Recipe:
    """Return the stages of a Dockerfile. platforms are the ARGs that FROM knows by itself. Raises DockerfileError."""
    values: dict[str, str] = dict(platforms)
    declared: dict[str, str] = {}
    stages: list[Stage] = []
    begun: Instruction | None = None
    steps: list[Instruction] = []
    for instruction in file.instructions:
        if instruction.keyword == "FROM":
            if begun is not None:
                stages.append(_stage(begun, steps, stages, values, file.escape))
            begun, steps = instruction, []
        elif begun is not None:
            steps.append(instruction)
        elif instruction.keyword == "ARG":
            for name, text in instruction.pairs:
                value = build_args.get(name, expanded(text, values, file.escape, instruction.line) if text else text)
                if value is not None:
                    values[name] = declared[name] = value
        else:
            raise DockerfileError(instruction.line, f"{instruction.keyword} comes before any FROM")
    if begun is None:
        raise DockerfileError(1, "there is no FROM in it")
    stages.append(_stage(begun, steps, stages, values, file.escape))
    return Recipe(tuple(stages), file.escape, declared)


def _stage(
    begun: Instruction, steps: Sequence[Instruction], before: Sequence[Stage], values: Mapping[str, str], escape: str
) -> Stage:
    base = expanded(begun.words[0], values, escape, begun.line)
    if not base:
        raise DockerfileError(begun.line, f"FROM {begun.words[0]} names no image: its variables are not set")
    name = begun.words[2].lower() if len(begun.words) == 3 else ""
    if name == SCRATCH or any(stage.name == name for stage in before if name):
        raise DockerfileError(begun.line, f"a stage cannot be called {name!r}: that name is taken")
    earlier = [stage.number for stage in before if stage.name and stage.name == base.lower()]
    platform = expanded(begun.flag("platform"), values, escape, begun.line)
    return Stage(len(before), name, base, platform, begun.line, tuple(steps), earlier[-1] if earlier else None)


def expanded(text: str, values: Mapping[str, str], escape: str, line: int) -> str:
    """Return a word with its variables replaced. Raises DockerfileError."""
    try:
        return expand(text, values, escape)
    except WordError as error:
        raise DockerfileError(line, str(error)) from None
