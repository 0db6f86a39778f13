"""The pair: lives, heirs of heirs, leaving, log time, and rules that change under traffic."""

import msgspec
import pytest
from engines import HEARTBEAT_MS, Pair, answer_to, card, rules

from switch.core.engine import Engine
from switch.core.fold import ApplyError
from switch.core.proposals import (
    VERSION,
    Activate,
    Configure,
    EntryError,
    Heir,
    Join,
    Leave,
    Leaving,
    Live,
    Move,
    Snapshot,
    Tick,
    TooNew,
    encode_entry,
)
from switch.core.records import Role, Status
from switch.core.rules import Limits, Rules


@pytest.fixture
def pair():
    return Pair()


def test_the_heir_acts_for_the_dead_and_keeps_the_sessions_it_holds(pair):
    kept, lost = pair.accept(node="a"), pair.accept(node="a")
    pair.die("a", held=[kept])
    assert pair.state.acting("a1") == "b1" and pair.node_of(kept) == "b" and lost not in pair.state.sessions
    assert pair.state.incarnations["a1"].status is Status.DEAD


def test_one_death_has_one_heir(pair):
    pair.engines.pop("a")
    assert pair.append("b", Heir("a1", ()), Heir("a1", ()), Heir("b1", ()), Heir("x9", ())) == [
        True,
        False,
        False,
        False,
    ]


def test_heirs_of_heirs_act_and_are_found_in_one_step(pair):
    terminal = pair.accept(node="a")
    for node in "abab":
        pair.die(node, held=[terminal])
        pair.restart(node)
    assert pair.session(terminal).owner == "a1"
    assert pair.state.acting("a1") == "a3" == pair.state.incarnations["a1"].heir
    assert {item.heir for item in pair.state.incarnations.values()} <= {"", "a3", "b3"}
    copy = pair.loaded("b").state
    copy_acting = {id_: copy.acting(id_) for id_ in copy.incarnations}
    assert copy_acting == {id_: pair.state.acting(id_) for id_ in pair.state.incarnations}


def test_past_lives_that_nothing_names_are_dropped(pair):
    for _ in range(4):
        pair.die("a")
        pair.restart("a")
    assert len(pair.state.incarnations) <= 3


def test_who_leaves_ends_its_sessions_and_the_lead_has_its_transactions(pair):
    terminal, net = pair.accept(node="a"), pair.connect(node="b")
    pair.receive(terminal, card())
    pair.append("a", Leave())
    assert terminal not in pair.state.sessions and pair.state.acting("a1") == "b1" == pair.state.lead()
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.tend("b")
    assert not pair.state.transactions


def test_who_is_leaving_acts_for_what_it_has_and_is_given_nothing_more(pair):
    mine, other = pair.accept(node="b"), pair.accept(node="a")
    assert pair.append("b", Leaving()) == [True]
    assert pair.append("a", Move((other,), "b1")) == [False]  # a peer that balances does not know yet
    assert pair.node_of(mine) == "b" and pair.node_of(other) == "a" and pair.state.live() == ["a1"]
    assert pair.append("b", Move((mine,), "a1"), Leave()) == [True, True]
    assert pair.node_of(mine) == pair.node_of(other) == "a"
    assert pair.append("b", Live(), Leaving()) == [False, False]  # a life is not lived twice


def test_who_has_left_is_heir_of_nobody(pair):
    """Its process may still be there when the other one dies; whoever starts next is the heir of both."""
    terminal = pair.accept(node="b")
    assert pair.append("a", Leaving(), Leave(), Heir("b1", (terminal,))) == [True, True, False]
    assert not pair.state.over("b1") and pair.node_of(terminal) == "b"


def test_without_a_live_node_there_is_no_lead_and_nothing_is_due():
    pair = Pair()
    pair.append("a", Leave())
    pair.append("b", Leave())
    assert pair.state.lead() == "" and pair.state.acting("a1") == ""
    pair.engines["a"].incarnation = ""
    assert not pair.due("a")


def test_a_life_is_joined_once(pair):
    assert pair.append("a", Join("a", 1, "token", "boot", 1, 1, "cluster")) == [False]


def test_log_time_passes_once_for_two_ticks_that_name_the_same_predecessor(pair):
    pair.now_ms += 200
    one, two = (pair.engines[node].heartbeat(pair.now_ms) for node in "ab")
    before = pair.state.meta.clock_ms
    assert pair.append("a", one) == [True] and pair.append("b", two) == [True]
    assert pair.state.meta.clock_ms == before + 200


@pytest.mark.parametrize(("elapsed", "passed"), [(3_600_000, 2 * HEARTBEAT_MS), (-5, 0)])
def test_one_tick_advances_log_time_by_two_heartbeats_at_the_most_and_never_back(pair, elapsed, passed):
    before = pair.state.meta
    pair.append("a", Tick(before.clock_index, elapsed, 0, 0, ""))
    assert pair.state.meta.clock_ms == before.clock_ms + passed


