"""The named points at which tests end a node: all are somewhere in the code, and the code names no others."""

import ast
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import switch
from switch.points import POINTS, arm

SOURCES = sorted(Path(switch.__file__).parent.rglob("*.py"))
# what the product promises to survive, before and after each
STEPS = ("append", "apply", "consume", "write", "share", "accept", "connect", "snapshot", "heir", "adopt", "move")
ARMED = """
import sys
from switch.points import reach
for name in sys.argv[1:]:
    reach(name)
print("survived")
"""


def reached() -> Counter[str]:
    """How often each point stands in the source."""
    found: Counter[str] = Counter()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach":
                (name,) = node.args
                assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: a point is named by a literal"
                found[str(name.value)] += 1
    return found


def test_every_listed_point_stands_in_the_code_and_no_other() -> None:
    assert sorted(reached()) == sorted(POINTS)
    assert len(set(POINTS)) == len(POINTS)


def test_every_step_can_be_cut_before_and_after_it() -> None:
    assert {f"{step}.{side}" for step in STEPS for side in ("before", "after")} <= set(POINTS)


def run(setting: str, *names: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SWITCH_POINT": setting}
    return subprocess.run(
        [sys.executable, "-c", ARMED, *names], env=environment, capture_output=True, text=True, timeout=60
    )


def test_an_armed_point_kills_the_process_at_the_count_and_not_before() -> None:
    assert run("apply.before:3", *["apply.before"] * 3).returncode == -signal.SIGKILL
    assert run("apply.before:3", *["apply.before"] * 2).stdout == "survived\n"
    assert run("apply.before", "apply.before").returncode == -signal.SIGKILL


def test_other_points_are_not_armed() -> None:
    assert run("apply.before:1", *(name for name in POINTS if name != "apply.before")).stdout == "survived\n"
    assert run("", *POINTS).stdout == "survived\n"


def test_another_signal_may_be_named() -> None:
    assert run("write.after:1:TERM", "write.after").returncode == -signal.SIGTERM


@pytest.mark.parametrize("setting", ["nowhere:1", "apply:1", ":1"])
def test_a_point_that_does_not_exist_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="there is no point"):
        arm(setting)
