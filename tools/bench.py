"""The bench: what mirroring costs, what a message costs, where the time goes; or, with --takeover, how takeovers go."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from tools import bench_tables as tables
from tools import codec_cost, hotspots, takeovers, throughput
from tools.codec_cost import Cost
from tools.hotspots import Hotspots
from tools.kills import Kill
from tools.takeovers import Case
from tools.throughput import Load, Throughput

PARTS = ("a", "b", "c")
say = Console(stderr=True).print


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the bench writes as JSON: the parts that were run."""

    throughput: Throughput | None = None
    codecs: list[Cost] = []
    hotspots: Hotspots | None = None
    takeovers: list[Case] = []


def parts(only: set[str], load: Load, codec_rounds: int) -> Report:
    """The parts of the bench, each shown when it is done."""
    found: dict[str, Any] = {}
    if "a" in only:
        found["throughput"] = throughput.measure(load, say)
        tables.show_throughput(found["throughput"], load)
    if "b" in only:
        say("codecs")
        found["codecs"] = codec_cost.measure(codec_rounds)
        tables.show_codecs(found["codecs"])
    if "c" in only:
        say("py-spy on node a")
        found["hotspots"] = hotspots.measure(load.seconds, load.saturation, load.terminals)
        tables.show_hotspots(found["hotspots"])
    return Report(**found)


def all_takeovers(counts: list[int], rate: float, kills: int, every_s: float, picture: Path | None) -> Report:
    """Idle and busy with each count of sessions."""
    cases = []
    with tables.KillProgress(2 * len(counts) * kills) as progress:
        for sessions in counts:
            for busy in (0.0, rate):
                name = f"{sessions} sessions, " + (f"{busy:g}/s" if busy else "idle")
                file = picture and (
                    picture if len(counts) == 1 else picture.with_stem(f"{picture.stem}-{sessions}")
                )  # fmt: skip

                def show(so_far: list[Kill], name: str = name, before: int = len(cases) * kills) -> None:
                    progress.show(name, before, so_far)

                cases.append(takeovers.measure(sessions, busy, kills, every_s, file, show))
    tables.show_takeovers(cases)
    return Report(takeovers=cases)


def main(
    seconds: Annotated[float, typer.Option(min=3, help="of each run of traffic, and of py-spy")] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="rounds of a: both sides once in each")] = 3,
    codec_rounds: Annotated[int, typer.Option(min=1, help="rounds of b")] = 60,
    only: Annotated[str, typer.Option(help="which parts: a throughput, b codecs, c where the time goes")] = "a,b,c",
    rate: Annotated[float, typer.Option(help="requests a second at which latency is measured")] = 300,
    saturation: Annotated[float, typer.Option(help="requests a second that no pair can answer")] = 6000,
    terminals: Annotated[int, typer.Option(help="card terminals, spread over both nodes")] = 200,
    warm_up: Annotated[float, typer.Option(help="seconds of traffic before anything is measured; 0: none")] = 5,
    takeover: Annotated[bool, typer.Option("--takeover", help="kill nodes instead of a, b and c")] = False,
    sessions: Annotated[str, typer.Option(help="takeover: counts of open terminal sessions")] = "100,1000",
    kills: Annotated[int, typer.Option(min=1, help="takeover: in each case, at least")] = 100,
    kill_every: Annotated[float, typer.Option(help="takeover: seconds between kills of a pair that is whole")] = 2,
    busy_rate: Annotated[float, typer.Option(help="takeover: requests a second of the busy cases")] = 100,
    picture: Annotated[Path | None, typer.Option(help="takeover: draws each busy case into this PNG")] = None,
    json: Annotated[Path | None, typer.Option(help="writes all figures here")] = None,
) -> None:
    """Measure the switch on this machine, everything it needs included. Exit code 1 when the auditor finds anything."""
    chosen = set(only.split(","))
    if not chosen <= set(PARTS):
        raise typer.BadParameter(f"--only takes {', '.join(PARTS)}")
    if takeover:
        report = all_takeovers([int(each) for each in sessions.split(",")], busy_rate, kills, kill_every, picture)
    else:
        load = Load(
            seconds=seconds, rounds=rounds, rate=rate, saturation=saturation, terminals=terminals, warm_up_s=warm_up
        )
        report = parts(chosen, load, codec_rounds)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if not clean(report):
        say("[bold red]not everything went well: see findings and failures")
        raise typer.Exit(1)


def clean(report: Report) -> bool:
    """No findings of the auditor, and no node that did not come back."""
    measured = report.throughput
    rounds = [*measured.mirrored, *measured.unmirrored] if measured else []
    cases = report.takeovers
    return not any(each.findings for each in rounds) and not any(each.findings or each.failures for each in cases)


if __name__ == "__main__":
    typer.run(main)
