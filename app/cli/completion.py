"""Tab completion: a small script for each shell, which asks `inn __complete` what can come next."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from app.cli.verbs import VERBS
from backends.errors import InnkeeperError

if TYPE_CHECKING:
    from app.cli.context import Context

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]+")
"""Only such words are offered: others would have to be quoted, and names are other people's text."""

_BASH = """\
# inn completion for bash: eval "$(inn completion bash)"
_inn() {
    local IFS=$'\\n' words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    COMPREPLY=($(compgen -W "$(inn __complete -- "${words[@]}" 2>/dev/null | cut -f1)" -- "${COMP_WORDS[COMP_CWORD]}"))
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then compopt -o default 2>/dev/null || true; fi
}
complete -F _inn inn innkeeper
"""

_ZSH = """\
#compdef inn innkeeper
# inn completion for zsh: eval "$(inn completion zsh)"
_inn() {
    local -a lines described
    lines=("${(@f)$(inn __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    local line
    for line in $lines; do
        [[ -n $line ]] && described+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done
    if (( ${#described} )); then
        _describe 'inn' described
    else
        _files
    fi
}
(( $+functions[compdef] )) && compdef _inn inn innkeeper
"""

_FISH = """\
# inn completion for fish: inn completion fish | source
function __inn_complete
    set -l before (commandline -opc)
    set -e before[1]
    inn __complete -- $before (commandline -ct) 2>/dev/null
end
complete -c inn -f -a '(__inn_complete)'
complete -c innkeeper -f -a '(__inn_complete)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_LIVE_ONLY = frozenset({"stop", "kill", "pause", "exec", "attach", "processes", "console"})

_ON_IMAGES = frozenset({"image", "rmi", "save", "push"})


def completion_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn completion`."""
    parser.add_argument("shell", choices=sorted(_SCRIPTS), help="the shell that is to complete")


def completion_verb(args: argparse.Namespace, context: Context) -> int:
    """Print the script of a shell."""
    context.out.text(_SCRIPTS[args.shell])
    return 0


