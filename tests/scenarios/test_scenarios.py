"""Every scenario in virtual time: as it is written, and again with a node dying between any two of its steps."""

import os
from collections import Counter
from pathlib import Path

import pytest
from engine_runner import EngineWorld, play

from tools.scenarios.script import Step, load

FILES = sorted(Path(__file__).parent.glob("*.toml"))
ALL = os.environ.get("SWITCH_TEST_ALL") == "1"  # else one node of each file, and every twelfth place, another for each file
EVERY = 12


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_goes_as_it_says(file: Path) -> None:
    play(load(file))


DEATHS = [(file, node) for at, file in enumerate(FILES) for node in ("ab" if ALL else "ab"[at % 2])]


@pytest.mark.parametrize(("file", "node"), DEATHS, ids=lambda value: getattr(value, "stem", value))
def test_a_node_that_dies_between_two_steps_is_not_noticed(file: Path, node: str) -> None:
    expected = play(load(file)).conversations
    steps = len(load(file).steps)
    first = FILES.index(file) // 2 % EVERY
    for number in range(1, steps + 1) if ALL else range(1 + first, steps + 1, EVERY):

        def dies(world: EngineWorld, step: Step, number: int = number) -> None:
            if step.number == number and not world.down:
                world.kill(node, stays_down=False)

        scenario = load(file)
        assert play(scenario, dies).conversations == expected, f"{node} died before step {number}"


def test_there_are_as_many_as_the_issue_wants_and_for_every_line() -> None:
    """`covers` begins with the number of a line of the issue ("8 duplicates"), or is "takeover"."""
    covered = Counter(line for file in FILES for line in {entry.partition(" ")[0] for entry in load(file).covers})
    assert len(FILES) >= 60
    assert covered.keys() == {"takeover", *map(str, range(1, 18))}
    assert min(covered.values()) >= 3, covered
