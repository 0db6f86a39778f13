"""Runs seeds of the deterministic simulation (tests/simulation): thousands of histories, each decided by one number."""

import gc
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "simulation"))  # the simulator is part of the tests
CHUNK = 20  # seeds a worker takes at once
TRACE_LINES = 60  # of a failure, unless all are asked for


def run(seed: int, *, tracing: bool = False) -> Any:
    """One seed, in this process; a simulation.Result."""
    from simulation import simulate  # it is costly to import, and --help wants none of it

    return simulate(seed, tracing=tracing)


def _end_with_parent() -> None:
    """Of a worker: else it waits for more work for ever when its parent is killed, since it holds both ends of their queue."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def _chunk(seeds: range) -> list[Any]:
    if not gc.get_freeze_count():
        run(0)  # all that there is from now on is of seeds
        gc.freeze()
    results = [run(seed) for seed in seeds]
    gc.collect()  # between seeds only
    return results


def _seeds(first: int, last: int | None, until: float | None) -> Iterator[range]:
    """Pieces of [first, last], or without end until that (monotonic) time."""
    while (last is None or first <= last) and (until is None or time.monotonic() < until):
        piece = range(first, first + CHUNK if last is None else min(first + CHUNK, last + 1))
        first += CHUNK
        yield piece


def _explain(seed: int, whole: bool) -> None:
    """Run it again with a trace: what happened before the violation."""
    again = run(seed, tracing=True)
    print(f"seed {seed}: {again.violation or 'everything held'}")
    for each in again.plan:
        print(f"  planned: {each}")
    lines = again.lines if whole else again.lines[-TRACE_LINES:]
    print("\n".join(lines))
    print(f"replay: tools/simulate --seed {seed} --trace")


def _golden(name: str, accept: bool) -> None:
    """Draw, or accept, the interactions of tests/simulation/golden whose names begin so."""
    import golden  # as above

    chosen = [each for each in golden.names() if each.startswith(name)]
    if not chosen:
        raise typer.BadParameter(f"there is no golden interaction {name!r}")
    for each in chosen:
        if accept:
            golden.accept(each)
        else:
            print(f"{golden.read(each)[0]}\n{golden.play(each)}")


def _ablations(json_file: Path | None) -> int:
    """The table: safeguard, seeds needed, what broke."""
    from ablations import ABLATIONS, row

    rows = []
    for name in ABLATIONS:
        found = row(name)
        rows.append(found)
        print(f"{name:40} {found.seeds or '-':>3} of {found.stated or '-':>3}  {found.broke[:120]}", flush=True)
    bad = [each.safeguard for each in rows if not each.good]
    print(f"{len(rows)} entries, not caught: {', '.join(bad) or 'none'}")
    if json_file is not None:
        json_file.write_text(json.dumps([msgspec.structs.asdict(each) for each in rows], indent=2))
    return int(bool(bad))


def main(
    name: Annotated[str, typer.Argument(help="of a golden interaction, or how it begins")] = "",
    seed: Annotated[int | None, typer.Option(help="one seed")] = None,
    seeds: Annotated[str, typer.Option(help="A..B: all of these")] = "",
    minutes: Annotated[float | None, typer.Option(help="as many as there is time for")] = None,
    first: Annotated[int | None, typer.Option(help="where --minutes begins; else by the clock")] = None,
    jobs: Annotated[int, typer.Option(help="processes")] = os.cpu_count() or 1,
    trace: Annotated[bool, typer.Option(help="print the whole history of --seed")] = False,
    failures: Annotated[int, typer.Option(help="stop after so many failing seeds")] = 5,
    golden: Annotated[bool, typer.Option("--golden", help="draw the golden interactions, or the one that is named")] = False,
    accept: Annotated[bool, typer.Option("--accept", help="and write the drawings into their files")] = False,
    ablations: Annotated[bool, typer.Option(help="remove one safeguard after the other, and tell what breaks")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
) -> None:
    """Exit code 0 when every invariant held in every seed."""
    if ablations:
        raise typer.Exit(_ablations(json_file))
    if golden:
        _golden(name, accept)
        return
    if seed is not None:
        result = run(seed, tracing=trace)
        if trace or result.violation:
            _explain(seed, trace)
        else:
            told = f"{result.requests} requests, {result.kills} kills, {result.virtual_s} s in {result.cpu_s:.3f} s"
            print(f"seed {seed}: everything held; {told}")
        raise typer.Exit(bool(result.violation))
    if seeds:
        begin, _, end = seeds.partition("..")
        pieces = _seeds(int(begin), int(end or begin), None)
    elif minutes is not None:
        begins = first if first is not None else int(time.time()) * 1000
        pieces = _seeds(begins, None, time.monotonic() + minutes * 60)
    else:
        raise typer.BadParameter("give --seed N, --seeds A..B or --minutes M")
    raise typer.Exit(_many(pieces, jobs, failures, json_file))


class Figures:
    """What all seeds so far have shown."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.seeds = self.requests = self.kills = self.entries = 0
        self.virtual_s = self.cpu_s = self.longest_rest_s = 0.0
        self.failed: dict[int, str] = {}

    def add(self, result: Any) -> None:
        self.seeds += 1
        self.requests += result.requests
        self.kills += result.kills
        self.entries += result.entries
        self.virtual_s += result.virtual_s
        self.cpu_s += result.cpu_s
        self.longest_rest_s = max(self.longest_rest_s, result.rest_s)
        if result.violation:
            self.failed[result.seed] = result.violation
            print(f"\nseed {result.seed}: {result.violation}", file=sys.stderr)

    def table(self) -> dict[str, Any]:
        wall_s = time.monotonic() - self.began
        return {
            "seeds": self.seeds, "failed": len(self.failed), "wall_s": round(wall_s, 1),
            "seeds_per_s": round(self.seeds / wall_s, 1), "seeds_per_core_s": round(self.seeds / max(self.cpu_s, 1e-9), 1),
            "longest_rest_s": self.longest_rest_s, "virtual_s": round(self.virtual_s),
            "requests": self.requests, "kills": self.kills, "entries": self.entries,
        }  # fmt: skip


def _many(pieces: Iterator[range], jobs: int, failures: int, json_file: Path | None) -> int:
    figures, told = Figures(), 0.0
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, _end_with_parent, max_tasks_per_child=100) as pool:
        running = {pool.submit(_chunk, piece) for piece in islice(pieces, 2 * jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                for result in each.result():
                    figures.add(result)
            if len(figures.failed) < failures:
                running |= {pool.submit(_chunk, piece) for piece in islice(pieces, len(done))}
            if time.monotonic() - told > 1:
                told = time.monotonic()
                table = figures.table()
                text = f"{table['seeds']} seeds, {table['failed']} failed, {table['seeds_per_s']}/s"
                print(f"\r{text}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(json.dumps(figures.table()))
    if json_file is not None:
        violations = {str(seed): text for seed, text in sorted(figures.failed.items())}
        json_file.write_text(json.dumps({**figures.table(), "jobs": jobs, "violations": violations}, indent=2))
    if figures.failed:
        _explain(min(figures.failed), False)
    return int(bool(figures.failed))


if __name__ == "__main__":
    typer.run(main)
