"""`inn network create|ls|inspect|rm|connect|disconnect|prune`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.cli import network_filters
from app.cli.figures import NONE, age_text, bytes_text, time_text
from app.cli.operating import add_trace_option, on_guests, tracing, wait_for
from app.cli.run_values import labels
from backends.assets import Networks
from backends.errors import InnkeeperError, NotFound, UsageError
from backends.network import Attachment, Network, NetworkSpec

if TYPE_CHECKING:
    from app.cli.context import Context
    from app.core.workstation import Workstation
    from backends.base import Backend


def network_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn network`."""
    acts = parser.add_subparsers(dest="act", metavar="ls|create|inspect|rm|connect|disconnect|prune", required=True)
    listing = _act(acts, "ls", "list the networks")
    form = listing.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print an array of objects")
    form.add_argument("--format", choices=("table", "json"), default="table", help="json: one object a line")
    form.add_argument("-q", "--quiet", action="store_true", help="print names only")
    many: dict[str, Any] = {"action": "append", "default": [], "metavar": "KEY=VALUE"}
    listing.add_argument(
        "-f", "--filter", **many,
        help="name=, id=, driver=, type=custom|builtin, dangling=true|false, label=KEY[=VALUE]",
    )  # fmt: skip
    _create_arguments(_act(acts, "create", "make a network"))
    inspecting = _act(acts, "inspect", "print all that is known of networks, as JSON")
    inspecting.add_argument("--json", action="store_true", help="this is the only form; taken for the sake of scripts")
    inspecting.add_argument("names", metavar="NETWORK", nargs="+")
    removing = _act(acts, "rm", "remove networks that no guest is on")
    removing.add_argument("-f", "--force", action="store_true", help="one that is not there is no error")
    removing.add_argument("names", metavar="NETWORK", nargs="+")
    _connect_arguments(_act(acts, "connect", "put a guest on a further network, at once if it is live"))
    leaving = _act(acts, "disconnect", "take a guest off a network, at once if it is live")
    leaving.add_argument("-f", "--force", action="store_true", help="nothing holds it anyhow; taken as docker has it")
    leaving.add_argument("network", metavar="NETWORK")
    leaving.add_argument("guest", metavar="GUEST")
    pruning = _act(acts, "prune", "remove all networks that no guest is on")
    pruning.add_argument("--dry-run", action="store_true", help="only say which those are")
    pruning.add_argument("--filter", **many, help="only those: label=KEY[=VALUE], label!=KEY[=VALUE], until=24h")
    pruning.add_argument("-f", "--force", action="store_true", help="nothing is asked anyhow; taken as docker has it")


