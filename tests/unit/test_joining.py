"""A node that joins knows that its entry is in the log, also when a snapshot was loaded over it."""

import asyncio

import pytest

from switch.mirror.joining import Joining
from switch.mirror.keys import Fence, Keys, Position

OURS = Fence(4, 1, "ours")


@pytest.mark.parametrize(
    ("fence", "later", "joined"),
    [
        (OURS, [], True),
        (OURS, [Position("b", 4, 1), Position("a", 3, 1)], True),
        (OURS, [Position("a", 4, 1)], False),  # it is still to be seen
        (Fence(3, 9, "former"), [], False),  # not in the log yet
    ],
)
def test_a_loaded_snapshot_holds_the_join_entry_if_nothing_after_it_does(fence, later, joined):
    async def load() -> bool:
        joining = Joining(None, Keys("pair"), None, "a", "ours")
        joining.skipped(fence, later)
        return joining.applied.done()

    assert asyncio.run(load()) is joined
