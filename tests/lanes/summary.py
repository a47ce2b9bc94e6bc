"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

from tests.lanes.lane import Lane, Outcome


def table(results: Sequence[tuple[Lane, Outcome]], leftovers: Sequence[str]) -> str:
    """Return lanes with their counts, then why tests were skipped, what failed, and the closing line."""
    lines = ["", f"{'lane':<12}{'passed':>8}{'failed':>8}{'skipped':>8}{'seconds':>9}"]
    for lane, outcome in results:
        counts = f"{outcome.passed:>8}{outcome.failed:>8}{outcome.skipped:>8}{outcome.seconds:>9.1f}"
        lines.append(f"{lane.name:<12}{counts}")
    lines += _section(
        "skipped",
        [f"{lane.name}: {count} × {reason}" for lane, outcome in results for reason, count in outcome.skips.items()],
    )
    lines += _section("failed", [f"{lane.name}: {what}" for lane, outcome in results for what in outcome.failures])
    lines += _section("left behind on the host", leftovers)
    return "\n".join([*lines, "", closing_line(results, leftovers)])


def closing_line(results: Sequence[tuple[Lane, Outcome]], leftovers: Sequence[str]) -> str:
    """Return 'N passed, N failed, N skipped'; something left behind is one failure more, a clean host a pass."""
    passed = sum(outcome.passed for _, outcome in results) + (not leftovers)
    failed = sum(outcome.failed for _, outcome in results) + bool(leftovers)
    skipped = sum(outcome.skipped for _, outcome in results)
    return f"{passed} passed, {failed} failed, {skipped} skipped"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in lines)] if lines else []
