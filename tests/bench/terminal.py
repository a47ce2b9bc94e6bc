"""The part of a terminal that talks back: answers queries, remembers modes, types keys."""

from __future__ import annotations

import re
from typing import ClassVar

KEYS = {
    "Up": b"\x1b[A",
    "Down": b"\x1b[B",
    "Right": b"\x1b[C",
    "Left": b"\x1b[D",
    "Enter": b"\r",
    "Esc": b"\x1b",
    "Tab": b"\t",
    "Space": b" ",
    "Backspace": b"\x7f",
    "PgUp": b"\x1b[5~",
    "PgDn": b"\x1b[6~",
    "Home": b"\x1b[H",
    "End": b"\x1b[F",
    "F1": b"\x1bOP",
    "F2": b"\x1bOQ",
    "F3": b"\x1bOR",
    "F4": b"\x1bOS",
    "F5": b"\x1b[15~",
    "F6": b"\x1b[17~",
    "F7": b"\x1b[18~",
    "F8": b"\x1b[19~",
    "F9": b"\x1b[20~",
    "F10": b"\x1b[21~",
    **{f"C-{chr(96 + i)}": bytes([i]) for i in range(1, 27)},
}
APP_CURSOR = {
    "Up": b"\x1bOA",
    "Down": b"\x1bOB",
    "Right": b"\x1bOC",
    "Left": b"\x1bOD",
    "Home": b"\x1bOH",
    "End": b"\x1bOF",
}


