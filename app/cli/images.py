"""`inn image`, under which all verbs on images stand; the usual ones are verbs of their own too, as docker has them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.cli.archives import load_act, load_arguments, save_act, save_arguments
from app.cli.building import build_verb, build_verb_arguments
from app.cli.image_keeping import (
    import_act,
    import_arguments,
    prune_act,
    prune_arguments,
    remove_act,
    remove_arguments,
    tag_act,
    tag_arguments,
)
from app.cli.image_listing import (
    history_act,
    history_arguments,
    inspect_act,
    inspect_arguments,
    list_act,
    list_arguments,
    search_act,
    search_arguments,
)
from app.cli.transfers import ACTS as TRANSFERS
from app.cli.transfers import add_transfer_acts, transfer_act

if TYPE_CHECKING:
    from app.cli.context import Context

_Declare = Callable[[argparse.ArgumentParser], None]
_Do = Callable[[argparse.Namespace, "Context"], int]

_ACTS: dict[str, tuple[_Declare, _Do, str]] = {
    "ls": (list_arguments, list_act, "list the images"),
    "inspect": (inspect_arguments, inspect_act, "print all that is known of images, as JSON"),
    "history": (history_arguments, history_act, "show the steps that an image was made in, with their layers"),
    "search": (search_arguments, search_act, "find images here by name, label or a command of their history"),
    "build": (build_verb_arguments, build_verb, "build an image from a Dockerfile"),
    "tag": (tag_arguments, tag_act, "give an image a further name"),
    "import": (import_arguments, import_act, "make an image from a root file system"),
    "load": (load_arguments, load_act, "take images from an archive or a folder"),
    "save": (save_arguments, save_act, "write images to an archive"),
    "rm": (remove_arguments, remove_act, "take names from images, and remove those without"),
    "prune": (prune_arguments, prune_act, "remove images and layers that nobody uses"),
}


def image_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn image`."""
    acts: Any = parser.add_subparsers(dest="act", metavar="|".join([*_ACTS, *TRANSFERS]), required=True)
    for name, (declare, _, text) in _ACTS.items():
        declare(acts.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}."))
    add_transfer_acts(acts)


def image_verb(args: argparse.Namespace, context: Context) -> int:
    """Do what is asked of images."""
    return transfer_act(args, context) if args.act in TRANSFERS else _ACTS[args.act][1](args, context)


images_verb_arguments, images_verb = list_arguments, list_act
history_verb_arguments, history_verb = history_arguments, history_act
tag_verb_arguments, tag_verb = tag_arguments, tag_act
import_verb_arguments, import_verb = import_arguments, import_act
load_verb_arguments, load_verb = load_arguments, load_act
save_verb_arguments, save_verb = save_arguments, save_act
rmi_verb_arguments, rmi_verb = remove_arguments, remove_act
