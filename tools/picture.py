"""A picture of a run: every answer's latency over time, the kills, and how long each takeover took."""

import math
import statistics
from pathlib import Path
from typing import Any

import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from tools.kills import Kill

STEP_S = 0.1
NAMED_MAX = 25  # takeovers whose duration is written beside them
ANSWER, MEDIAN, P99 = "#7aa6d6", "#12395f", "#d9822b"
NODE = {"a": "#c22f3d", "b": "#7b3fa0"}


class Picture(msgspec.Struct, frozen=True):
    """What is drawn. answers: (second, latency in milliseconds) in order. kills: (second, kill)."""

    title: str
    answers: list[tuple[float, float]]
    kills: list[tuple[float, Kill]]

    @staticmethod
    def of(result: dict[str, Any], kills: list[Kill], title: str) -> "Picture":
        """Of an injector's result as it stands in its JSON file."""
        begun = result["begun_epoch"]
        answers = [(at_s, latency_ms) for at_s, latency_ms in result["answers"]]
        return Picture(title, answers, [(kill.epoch_ms / 1000 - begun, kill) for kill in kills])


def draw(file: Path, picture: Picture) -> None:
    """Write the picture as PNG."""
    rows = 3 if picture.kills else 2
    figure = Figure((13, 8.5 if picture.kills else 6.5), layout="constrained")
    panels: list[Axes] = list(figure.subplots(rows, sharex=True, height_ratios=[4, 1, 1.3][:rows]))
    figure.suptitle(picture.title, fontsize=13)
    _latency(panels[0], picture)
    _rate(panels[1], picture)
    if picture.kills:
        _takeovers(panels[2], picture)
    for panel in panels:
        panel.grid(True, which="major", color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0.01)
    panels[-1].set_xlabel("seconds since traffic began")
    figure.savefig(file, dpi=120, format="png")


def _latency(panel: Axes, picture: Picture) -> None:
    seconds = [at_s for at_s, _ in picture.answers]
    panel.scatter(
        seconds, [max(latency, 0.1) for _, latency in picture.answers], s=5, color=ANSWER, linewidths=0,
        alpha=0.55, rasterized=True,
    )  # fmt: skip
    steps = _by_step(picture.answers)
    every = range(max(steps, default=-1) + 1)
    middle = [(number + 0.5) * STEP_S for number in every]
    for summary, color in ((statistics.median, MEDIAN), (_p99, P99)):
        # a line ends where nothing was answered
        values = [summary(steps[number]) if number in steps else math.nan for number in every]
        panel.plot(middle, values, color=color, linewidth=1.1, alpha=0.9)
    named = [
        Line2D([], [], color=ANSWER, marker="o", markersize=4, linestyle="", label="an answer"),
        Line2D([], [], color=MEDIAN, label="median of 100 ms"),
        Line2D([], [], color=P99, label="p99 of 100 ms"),
    ]
    for node in sorted({kill.node for _, kill in picture.kills}):
        named.append(Line2D([], [], color=NODE[node], linestyle="--", label=f"SIGKILL of node {node}"))
    _mark_kills(panel, picture)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.set_ylabel("latency, ms")
    panel.legend(handles=named, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(named), frameon=False)


def _mark_kills(panel: Axes, picture: Picture) -> None:
    """A line at each kill, and a shade until the survivor served."""
    for at_s, kill in picture.kills:
        panel.axvline(at_s, color=NODE[kill.node], linestyle="--", linewidth=0.8, alpha=0.7)
        panel.axvspan(at_s, at_s + kill.takeover_ms / 1000, color=NODE[kill.node], alpha=0.15, linewidth=0)


def _rate(panel: Axes, picture: Picture) -> None:
    """Answers per second, by steps of 100 ms; silence is zero."""
    steps = _by_step(picture.answers)
    every = range(max(steps, default=-1) + 1)
    edges = [number * STEP_S for number in range(len(every) + 1)]
    panel.stairs([len(steps.get(number, ())) / STEP_S for number in every], edges, fill=True, color=ANSWER, alpha=0.6)
    _mark_kills(panel, picture)
    panel.set_ylim(bottom=0)
    panel.set_ylabel("answers\nper second")


def _takeovers(panel: Axes, picture: Picture) -> None:
    """One bar for each kill: how long until it was noticed, and from there until the survivor served."""
    seconds = [at_s for at_s, _ in picture.kills]
    span = max([at_s for at_s, _ in picture.answers] + seconds, default=1.0)
    width = min(span / 80, 0.6 * span / max(len(seconds), 1))
    noticed = [kill.noticed_ms for _, kill in picture.kills]
    served = [kill.takeover_ms - kill.noticed_ms for _, kill in picture.kills]
    panel.bar(seconds, noticed, width, color="#9a9a9a", label="until noticed")
    panel.bar(
        seconds, served, width, bottom=noticed, color=[NODE[kill.node] for _, kill in picture.kills],
        label="until the survivor served",
    )  # fmt: skip
    if len(picture.kills) <= NAMED_MAX:
        for at_s, kill in picture.kills:
            panel.annotate(
                f"{kill.takeover_ms:.0f} ms", (at_s, kill.takeover_ms), (0, 2), textcoords="offset points",
                ha="center", fontsize=8,
            )  # fmt: skip
    panel.margins(y=0.2)
    median = statistics.median(kill.takeover_ms for _, kill in picture.kills)
    worst = max(kill.takeover_ms for _, kill in picture.kills)
    panel.set_title(
        f"{len(picture.kills)} kills: takeover median {median:.0f} ms, longest {worst:.0f} ms (grey: until noticed)",
        fontsize=9, loc="left",
    )  # fmt: skip
    panel.set_ylabel("takeover, ms")


def _by_step(answers: list[tuple[float, float]]) -> dict[int, list[float]]:
    """Latencies by the step in which the answer came, ascending; a step without answers is not there."""
    steps: dict[int, list[float]] = {}
    for at_s, latency in answers:
        steps.setdefault(int(at_s / STEP_S), []).append(latency)
    return dict(sorted(steps.items()))


def _p99(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]
