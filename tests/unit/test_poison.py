"""What a node was at when it died is found by whoever comes after it."""

import pytest

from switch.poison import DEATHS_MAX, Poison, PoisonEntry

PID = 4711


def test_a_frame_at_which_a_node_died_is_read_by_the_other(tmp_path):
    path = tmp_path / "pair.poison"
    mark = Poison(path, "a", PID).frame("a1.7", 4096, b"payload")
    assert Poison(path, "b", PID).frame_of("a", PID) == mark


def test_the_same_frame_has_the_same_mark_on_both_nodes_and_another_has_another(tmp_path):
    a, b = Poison(tmp_path / "p", "a", PID), Poison(tmp_path / "p", "b", PID)
    assert a.frame("a1.7", 0, b"x") == b.frame("a1.7", 0, b"x")
    assert a.frame("a1.7", 0, b"x") != a.frame("a1.7", 0, b"y")
    assert a.frame("a1.7", 0, b"x") != a.frame("a1.7", 1, b"x")


def test_what_went_well_leaves_no_mark(tmp_path):
    a = Poison(tmp_path / "p", "a", PID)
    a.frame("a1.7", 0, b"x")
    a.clear()
    assert Poison(tmp_path / "p", "b", PID).frame_of("a", PID) == ""


def test_a_mark_holds_nothing_of_the_frame(tmp_path):
    Poison(tmp_path / "p", "a", PID).frame("a1.7", 0, b"4761739001010010=2512")
    assert b"4761739001010010" not in (tmp_path / "p").read_bytes()


def test_an_entry_is_not_taken_for_a_frame(tmp_path):
    Poison(tmp_path / "p", "a", PID).entry(12)
    assert Poison(tmp_path / "p", "b", PID).frame_of("a", PID) == ""


def test_an_entry_that_ended_a_node_once_does_not_stop_it(tmp_path):
    Poison(tmp_path / "p", "a", PID).entry(12)
    again = Poison(tmp_path / "p", "a", PID)
    again.begin("a")
    assert again.frame_of("a", PID) == ""


def test_what_kills_both_nodes_at_the_same_entry_is_no_fault_of_the_entry(tmp_path):
    for node in "ab":
        Poison(tmp_path / "p", node, PID).entry(12)
    for node in "ab":
        Poison(tmp_path / "p", node, PID).begin(node)


def die_at(path, node, index):
    poison = Poison(path, node, PID)
    poison.begin(node)
    poison.entry(index)


def test_an_entry_that_ends_a_node_in_life_after_life_stops_it(tmp_path):
    for _ in range(DEATHS_MAX):
        die_at(tmp_path / "p", "a", 12)
    with pytest.raises(PoisonEntry, match="entry 12 ended this node 3 times"):
        Poison(tmp_path / "p", "a", PID).begin("a")


def test_deaths_at_different_entries_do_not_add_up(tmp_path):
    for index in (12, 13, 12, 13, 12, 13):
        die_at(tmp_path / "p", "a", index)


def test_the_mark_of_a_dead_process_outlives_the_start_of_the_next(tmp_path):
    """Its heir may look for it when the node's next life is at something itself."""
    path = tmp_path / "p"
    mark = Poison(path, "a", PID).frame("a1.7", 0, b"x")
    again = Poison(path, "a", PID + 1)
    again.begin("a")
    assert Poison(path, "b", 1).frame_of("a", PID) == mark
    other = again.frame("a2.1", 0, b"y")
    heir = Poison(path, "b", 1)
    assert (heir.frame_of("a", PID), heir.frame_of("a", PID + 1), heir.frame_of("a", 1)) == (mark, other, "")
