"""Ports of tools and tests: two processes never draw the same, and none stays claimed."""

import os
import socket
import subprocess
import sys

import pytest

from tools import ports

# blocks that nobody else draws from, under a name that nobody else claims
DRAW = f"""
from tools import ports
ports.FIRST, ports.CLAIM = 8_000, "switch-test-{os.getpid()}-"
print(*ports.free_ports(40), flush=True)
input()
"""


def drawer() -> subprocess.Popen[str]:
    """A process that draws 40 ports, and lives until it is killed."""
    return subprocess.Popen([sys.executable, "-c", DRAW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def drawn(process: subprocess.Popen[str]) -> set[int]:
    assert process.stdout is not None
    return {int(word) for word in process.stdout.readline().split()}


def block(numbers: set[int]) -> set[int]:
    return {number // ports.BLOCK for number in numbers}


def test_no_two_processes_draw_the_same_and_what_was_killed_leaves_its_block_to_others() -> None:
    with drawer() as first, drawer() as second:
        ours, theirs = drawn(first), drawn(second)
        assert len(ours) == len(theirs) == 40 and not block(ours) & block(theirs)
        first.kill()
        first.wait()
        with drawer() as third:
            assert block(drawn(third)) == block(ours)
            third.kill()
        second.kill()


def test_a_port_comes_again_only_after_the_others_of_its_block() -> None:
    numbers = ports.free_ports(300)
    assert not {*numbers} & {*ports.free_ports(100)}


def test_a_port_that_somebody_listens_on_is_passed_over() -> None:
    taken = ports.free_ports(1)[0]
    with socket.create_server(("127.0.0.1", taken)):
        assert taken not in ports.free_ports(ports.BLOCK - 50) + ports.free_ports(100)


def test_more_ports_than_there_are_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="left over"):
        ports.free_ports(ports.BLOCK + 1)
