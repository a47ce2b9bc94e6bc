"""Names for containers that were given none."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

_QUALITIES_TEXT = (
    "amber brave brisk calm clever cosy crisp eager early fair fleet gentle glad golden grand hardy honest jolly "
    "keen kind late lively lucky mellow merry mild neat nimble noble plain proud quick quiet rapid ready rosy "
    "sharp shy silent sleepy sly snug spry stout sunny swift tidy tiny warm wise witty"
)
_GUESTS_TEXT = (
    "badger beaver bison crane curlew dormouse egret ermine falcon ferret finch fox gannet hare hedgehog heron "
    "ibex jackdaw kestrel lark lemming linnet lynx magpie marten merlin mole newt nuthatch otter owl plover "
    "puffin quail raven robin salmon seal shrew siskin snipe sparrow squirrel starling stoat swallow swift tern "
    "thrush toad trout vole wagtail weasel wren"
)
_QUALITIES, _GUESTS = _QUALITIES_TEXT.split(), _GUESTS_TEXT.split()

_LONGEST = 120
"""Of a name with 128, a number may follow."""


def numbered(name: str) -> Iterator[str]:
    """Yield NAME-2, NAME-3 … without end; NAME-3 is followed by NAME-4."""
    stem, dash, last = name.rpartition("-")
    if not (dash and last.isascii() and last.isdigit() and len(last) < 5):
        stem, last = name, "1"
    for number in itertools.count(int(last) + 1):
        yield f"{stem[:_LONGEST]}-{number}"


def suggestions() -> Iterator[str]:
    """Yield names without end; later ones carry a number."""
    number = 0
    while True:
        name = f"{random.choice(_QUALITIES)}-{random.choice(_GUESTS)}"
        yield name if number < 50 else f"{name}-{number}"
        number += 1
