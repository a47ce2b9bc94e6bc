"""The pages of the details, in the order of their tabs."""

from __future__ import annotations

from app.tui.pages.changes import ChangesPage
from app.tui.pages.charts import ChartsPage
from app.tui.pages.inspect import InspectPage
from app.tui.pages.logs import LogsPage
from app.tui.pages.operations import OperationsPage
from app.tui.pages.overview import OverviewPage
from app.tui.pages.page import Page
from app.tui.pages.processes import ProcessesPage
from app.tui.pages.snapshots import SnapshotsPage
from app.tui.pages.trace import TracePage

PAGES: dict[str, type[Page]] = {
    "overview": OverviewPage,
    "charts": ChartsPage,
    "logs": LogsPage,
    "processes": ProcessesPage,
    "snapshots": SnapshotsPage,
    "trace": TracePage,
    "operations": OperationsPage,
    "inspect": InspectPage,
    "changes": ChangesPage,
}

__all__ = ["PAGES", "Page"]
