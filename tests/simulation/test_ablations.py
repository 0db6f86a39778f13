"""Without any one of its safeguards the switch breaks a promise, and the simulation notices, within the stated seeds."""

import pytest
from ablations import ABLATIONS, row
from simulation import simulate

ROWS = []


@pytest.fixture(scope="module", autouse=True)
def table():
    """What was found, with -s."""
    yield
    for each in ROWS:
        print(f"\n{each.safeguard:40} {each.seeds or '-':>3} of {each.stated or '-':>3}  {each.broke[:120]}", end="")
    print()


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_missing_safeguard_is_noticed(name):
    found = row(name)
    ROWS.append(found)
    assert found.good, f"without {name}: {found.broke}, in {found.stated} seeds"


def test_a_patch_leaves_nothing_behind():
    assert not simulate(0).violation
