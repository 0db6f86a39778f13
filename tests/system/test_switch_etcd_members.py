"""A whole switch over three members of etcd: their leader dies, a member hangs, and nobody at a terminal notices."""

from collections.abc import Iterator

import pytest
from switch_rig import Traffic, clean, hashes_agree, health, until

from tools.pair import Settings, Switch

MEMBERS = 3
PAUSE_MS = 3000
SETTINGS = Settings()


@pytest.fixture(scope="module")
def traffic(switch: Switch) -> Iterator[Traffic]:
    with Traffic(switch) as running:
        yield running


def healthy(switch: Switch) -> None:
    for node in "ab":
        until(lambda node=node: health(switch, node)[0] == 200, f"{node} to be healthy")


def test_the_leader_is_killed_under_load_and_comes_back(switch: Switch, traffic: Traffic) -> None:
    leader = switch.etcd.leader()
    switch.etcd.kill(leader)
    traffic.more(150)
    healthy(switch)
    switch.etcd.start(leader)
    traffic.more(50)
    hashes_agree(switch)


def test_the_member_that_a_node_works_with_hangs_under_load_and_wakes_up(switch: Switch, traffic: Traffic) -> None:
    endpoint = switch.ask("a")["mirror"]["endpoint"]
    hung = switch.etcd.endpoints.index(endpoint)
    clock = switch.ask("b")["clock_ms"]
    switch.etcd.pause(hung)
    try:
        traffic.more(100)
        until(lambda: switch.ask("b")["clock_ms"] - clock > PAUSE_MS, "three seconds in the log")
        # of the others one may be slow, too: then it tries the one after it
        until(lambda: switch.ask("a")["mirror"]["endpoint"] != endpoint, "a to work with another member")
    finally:
        switch.etcd.resume(hung)
    traffic.more(100)
    healthy(switch)
    hashes_agree(switch)


def test_nothing_was_lost_or_doubled_and_every_session_stayed_open(switch: Switch, traffic: Traffic) -> None:
    clean(switch, traffic)
