"""Plays scenario files (tests/scenarios) on real processes, or in virtual time, and draws what was said.

A node dies in the middle with --kill: at a named point of what it does, or between two steps.
"""

import json
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from switch.points import POINTS
from tools.scenarios.play import Player, StepFailed
from tools.scenarios.real import RealWorld
from tools.scenarios.script import Scenario, ScriptError, Step, load

SPEED = 5.0  # of timers, in a scenario in which time passes
TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / "unit"), str(TESTS / "scenarios")]  # virtual time is theirs


class Result(msgspec.Struct):
    """What became of one run."""

    file: str
    title: str
    covers: list[str]
    mode: str  # "real" or "engine"
    ok: bool
    steps: int  # done
    seconds: float
    kill: str = ""
    died: str = ""  # the node that did
    failure: str = ""
    exchanged: list[Any] = []
    drawing: str = ""


def middle(scenario: Scenario) -> int:
    """The step before which a node is made to die: where the first request is answered, else half way."""
    answers = [step.number for step in scenario.steps if step.action == "answers"]
    return answers[0] if answers else len(scenario.steps) // 2 + 1


def play_real(
    scenario: Scenario, directory: Path, *, kill: str = "", at_step: int = 0, speed: float = 0
) -> tuple[Player, RealWorld]:
    """The scenario on real processes; `kill`: a point, or "a" or "b". Raises StepFailed.

    Raises RuntimeError when the point was not reached, or a log tells of a defect. `speed` 0: as written, unless time passes.
    """
    passes = any(step.action == "pass_ms" for step in scenario.steps)
    speed = speed or (SPEED if passes else 1.0)
    at_step = at_step or middle(scenario)
    with RealWorld(scenario, directory, speed) as world:

        def before(step: Step) -> None:
            if kill and step.number == at_step:
                if kill in POINTS:
                    world.arm(kill)
                    player.drawing.remark(f"the node that comes to {kill} next dies")
                else:
                    world.kill(kill, stays_down=False)
                    player.drawing.remark(f"node {kill} dies")

        player = Player(scenario, world, before)
        player.play()
        if kill in POINTS and world.switch.arm.exists():
            raise RuntimeError(f"{scenario.name}: no node came to {kill} from step {at_step} on")
        if defects := world.switch.defects():
            raise RuntimeError(f"{scenario.name}: {defects[0]}")
    return player, world


def play_engine(scenario: Scenario) -> Player:
    """The scenario in virtual time. Raises StepFailed."""
    player: Player = import_module("engine_runner").play(scenario)  # beside the scenarios
    return player


def _play(path: Path, kill: str, at_step: int, speed: float, engine: bool, keep: Path | None) -> Result:
    scenario = load(path)
    result = Result(str(path), scenario.title, scenario.covers, "engine" if engine else "real", False, 0, 0.0, kill)
    began = time.monotonic()
    try:
        if engine:
            player = play_engine(scenario)
        elif scenario.real:
            result.ok, result.drawing = True, f"not for real processes: {scenario.real}"
            return result
        else:
            with tempfile.TemporaryDirectory(prefix="scenario-") as folder:
                place = keep / scenario.name if keep else Path(folder)
                player, world = play_real(scenario, place, kill=kill, at_step=at_step, speed=speed)
                result.died = ", ".join(world.deaths)
        result.ok, result.steps = True, player.done
        result.exchanged = [each.told() for each in player.exchanged]
        result.drawing = player.drawing.text()
    except (StepFailed, RuntimeError, TimeoutError, OSError) as error:
        result.failure = str(error)
    result.seconds = round(time.monotonic() - began, 2)
    return result


def main(
    files: Annotated[list[Path] | None, typer.Argument(help="scenario files")] = None,
    kill: Annotated[str, typer.Option(help="a point of --points, or a or b: a node dies in the middle")] = "",
    step: Annotated[int, typer.Option(help="from this step on; else where the first request is answered")] = 0,
    points: Annotated[bool, typer.Option("--points", help="list the points")] = False,
    speed: Annotated[float, typer.Option(help="of timers; else as written, and 5 where time passes")] = 0,
    engine: Annotated[bool, typer.Option("--engine", help="in virtual time instead of on real processes")] = False,
    keep: Annotated[Path | None, typer.Option(help="keep logs and configuration below this folder")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the results here")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no drawings of what went well")] = False,
) -> None:
    """Exit code 0 when every step of every file went as it says."""
    if points:
        print("\n".join(POINTS))
        return
    if kill and kill not in (*POINTS, "a", "b"):
        raise typer.BadParameter(f"--kill {kill}: neither a node nor one of --points")
    results = []
    for path in files or []:
        try:
            result = _play(path, kill, step, speed, engine, keep)
        except ScriptError as error:
            raise typer.BadParameter(str(error)) from None
        results.append(result)
        died = f", node {result.died} died" if result.died else ""
        verdict = ("ok" if result.steps else "skip") if result.ok else "FAIL"
        print(f"{verdict:4} {path.stem}: {result.title} ({result.seconds:g} s{died})")
        text = result.failure or ("" if quiet else result.drawing)
        print(f"\n{text}\n" if text else "", end="", flush=True)
    if json_file is not None:
        json_file.write_text(json.dumps([msgspec.to_builtins(each) for each in results], indent=2))
    raise typer.Exit(int(not all(result.ok for result in results)))


if __name__ == "__main__":
    typer.run(main)