class Terminal:
    """The part of a terminal that talks back, and that remembers modes."""

    SEQ = re.compile(
        rb"\x1b(?:"
        rb"\[(?P<pre>[<=>?]?)(?P<par>[0-9;:]*)(?P<int>[ -/]*)(?P<fin>[@-~])"
        rb"|\](?P<osc>[^\x07\x1b]*)(?P<st>\x07|\x1b\\)"
        rb"|P(?P<dcs>[^\x1b]*)\x1b\\"
        rb"|[_^X][^\x1b]*\x1b\\"
        rb"|(?P<esc>[=>78cDEHMNOZ])"
        rb"|[()*+][0-9A-Za-z]"
        rb")"
    )
    MODES_OF_INTEREST: ClassVar[dict[bytes, str]] = {
        b"1049": "alt screen",
        b"1047": "alt screen",
        b"47": "alt screen",
        b"1000": "mouse",
        b"1002": "mouse",
        b"1003": "mouse",
        b"1005": "(mouse encoding)",
        b"1006": "(mouse encoding)",
        b"1015": "(mouse encoding)",
        b"1016": "(mouse encoding)",  # in brackets: without effect while the mouse itself is off
        b"2004": "bracketed paste",
        b"1004": "focus reports",
        b"2026": "synchronized output",
        b"2031": "theme reports",
        b"2048": "in-band resize",
        b"1": "application cursor keys",
    }

    def __init__(self, rows: int, cols: int) -> None:
        self.rows, self.cols = rows, cols
        self.modes: dict[bytes, bool] = {b"25": True, b"7": True}
        self.kitty_depth = 0
        self.modify_other = False
        self.keypad_app = False
        self.sync_pairs = 0
        self.queries: dict[str, int] = {}
        self._carry = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take output; return what a terminal would type back."""
        buf = self._carry + chunk
        reply = bytearray()
        end = 0
        for m in self.SEQ.finditer(buf):
            end = m.end()
            if (fin := m["fin"]) is not None:
                reply += self._csi(m["pre"], m["par"], m["int"], fin, buf, m.start())
            elif m["osc"] is not None:
                reply += self._osc(m["osc"], m["st"])
            elif m["dcs"] is not None:
                reply += self._dcs(m["dcs"])
            elif m["esc"] in (b"=", b">"):
                self.keypad_app = m["esc"] == b"="
        tail = buf.rfind(b"\x1b", end)
        self._carry = buf[tail:] if tail >= 0 and len(buf) - tail < 4096 else b""
        return bytes(reply)

    def _note(self, name: str) -> None:
        self.queries[name] = self.queries.get(name, 0) + 1

    def _csi(self, pre: bytes, par: bytes, inter: bytes, fin: bytes, buf: bytes, at: int) -> bytes:
        if fin in b"hl" and pre == b"?" and not inter:
            for p in par.split(b";"):
                self.modes[p] = fin == b"h"
                if p == b"2026" and fin == b"h":
                    self.sync_pairs += 1
        elif fin == b"u" and pre == b">":
            self.kitty_depth += 1
        elif fin == b"u" and pre == b"<":
            self.kitty_depth = max(0, self.kitty_depth - int(par or b"1"))
        elif fin == b"u" and pre == b"?":
            self._note("kitty keyboard")
            return b"\x1b[?0u"
        elif fin == b"m" and pre == b">":
            self.modify_other = par.startswith(b"4;") and not par.endswith(b";0")
        elif fin == b"c" and pre == b"" and par in (b"", b"0"):
            self._note("DA1")
            return b"\x1b[?62;22c"
        elif fin == b"c" and pre == b">":
            self._note("DA2")
            return b"\x1b[>41;354;0c"
        elif fin == b"q" and pre == b">":
            self._note("XTVERSION")
            return b"\x1bP>|tui_cost(1)\x1b\\"
        elif fin == b"n" and par == b"6":
            self._note("CPR")
            row, col = self._guess_cursor(buf[:at])
            return b"\x1b[%s%d;%dR" % (pre, row, col)
        elif fin == b"n" and par == b"5":
            self._note("DSR")
            return b"\x1b[0n"
        elif fin == b"p" and inter == b"$":
            self._note("DECRQM " + par.decode())
            known = par in self.MODES_OF_INTEREST or par in self.modes
            state = (1 if self.modes.get(par) else 2) if known and pre == b"?" else 0
            return b"\x1b[%s%s;%d$y" % (pre, par, state)
        elif fin == b"t" and par in (b"14", b"16", b"18"):
            self._note("size " + par.decode())
            h, w = {b"14": (self.rows * 16, self.cols * 8), b"16": (16, 8), b"18": (self.rows, self.cols)}[par]
            return b"\x1b[%d;%d;%dt" % (int(par) - 10, h, w)
        return b""

    def _osc(self, body: bytes, st: bytes) -> bytes:
        for code, colour in ((b"10", b"d0d0/d0d0/d0d0"), (b"11", b"1010/1010/1010"), (b"12", b"ffff/ffff/ffff")):
            if body == code + b";?":
                self._note("OSC " + code.decode())
                return b"\x1b]" + code + b";rgb:" + colour + st
        if body.startswith(b"4;") and body.endswith(b"?"):
            self._note("OSC 4")
            return b"\x1b]" + body[:-1] + b"rgb:8080/8080/8080" + st
        return b""

    def _dcs(self, body: bytes) -> bytes:
        if body.startswith(b"+q"):
            self._note("XTGETTCAP")
            return b"\x1bP0+r\x1b\\"
        if body.startswith(b"$q"):
            self._note("DECRQSS")
            return b"\x1bP0$r\x1b\\"
        return b""

    def _guess_cursor(self, before: bytes) -> tuple[int, int]:
        row, col, start = 1, 1, 0
        for m in re.finditer(rb"\x1b\[(\d*);?(\d*)H|\r", before):
            start = m.end()
            row, col = (row, 1) if m[0] == b"\r" else (int(m[1] or 1), int(m[2] or 1))
        text = self.SEQ.sub(b"", before[start:]).decode("utf-8", "replace")
        return min(row, self.rows), min(col + sum(c >= " " for c in text), self.cols)

    def leftovers(self) -> list[str]:
        """Modes a program has left switched on (empty after a clean exit)."""
        left = {self.MODES_OF_INTEREST[m] for m, on in self.modes.items() if on and m in self.MODES_OF_INTEREST}
        if not self.modes[b"25"]:
            left.add("cursor hidden")
        if self.kitty_depth:
            left.add("kitty keyboard")
        if self.modify_other:
            left.add("modifyOtherKeys")
        if self.keypad_app:
            left.add("application keypad")
        return sorted(left)