def test_a_node_whose_state_differs_is_found_out_at_the_next_heartbeats(pair):
    pair.pass_ms(500)
    assert not any(engine.diverged for engine in pair.engines.values())
    pair.engines["b"].state.meta = msgspec.structs.replace(pair.state.meta, advice=99)
    pair.engines["b"].state._changed["meta", None] = pair.state.meta
    bodies = []
    for node in "abab":
        engine = pair.engines[node]
        bodies.append((engine.incarnation, encode_entry([engine.heartbeat(pair.now_ms)])))
        for each in pair.engines.values():
            each.apply(bodies[-1][0], pair.index + len(bodies), bodies[-1][1], pair.now_ms)
    assert all(engine.diverged for engine in pair.engines.values())


def test_rules_may_change_under_traffic(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    given = rules(net={"timeout_ms": 1_000, "connections": 1})
    assert pair.append("b", Configure(given.encode())) == [True]
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert pair.codes(terminal) == ["00"]


def without(given: Rules, name: str) -> bytes:
    links = [link for link in given.links if link.name != name]
    routes = [route for route in given.routes if name not in (*route.source, *route.targets)]
    return Rules(links=links, routes=routes, limits=given.limits).encode()


def test_a_link_that_goes_takes_its_sessions_along(pair):
    terminal, net = pair.accept(), pair.connect()
    assert pair.append("a", Configure(without(rules(), "net"))) == [True]
    assert list(pair.state.sessions) == [terminal] and net not in pair.state.sessions
    pair.tend()


@pytest.mark.parametrize("name", ["pos", "net"])
def test_a_link_that_a_transaction_needs_cannot_go(pair, name):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    assert pair.append("a", Configure(without(rules(), name))) == [False] and "rules.refused" in pair.notes
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.ack(terminal)
    assert pair.append("a", Configure(without(rules(), name))) == [True]


def test_a_link_that_an_advice_needs_cannot_go_nor_change_its_rail():
    pair = Pair(rules(net={"timeout_ms": 300}))
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.pass_ms(500)
    pair.tend()
    pair.ack(terminal)
    pair.end(net)
    assert pair.state.advices and not pair.state.transactions
    assert pair.append("a", Configure(without(rules(), "net"))) == [False]


@pytest.mark.parametrize("given", [b"", b"junk", Rules(links=[], routes=rules().routes).encode()])
def test_rules_that_cannot_work_are_refused_by_the_log(pair, given):
    assert pair.append("a", Configure(given)) == [False]
    assert pair.engines["a"].rules == rules()


def test_stans_given_before_the_rules_changed_are_not_given_again(pair):
    one, two, net = pair.accept(), pair.accept(), pair.connect()
    stale = pair.offer(one, card(1))
    pair.append("a", Configure(rules(limits=Limits(waiters_max=3)).encode()))
    assert pair.offer(two, card(2)).stan != stale.stan
    assert pair.append("a", stale) == [True] and len(pair.sent(net, Role.FORWARD)) == 1


def test_a_snapshot_is_recorded_forward_only(pair):
    assert pair.append("a", Snapshot(3), Snapshot(3), Snapshot(2), Snapshot(4)) == [True, False, False, True]
    assert pair.state.meta.snapshot == 4


def test_an_entry_that_cannot_be_applied_leaves_nothing_of_that_proposal(pair):
    before, hashed = pair.engines["b"].state.index, pair.engines["b"].state.hash()
    with pytest.raises(ApplyError) as caught:
        pair.engines["b"].apply("z9", before + 1, encode_entry([Live()]), 0.0)
    assert "Live" in str(caught.value)
    assert (pair.engines["b"].state.index, pair.engines["b"].state.hash()) == (before, hashed)


NOT_UTF_8 = encode_entry([Leave()]).replace(b"leave", b"le\xffve")
DEEP = encode_entry([Leave()]).replace(b"\x91\xa5leave", b"\x92\xa5leave") + b"\x91" * 5000


@pytest.mark.parametrize("body", [b"", b"junk", NOT_UTF_8, DEEP, msgspec.msgpack.encode((99, []))])
def test_an_entry_of_another_version_or_none_at_all_is_named_so(pair, body):
    with pytest.raises(EntryError):
        pair.engines["a"].apply("a1", 1, body, 0.0)


def test_the_frame_at_which_a_node_died_is_remembered_and_such_marks_are_bounded(pair):
    for engine in pair.engines.values():
        for number in range(100):
            engine.state.put_mark(f"z{number:03d}", 1)
        engine.state.put_mark("z050", 2)
        engine.state.commit()
    pair.engines.pop("a")
    pair.append("b", Heir("a1", (), "a frame"))
    assert len(pair.state.marks) == 100 and pair.state.marks["a frame"] == 1 and pair.state.marks["z050"] == 2


def test_entries_become_newer_and_never_older(pair):
    assert pair.state.meta.version == VERSION
    assert pair.append("a", Activate(1), Activate(VERSION)) == [False, False]
    old = Engine("a", version=1)
    with pytest.raises(TooNew, match="versions 1 to 1"):
        old.apply("b1", 1, encode_entry([Live()], 2), 0.0)
    with pytest.raises(TooNew):  # whatever is in it
        old.apply("b1", 1, b"\x92\x03\x91\x92\xa5other\x01", 0.0)