def _act(acts: Any, name: str, text: str) -> argparse.ArgumentParser:
    also = {"ls": ["list"], "rm": ["remove"]}.get(name, [])
    parser: argparse.ArgumentParser = acts.add_parser(
        name, aliases=also, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    parser.set_defaults(act=name)
    if name not in ("ls", "inspect"):
        add_trace_option(parser)
    return parser


def _create_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    many: dict[str, Any] = {"action": "append", "default": []}
    add("--subnet", metavar="SUBNET", **many, help="10.20.0.0/24; at most one of IPv4 and one of IPv6 (chosen)")
    add("--gateway", metavar="ADDRESS", **many, help="the host's address on it (the first of the subnet)")
    add("--ip-range", metavar="SUBNET", default="", help="the part of the IPv4 subnet that addresses are taken from")
    add("--ipv6", action="store_true", help="an IPv6 subnet too, chosen from fd00::/8 unless one is given")
    add("--internal", action="store_true", help="no way out, and no way in")
    add("--label", metavar="KEY[=VALUE]", **many, help="put a label on it")
    add("--driver", "-d", choices=("bridge",), default="bridge", help="bridge is all there is")
    add("name", metavar="NAME", help="its name")


def _connect_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--ip", metavar="ADDRESS", default="", help="a fixed IPv4 address")
    add("--ip6", metavar="ADDRESS", default="", help="a fixed IPv6 address")
    add("--alias", metavar="NAME", action="append", default=[], help="a further name that resolves to it there")
    add("--mac-address", metavar="MAC", default="", help="the address of its link")
    add("network", metavar="NETWORK")
    add("guest", metavar="GUEST")


def network_verb(args: argparse.Namespace, context: Context) -> int:
    """Do one of them."""
    if args.act == "connect":
        how = Attachment(args.network, args.ip, args.ip6, tuple(args.alias), args.mac_address)
        return on_guests(context, "network.connect", [args.guest], arguments=lambda *_: {"how": how}, trace=args.trace)
    if args.act == "disconnect":
        given = {"network": args.network}
        return on_guests(context, "network.disconnect", [args.guest], arguments=lambda *_: given, trace=args.trace)
    with context.workstation_with(Networks, "have networks") as (station, backend):
        if args.act == "ls":
            fits = network_filters.listed(args.filter)
            return _list(args, context, [each for each in _networks(station, backend) if fits(each)])
        if args.act == "inspect":
            return _inspect(context, args.names, _networks(station, backend))
        with tracing(context, station, args.trace):
            if args.act == "create":
                return _create(args, context, station, backend)
            if args.act == "prune":
                return _prune(args, context, station, backend)
            return _remove(args.names, context, station, backend, ignores_missing=args.force)


def _networks(station: Workstation, backend: Backend) -> Sequence[Network]:
    assert isinstance(backend, Networks)
    found: Sequence[Network] = station.ask("list networks", backend.name, lambda _: backend.networks())
    return found


def _create(args: argparse.Namespace, context: Context, station: Workstation, backend: Backend) -> int:
    spec = NetworkSpec(
        args.name, tuple(args.subnet), tuple(args.gateway), args.ip_range, args.ipv6, args.internal,
        labels("--label", args.label),
    )  # fmt: skip
    made = wait_for(context, station.submit("network.create", backend=backend.name, spec=spec))
    context.out.line(made.id if isinstance(made, Network) else args.name)
    return 0


def _remove(
    names: Sequence[str], context: Context, station: Workstation, backend: Backend, *, ignores_missing: bool = False
) -> int:
    first_failure = 0
    for name in names:
        try:
            wait_for(context, station.submit("network.remove", backend=backend.name, name=name))
            context.out.line(name)
        except InnkeeperError as error:
            if not (ignores_missing and isinstance(error, NotFound)):
                first_failure = context.talk.error(error, after=first_failure)
    return first_failure


def _prune(args: argparse.Namespace, context: Context, station: Workstation, backend: Backend) -> int:
    fits = network_filters.pruned(args.filter)
    networks = [each for each in _networks(station, backend) if not each.is_default and not each.members]
    unused = [each.name for each in networks if fits(each)]
    if args.dry_run:
        for name in unused:
            context.out.line(name)
        return 0
    if not unused:
        context.talk.note("no network " + ("fits and " if args.filter else "") + "is without guests")
    return _remove(unused, context, station, backend)


def _list(args: argparse.Namespace, context: Context, networks: Sequence[Network]) -> int:
    if args.json:
        context.out.json([as_json(each) for each in networks])
    elif args.format == "json":
        for each in networks:
            context.out.json_line(as_json(each))
    elif args.quiet:
        for each in networks:
            context.out.line(each.name)
    else:
        titles = ("NETWORK", "DRIVER", "SUBNETS", "GUESTS", "AGE", "RECEIVED", "SENT", "NOTE")
        context.out.table(titles, [_row(each) for each in networks], right=("GUESTS", "AGE", "RECEIVED", "SENT"))
    return 0


def _row(network: Network) -> tuple[str, ...]:
    live = sum(member.is_live for member in network.members)
    count = str(live) if live == len(network.members) else f"{live} of {len(network.members)} live"
    return (
        network.name,
        network.driver,
        ", ".join(network.subnets) or NONE,
        count if network.driver == "bridge" else NONE,
        age_text(network.created_s),
        NONE if network.rx_bytes is None else bytes_text(network.rx_bytes),
        NONE if network.tx_bytes is None else bytes_text(network.tx_bytes),
        network.note or ("internal" if network.is_internal else "default" if network.is_default else NONE),
    )


def _inspect(context: Context, names: Sequence[str], networks: Sequence[Network]) -> int:
    found, first_failure = [], 0
    for name in names:
        try:
            found.append(as_json(_named(networks, name)))
        except InnkeeperError as error:
            first_failure = context.talk.error(error, after=first_failure)
    if len(names) > 1:
        context.out.json(found)
    elif found:
        context.out.json(found[0])
    return first_failure


def _named(networks: Sequence[Network], name: str) -> Network:
    exact = [each for each in networks if each.name == name]
    found = exact or [each for each in networks if name and each.id.startswith(name)]
    if not found:
        raise NotFound(f"no network {name}", hint="inn network ls lists them")
    if len(found) > 1:
        raise UsageError(f"{name} is the beginning of several ids: {', '.join(each.name for each in found)}")
    return found[0]


def as_json(network: Network) -> dict[str, Any]:
    """Return the network as JSON types. The keys are a promise: see docs/cli.md."""
    return {
        "name": network.name,
        "id": network.id,
        "driver": network.driver,
        "subnets": list(network.subnets),
        "gateways": list(network.gateways),
        "bridge": network.bridge or None,
        "internal": network.is_internal,
        "default": network.is_default,
        "created": time_text(network.created_s),
        "rx_bytes": network.rx_bytes,
        "tx_bytes": network.tx_bytes,
        "labels": dict(network.labels),
        "note": network.note,
        "guests": [
            {
                "name": member.guest,
                "addresses": list(member.addresses),
                "aliases": list(member.aliases),
                "ports": list(member.ports),
                "link": member.link or None,
                "live": member.is_live,
                "rx_bytes": member.rx_bytes,
                "tx_bytes": member.tx_bytes,
            }
            for member in network.members
        ],
    }
