"""What a node was at when it died is found by whoever comes after it."""

import pytest

from switch.poison import Poison, PoisonEntry


def test_a_frame_at_which_a_node_died_is_read_by_the_other(tmp_path):
    path = tmp_path / "pair.poison"
    mark = Poison(path, "a").frame("a1.7", 4096, b"payload")
    assert Poison(path, "b").frame_of("a") == mark


def test_the_same_frame_has_the_same_mark_on_both_nodes_and_another_has_another(tmp_path):
    a, b = Poison(tmp_path / "p", "a"), Poison(tmp_path / "p", "b")
    assert a.frame("a1.7", 0, b"x") == b.frame("a1.7", 0, b"x")
    assert a.frame("a1.7", 0, b"x") != a.frame("a1.7", 0, b"y")
    assert a.frame("a1.7", 0, b"x") != a.frame("a1.7", 1, b"x")


def test_what_went_well_leaves_no_mark(tmp_path):
    a = Poison(tmp_path / "p", "a")
    a.frame("a1.7", 0, b"x")
    a.clear()
    assert Poison(tmp_path / "p", "b").frame_of("a") == ""


def test_a_mark_holds_nothing_of_the_frame(tmp_path):
    Poison(tmp_path / "p", "a").frame("a1.7", 0, b"4761739001010010=2512")
    assert b"4761739001010010" not in (tmp_path / "p").read_bytes()


def test_an_entry_is_not_taken_for_a_frame(tmp_path):
    Poison(tmp_path / "p", "a").entry(12)
    assert Poison(tmp_path / "p", "b").frame_of("a") == ""


def test_an_entry_that_ended_one_node_once_does_not_stop_it(tmp_path):
    Poison(tmp_path / "p", "a").entry(12)
    again = Poison(tmp_path / "p", "a")
    again.begin("a")
    assert again.of("a") == ""


def test_an_entry_that_ended_both_nodes_stops_the_pair(tmp_path):
    for node in "ab":
        Poison(tmp_path / "p", node).entry(12)
    Poison(tmp_path / "p", "a").begin("a")
    with pytest.raises(PoisonEntry, match="entry 12 ended a node 2 times"):
        Poison(tmp_path / "p", "b").begin("b")


def test_deaths_at_different_entries_do_not_add_up(tmp_path):
    for node, index in (("a", 12), ("b", 13)):
        Poison(tmp_path / "p", node).entry(index)
        Poison(tmp_path / "p", node).begin(node)
