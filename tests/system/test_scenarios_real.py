"""Scenarios on real processes with a node dying in the middle: each actor sees what it sees in virtual time without a death."""

from pathlib import Path

import pytest
from switch_rig import ALL

from tools.scenario import play_engine, play_real
from tools.scenarios.script import load

SCENARIOS = Path(__file__).parents[1] / "scenarios"
# where a node dies: at this point, from the step on in which the first request is answered (or from the one given)
CASES = [
    ("completion-of-an-authorisation", "offer.after", 5),
    ("cutover", "apply.before", 5),
    ("dialect-translation", "write.before", 0),
    ("duplicate-in-flight-other-session", "write.before", 0),
    ("field-rules", "consume.before", 0),
    ("journal-once-and-masked", "journal.before", 5),
    ("late-answer", "append.before", 4),
    ("network-repeat-1993", "consume.after", 1),
    ("no-partial", "write.after", 0),
    ("one-copy-delivered", "append.after", 0),
    ("reconciliation", "apply.after", 0),
    ("operator-while-etcd-is-away", "apply.after", 0),
    ("redelivered-to-another-session", "append.before", 0),
    ("reversal-while-in-flight", "write.before", 0),
    ("script-result", "consume.after", 3),
    ("stand-in", "apply.after", 2),
    ("takeover-within-a-frame", "apply.before", 0),
    ("timeout-reversal", "apply.after", 3),
    ("totals-of-two-business-dates", "write.before", 0),
    ("transfer-accepted", "consume.before", 0),
    ("undeliverable-approval", "write.after", 0),
]
MORE = [  # with ALL
    ("advice-settled", "append.after", 5),
    ("advices-while-etcd-is-away", "write.after", 0),
    ("breaker", "append.before", 8),
    ("duplicate-finished", "append.before", 0),
    ("half-close", "apply.before", 0),
    ("journal-while-the-database-is-away", "journal.after", 18),
    ("presence-rules", "offer.before", 1),
    ("reversal-1993", "apply.after", 5),
    ("untouched-fields", "consume.before", 1),
]
TRIED = CASES + MORE if ALL else CASES


@pytest.mark.parametrize(("name", "point", "step"), TRIED, ids=[f"{name}-{point}" for name, point, _ in TRIED])
def test_a_death_in_the_middle_is_not_noticed(name: str, point: str, step: int, tmp_path: Path) -> None:
    file = SCENARIOS / f"{name}.toml"
    player, world = play_real(load(file), tmp_path, kill=point, at_step=step)
    own = sum(step.action == "kill" for step in load(file).steps)
    assert len(world.deaths) == own + 1, f"at {point} one node dies, and {own} by the file; it was {world.deaths}"
    assert player.conversations == play_engine(load(file)).conversations


def test_so_many_as_the_issue_wants() -> None:
    assert len(CASES) >= 20
