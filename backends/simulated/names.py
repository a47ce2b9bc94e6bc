"""Names for simulated guests: lifelike ones, and hostile ones that try to take over a terminal."""

from __future__ import annotations

from backends.model import GuestKind

_CONTAINERS = (
    ("web-1", "nginx"), ("db", "postgres"), ("build-7", "builder"), ("cache", "redis"), ("web-2", "nginx"),
    ("queue", "rabbitmq"), ("worker-1", "app"), ("search", "opensearch"), ("metrics", "prometheus"),
    ("mail", "postfix"), ("worker-2", "app"),
    ("proxy", "haproxy"), ("git", "forgejo"), ("wiki", "mediawiki"), ("dns", "unbound"),
)  # fmt: skip
_MACHINES = (
    ("win11-office", "q35"), ("debian12-test", "q35"), ("router", "pc"), ("legacy-erp", "pc"), ("k8s-node-1", "q35"),
    ("gitlab-runner", "q35"), ("fedora-desktop", "q35"),
)  # fmt: skip

HOSTILE = (
    "\x1b[2J\x1b[31mred\x1b]0;owned\x07",
    "[bold red]markup[/] [link=file:///etc/passwd]click[/link]",
    "[/][/not-open]",
    "日本語のゲスト名",
    "👩‍👩‍👧‍👦 family ｆｕｌｌ",
    "n" * 200,
    "two\nlines\tand\ra tab",
    "right\u202eot-tfel",
    "combining e\u0301\u0301\u0301\u0301",
    "\x9b31mC1 \x90q#0\x9c",
    "-rf --help",
    " leading and trailing ",
)
"""Other people's text at its worst. Each must reach a terminal as harmless text."""


def name_of(index: int, kind: GuestKind, *, hostile: bool) -> tuple[str, str]:
    """Return (name, image or machine) of the index-th guest of its kind; no two names are equal."""
    known = _MACHINES if kind is GuestKind.VM else _CONTAINERS
    name, image = known[index % len(known)]
    turn = index // len(known)
    if hostile:
        position = index * 2 + (kind is GuestKind.VM)
        name, turn = HOSTILE[position % len(HOSTILE)], position // len(HOSTILE)
    return (f"{name}-{turn + 1}" if turn else name), image
