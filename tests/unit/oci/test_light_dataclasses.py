"""The twin of dataclasses that `inn oci` uses does what the standard one does."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from backends.oci import light_dataclasses

ROOT = Path(__file__).parents[3]
TWINS = [dataclasses, light_dataclasses]


def classes(module: Any) -> dict[str, Any]:
    """Return classes of every kind that the project declares, made by one of the two modules."""

    @module.dataclass(frozen=True, slots=True, order=True)
    class Point:
        """A value."""

        x: int
        y: int = 2
        tags: tuple[str, ...] = ()
        seen: ClassVar[int] = 7

    @module.dataclass(slots=True)
    class Step:
        """Something done."""

        path: str
        kind = "step"
        _before: str | None = module.field(default=None, init=False, repr=False, compare=False)
        log: list[str] = module.field(default_factory=list)

        def __post_init__(self) -> None:
            self.log.append(self.path)

    @module.dataclass(slots=True, eq=False)
    class Handle:
        """One of its kind."""

        fd: int

    @module.dataclass(frozen=True)
    class Base:
        """What others build on."""

        a: int
        b: int = 0

    @module.dataclass(frozen=True)
    class Derived(Base):
        """More of it."""

        c: int = module.field(default=5, kw_only=True)

    return {kind.__name__: kind for kind in (Point, Step, Handle, Base, Derived)}


@pytest.fixture(params=TWINS, ids=["standard", "light"])
def made(request: pytest.FixtureRequest) -> Any:
    """A module and the classes made by it."""
    found = classes(request.param)
    return type("Made", (), {"module": request.param, **found})


def test_arguments_become_fields(made: Any) -> None:
    assert (made.Point(1).x, made.Point(1).y, made.Point(1, y=3).y, made.Point.seen) == (1, 2, 3, 7)
    assert (made.Step("p").path, made.Step("p").kind, made.Step("p")._before) == ("p", "step", None)
    assert (made.Derived(1, c=2).a, made.Derived(1).b, made.Derived(1).c) == (1, 0, 5)


@pytest.mark.parametrize("call", [lambda m: m.Point(), lambda m: m.Point(1, 2, (), 4), lambda m: m.Point(1, x=1),
                                  lambda m: m.Point(1, z=1), lambda m: m.Step("a", _before="x"),
                                  lambda m: m.Derived(1, 2, 3)])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(made: Any, call: Any) -> None:
    with pytest.raises(TypeError):
        call(made)


def test_each_value_has_its_own_default_list(made: Any) -> None:
    assert made.Step("a").log == ["a"]
    assert made.Step("b").log == ["b"]


def test_values_are_compared_hashed_and_ordered_by_their_fields(made: Any) -> None:
    assert made.Point(1) == made.Point(1, 2)
    assert hash(made.Point(1)) == hash(made.Point(1, 2))
    assert made.Point(1) < made.Point(2)
    assert made.Point(1) != made.Base(1, 2)
    assert made.Step("a") == made.Step("a")
    assert made.Handle(1) != made.Handle(1)
    with pytest.raises(TypeError):
        hash(made.Step("a"))
    assert hash(made.Handle(1))


def test_frozen_values_stay_as_they_are(made: Any) -> None:
    with pytest.raises(AttributeError):
        made.Point(1).x = 2
    with pytest.raises(AttributeError):
        del made.Base(1).a
    with pytest.raises(AttributeError):
        made.Handle(1).other = 2


def test_values_are_shown_taken_apart_and_changed(made: Any) -> None:
    assert repr(made.Point(1)).endswith("Point(x=1, y=2, tags=())")
    assert "_before" not in repr(made.Step("a"))
    assert made.module.asdict(made.Point(1)) == {"x": 1, "y": 2, "tags": ()}
    assert made.module.replace(made.Point(1), y=9) == made.Point(1, 9)
    assert [one.name for one in made.module.fields(made.Step)] == ["path", "_before", "log"]
    assert made.module.is_dataclass(made.Point)
    assert made.Point.__match_args__ == ("x", "y", "tags")


def test_what_it_does_not_have_is_the_standard_modules() -> None:
    assert light_dataclasses.InitVar is dataclasses.InitVar


def test_every_class_of_the_runtime_has_the_same_fields_either_way() -> None:
    code = """
import importlib, json, pathlib, sys
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "light":
    from backends.oci import light_dataclasses
    light_dataclasses.install()
found = {}
for folder in ("backends/oci", "backends/oci/cli", "backends/kernel"):
    for path in sorted(pathlib.Path(sys.argv[1], folder).glob("*.py")):
        module = importlib.import_module(f"{folder.replace('/', '.')}.{path.stem}")
        for name, kind in vars(module).items():
            if isinstance(kind, type) and "__dataclass_fields__" in kind.__dict__ and "light" not in kind.__module__:
                fields = kind.__dataclass_fields__.values()
                slots = getattr(kind, "__slots__", None)
                found[f"{module.__name__}.{name}"] = [[(f.name, f.init, f.repr, f.compare) for f in fields], slots]
print(json.dumps(found))
"""
    answers = [
        json.loads(
            subprocess.run([sys.executable, "-c", code, str(ROOT), which], capture_output=True, check=True).stdout
        )
        for which in ("standard", "light")
    ]

    assert len(answers[0]) > 50
    assert answers[0] == answers[1]
