"""A log that ends before what was applied of it on this host is found out, also when both nodes had ended."""

import pytest

from switch.witness import WentBack, Witness


def both(tmp_path):
    return [Witness(tmp_path / "pair.witness", node) for node in "ab"]


def test_the_later_of_what_both_nodes_have_applied_counts(tmp_path):
    a, b = both(tmp_path)
    a.saw("log", 70_000)
    b.saw("log", 70_002)
    for again in both(tmp_path):
        again.check(again.last(), "log", 70_002)
        with pytest.raises(WentBack, match=r"ends at entry 70001, and 70002 was applied.*pair\.witness"):
            again.check(again.last(), "log", 70_001)


def test_what_the_peer_applies_while_a_node_reads_the_log_is_not_counted(tmp_path):
    a, b = both(tmp_path)
    b.saw("log", 10)
    last = a.last()
    b.saw("log", 12)
    a.check(last, "log", 11)


def test_a_log_that_began_anew_is_another_one(tmp_path):
    a, b = both(tmp_path)
    a.saw("log", 1_000)
    b.saw("log", 1_000)
    a.check(a.last(), "", 0)
    b.saw("new", 1)
    b.check(b.last(), "new", 1)
    a.saw("new", 5)
    with pytest.raises(WentBack):
        b.check(b.last(), "new", 4)


def test_a_first_start_knows_of_nothing(tmp_path):
    a, _ = both(tmp_path)
    a.check(a.last(), "log", 3)
    a.check(a.last(), "", 0)
