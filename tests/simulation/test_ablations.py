"""Without a safeguard something breaks, and the simulation notices, within the stated number of seeds."""

import pytest
from ablations import ABLATIONS, Ablation, catch


@pytest.mark.parametrize("ablation", [each for each in ABLATIONS if each.seeds], ids=lambda each: each.name)
def test_a_missing_safeguard_is_noticed(ablation: Ablation) -> None:
    found = catch(ablation, ablation.seeds)
    assert found is not None, f"without {ablation.name} nothing breaks in {ablation.seeds} seeds"
    print(f"{ablation.name}: seed {found.seed}: {found.broke}")
