"""Ports for what tools and tests start: no two processes on this machine are given the same one.

A port that was only looked at is anybody's until its owner listens, seconds later or after a restart. So a process claims a
block of ports by the name of an abstract socket (unix(7)): known in one network namespace as the ports are, and gone with
the process, however that ends.
"""

import contextlib
import functools
import itertools
import socket
from collections.abc import Iterator

CLAIM = "switch-ports-"  # and the number of the first
FIRST = 20_000
BLOCK = 500  # a pair and its etcd take about twenty: a number comes again long after its last user has gone
BLOCKS = 24  # they end below the ports that the kernel gives to outgoing connections (ip_local_port_range)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, for this process alone. Raises RuntimeError when there are none.

    (They are no ports of outgoing connections: a client that tries again and again to reach a stopped member on such a
    port can end up connected to itself.)
    """
    once_round = itertools.islice(_claimed(), BLOCK)
    ports = list(itertools.islice(filter(_is_free, once_round), count))
    if len(ports) < count:
        raise RuntimeError(f"no {count} free ports from {FIRST} on: end processes of earlier runs that are left over")
    return ports


@functools.cache
def _claimed() -> Iterator[int]:
    """The numbers of this process's block, round and round."""
    for start in range(FIRST, FIRST + BLOCKS * BLOCK, BLOCK):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as claim:
            claim.bind(f"\0{CLAIM}{start}")
            while True:
                yield from range(start, start + BLOCK)


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False
