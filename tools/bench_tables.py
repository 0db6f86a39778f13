"""The bench's figures as tables, and its progress, for people."""

import statistics
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tools.codec_cost import Cost
from tools.hotspots import Hotspots
from tools.kills import Kill, Spread
from tools.takeovers import Case
from tools.throughput import Load, Round, Throughput, figures, ratio

FUNCTIONS_SHOWN = 12
WIDTH = 160  # of output that no terminal reads
_screen = Console()
_console = _screen if _screen.is_terminal else Console(width=WIDTH)


def _table(title: str, *columns: str) -> Table:
    _console.print(f"\n[bold]{title}")
    table = Table()
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    return table


def show_throughput(found: Throughput, load: Load) -> None:
    """Medians over rounds, side by side."""
    table = _table(f"Mirroring: medians of {load.rounds} rounds", "", "mirrored", "unmirrored", "mirrored / unmirrored")

    def row(name: str, path: str, form: str = ".1f") -> None:
        medians = (statistics.median(figures(side, path)) for side in (found.mirrored, found.unmirrored))
        over = ratio(found.mirrored, found.unmirrored, path)
        table.add_row(name, *(f"{each:{form}}" for each in medians), f"{over:.2f}" if over else "")

    for traffic in ("cards", "mixed"):
        row(f"transactions/s, {traffic}, saturated by {load.terminals} terminals", f"{traffic}.tps")
    table.add_section()
    for name, text in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"), ("max", "max")):
        row(f"latency {text}, ms, cards at {load.rate:g}/s", f"latency.latency_ms.{name}", ".2f")
    for traffic in ("latency", "cards", "mixed"):
        table.add_section()
        text = f"cards at {load.rate:g}/s" if traffic == "latency" else f"{traffic}, saturated"
        for process in found.mirrored[0].cards.cpu_us:
            row(f"CPU of {process}, µs per answer, {text}", f"{traffic}.cpu_us.{process}", ".0f")
    table.add_section()
    table.add_row("audit findings", *(str(_findings(side)) for side in (found.mirrored, found.unmirrored)), "")
    _console.print(table)
    against = _table("Added median latency against three appends to etcd", "", "ms", "added / this")
    for name, value in (
        ("added by mirroring", found.added_p50_ms),
        ("three appends, by the nodes' own append p50 under load", found.three_appends_ms),
        ("three appends in a plain loop on an idle etcd", found.three_appends_alone_ms),
    ):
        against.add_row(name, f"{value:.2f}", f"{found.added_p50_ms / value:.2f}" if value else "")
    _console.print(against)


def _findings(side: list[Round]) -> int:
    return sum(each.findings for each in side)


def show_codecs(costs: list[Cost]) -> None:
    """Each case, and by how much it is dearer than what it stands beside."""
    best = {cost.name: cost.best_us for cost in costs}
    table = _table("A message, µs", "", "bytes", "best", "median", "best / library's best")
    for cost in costs:
        beside = f"{cost.best_us / best[cost.beside]:.2f}" if cost.beside else ""
        table.add_row(cost.name, str(cost.bytes), f"{cost.best_us:.1f}", f"{cost.median_us:.1f}", beside)
    _console.print(table)


def show_hotspots(found: Hotspots) -> None:
    """Groups and functions of node a's main thread."""
    if found.skipped:
        _console.print(f"where the time goes: skipped, {found.skipped}")
        return
    title = f"Node a's main thread under mixed load: {found.samples} samples, the process used {found.cores:.2f} cores"
    table = _table(title, "group", "own", "inclusive")
    for group in found.groups:
        table.add_row(group.name, f"{group.own:.1%}", f"{group.inclusive:.1%}")
    _console.print(table)
    table = _table("Innermost functions", "function", "part")
    for part, name in found.functions[:FUNCTIONS_SHOWN]:
        table.add_row(name, f"{part:.1%}")
    _console.print(table)


def show_takeovers(cases: list[Case]) -> None:
    """One row for each case; spreads as p50 / p99 / max."""
    table = _table(
        "Takeovers, ms: p50 / p99 / max", "sessions", "requests/s", "kills", "noticed", "takeover", "longest wait",
        "longest gap", "taken", "node RSS, MB", "resets", "findings",
    )  # fmt: skip
    for case in cases:
        table.add_row(
            str(case.sessions), f"{case.rate:g}" if case.rate else "idle", str(case.kills), _spread(case.noticed_ms),
            _spread(case.takeover_ms), _spread(case.wait_ms), "" if case.gap_ms is None else f"{case.gap_ms:.0f}",
            f"{case.sessions_taken:g}", f"{case.rss_mb['median']:.0f} / {case.rss_mb['max']:.0f}", str(case.resets),
            str(case.findings),
        )  # fmt: skip
    _console.print(table)
    for case in cases:
        for failure in case.failures:
            _console.print(f"{case.sessions} sessions, {case.rate:g}/s: {failure}", style="red")


def _spread(spread: Spread | None) -> str:
    return "" if spread is None else f"{spread.p50:.0f} / {spread.p99:.0f} / {spread.max:.0f}"


class KillProgress:
    """A bar on a terminal; elsewhere a line on stderr at every tenth kill."""

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        self._lines = None if console.is_terminal else console
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, disable=self._lines is not None,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total)
        self._told = ("", 0)

    def show(self, case: str, before: int, kills: list[Kill]) -> None:
        """What a case has so far, of which `before` kills went before it."""
        takeover = statistics.median([each.takeover_ms for each in kills] or [0.0])
        text = f"{case}: {len(kills)} kills, takeover p50 {takeover:.0f} ms"
        self._bar.update(self._task, completed=before + len(kills), description=text)
        if self._lines is not None and self._told != (case, len(kills)) and len(kills) % 10 == 0:
            self._lines.print(text)
            self._told = (case, len(kills))

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