def complete_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `inn __complete`."""
    parser.add_argument("words", nargs=argparse.REMAINDER)


def complete_verb(args: argparse.Namespace, context: Context) -> int:
    """Print what can stand in place of the last word, with what it means after a tab."""
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    current = words[-1] if words else ""
    for word, meaning in candidates(words, context):
        if word.startswith(current) and _PLAIN.fullmatch(word):
            context.out.text(f"{word}\t{' '.join(meaning.split())}\n")
    return 0


def candidates(words: Sequence[str], context: Context) -> Iterable[tuple[str, str]]:
    """Return (word, meaning) of all that fits at the place of the last word."""
    from app.cli.parser import GLOBAL_VALUES, parser_of, split_at_verb

    before, rest = split_at_verb(words[:-1])
    if not rest:
        if words[-2:-1] and words[-2] in GLOBAL_VALUES:
            return _values(words[-2], context)
        if words[-1:] and words[-1].startswith("-"):
            return _options(_bare())
        return [(verb.name, verb.help) for verb in VERBS.values() if not verb.is_hidden]
    verb = VERBS.get(rest[0])
    if verb is None or verb.is_hidden:
        return []
    parser: argparse.ArgumentParser = parser_of(verb)
    given = rest[1:]
    acts = _acts(parser)
    if acts and not given:
        return [(name, below.description or "") for name, below in acts.items()]
    if acts and given[0] in acts:
        parser, given = acts[given[0]], given[1:]
    return _in_verb(verb.name, parser, given, words[-1] if words else "", _narrowed(before, context))


def _in_verb(
    verb: str, parser: argparse.ArgumentParser, given: Sequence[str], current: str, context: Context
) -> Iterable[tuple[str, str]]:
    if given and (action := _option(parser, given[-1])) is not None and action.nargs != 0:
        if action.choices:
            return [(str(choice), "") for choice in action.choices]
        return _values(given[-1], context)
    if current.startswith("-"):
        return _options(parser)
    positionals = [action for action in parser._actions if not action.option_strings]
    plain = [index for index, word in enumerate(given) if not word.startswith("-")]
    words = [given[index] for index in plain if not _is_value(parser, given, index)]
    taken = len(words)
    if not positionals:
        return _options(parser)
    wanted = positionals[min(taken, len(positionals) - 1)]
    if wanted.choices:
        return [(str(choice), "") for choice in wanted.choices]
    if wanted.dest in ("guest", "guests"):
        return _guests(context, live=verb in _LIVE_ONLY)
    if wanted.dest == "image" or (verb in _ON_IMAGES and wanted.dest == "names"):
        return _images(context)
    if verb == "network" and wanted.dest in ("network", "names"):
        return _networks(context)
    if verb == "volume" and wanted.dest in ("volume", "names"):
        return _volumes(context)
    if wanted.dest == "verb":
        return [(each.name, each.help) for each in VERBS.values() if not each.is_hidden]
    if wanted.dest in ("template", "templates"):
        return _templates(context)
    if wanted.dest in ("name", "other") and verb == "snapshot" and taken:
        return _snapshots(context, words[0])
    return []


def _bare() -> argparse.ArgumentParser:
    from app.cli.parser import Parser, add_global_options

    parser = Parser(prog="inn")
    add_global_options(parser)
    parser.add_argument("--version", action="store_true", help="print the version")
    return parser


def _narrowed(before: Sequence[str], context: Context) -> Context:
    """Return a context that heeds the global options before the verb: they are words to us, not yet options."""
    from dataclasses import replace

    from app.cli.main import settings_of
    from app.cli.parser import Parser, add_global_options

    if not before:
        return context
    parser = Parser(prog="inn")
    add_global_options(parser)
    return replace(context, settings=settings_of(parser.parse_args(list(before))))


def _option(parser: argparse.ArgumentParser, word: str) -> argparse.Action | None:
    return next((action for action in parser._actions if word in action.option_strings), None)


def _is_value(parser: argparse.ArgumentParser, given: Sequence[str], index: int) -> bool:
    action = _option(parser, given[index - 1]) if index else None
    return action is not None and action.nargs != 0


def _acts(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _options(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    return [
        (action.option_strings[-1], (action.help or "").replace("%%", "%"))
        for action in parser._actions
        if action.option_strings
    ]


def _values(option: str, context: Context) -> list[tuple[str, str]]:
    if option == "--backend":
        from backends import registry

        return [(name, "") for name in registry.names()]
    if option == "--network":
        found = dict.fromkeys(("bridge", "none", "host"), "") | dict(_networks(context))
        return [*found.items(), *((f"container:{name}", text) for name, text in _guests(context, live=True))]
    if option in ("-v", "--volume"):
        return [(f"{name}:/", text) for name, text in _volumes(context)]
    from app.cli.run_options import SUGGESTIONS

    return [(word, "") for word in SUGGESTIONS.get(option, ())]


def _guests(context: Context, *, live: bool) -> list[tuple[str, str]]:
    try:
        with context.workstation() as station:
            return [
                (station.fleet.display_name(guest), f"{guest.kind}, {guest.state}")
                for guest in station.fleet.guests()
                if guest.state.is_live or not live
            ]
    except InnkeeperError:
        return []


def _images(context: Context) -> list[tuple[str, str]]:
    from backends.assets import Images

    try:
        with context.workstation_with(Images, "use images") as (_, backend):
            return [(image.name, image.note) for image in backend.images()] if isinstance(backend, Images) else []
    except InnkeeperError:
        return []


def _networks(context: Context) -> list[tuple[str, str]]:
    from backends.assets import Networks

    try:
        with context.workstation_with(Networks, "have networks") as (_, backend):
            found = backend.networks() if isinstance(backend, Networks) else []
            return [(network.name, ", ".join(network.subnets)) for network in found]
    except InnkeeperError:
        return []


def _volumes(context: Context) -> list[tuple[str, str]]:
    from backends.assets import Volumes

    try:
        with context.workstation_with(Volumes, "have volumes") as (_, backend):
            found = backend.volumes() if isinstance(backend, Volumes) else []
            return [(volume.name, ", ".join(user.guest for user in volume.users)) for volume in found]
    except InnkeeperError:
        return []


def _templates(context: Context) -> list[tuple[str, str]]:
    from backends.assets import Templating

    try:
        with context.workstation_with(Templating, "list templates") as (_, backend):
            found = backend.templates() if isinstance(backend, Templating) else []
            return [(template.name, template.image) for template in found]
    except InnkeeperError:
        return []


def _snapshots(context: Context, name: str) -> list[tuple[str, str]]:
    from backends.capabilities import Snapshotting

    try:
        with context.workstation_for([name]) as station:
            guest = station.fleet.resolve(name)
            backend = station.backend(guest.ref.backend)
            found = backend.snapshots(guest.ref) if isinstance(backend, Snapshotting) else []
            return [(snapshot.name, snapshot.note) for snapshot in found]
    except InnkeeperError:
        return []
