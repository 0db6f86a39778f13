"""The twins of the kernel's sockets do what the kernel does: the same random history on loopback and in a world.

Each history is a list of observations: bytes, errors, counters, states, readiness after every step. Linux is right.
"""

import pytest
from tcp_histories import Crowd, Door, Flood, Tcp
from two_kernels import History, Linux, differ, on_linux, twin
from unix_histories import Messages, Pile

SEEDS = 100


def check(history: type[History], seeds: range) -> None:
    differences = [differ(history, seed, real) for seed, real in zip(seeds, on_linux(history, seeds), strict=True)]
    found = [each for each in differences if each]
    assert not found, f"{len(found)} of {len(seeds)}, the shortest:\n{min(found, key=len)}"


@pytest.mark.parametrize("block", range(4))
def test_connections_agree(block: int) -> None:
    check(Tcp, range(block * SEEDS, (block + 1) * SEEDS))


def test_listening_agrees() -> None:
    check(Door, range(SEEDS))


def test_full_buffers_agree() -> None:
    check(Flood, range(30))


def test_full_backlogs_agree() -> None:
    check(Crowd, range(30))


@pytest.mark.parametrize("block", range(2))
def test_messages_agree(block: int) -> None:
    check(Messages, range(block * SEEDS, (block + 1) * SEEDS))


@pytest.mark.parametrize("seed", range(20))
def test_as_many_messages_fit(seed: int) -> None:
    real = Pile(Linux(seed), seed)
    list(real.run())
    with twin(seed) as side:
        model = Pile(side, seed)
        list(model.run())
    assert model.seen == real.seen
    assert real.count / 2 <= model.count <= real.count * 2
    assert abs(real.drained - model.drained) <= max(real.count / 5, 1)
