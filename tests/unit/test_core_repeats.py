"""Repeats: of a request in flight they wait with it, of a decided one they get what was decided, in every race."""

import pytest
from engines import Pair, answer_to, card, rules

from messages.message import Decision
from switch.core.proposals import Absorb, Attach, Refuse, Reply
from switch.core.records import Role, Stage
from switch.core.rules import Limits


@pytest.fixture
def pair():
    return Pair()


@pytest.fixture
def net(pair):
    return pair.connect()


def test_the_same_request_at_both_nodes_at_once_is_forwarded_once_and_both_are_answered(pair, net):
    one, two = pair.accept(node="a"), pair.accept(node="b")
    stale = pair.offer(one, card()), pair.offer(two, card(mti="0201"))
    assert pair.append("b", stale[1]) == [True]
    assert pair.append("a", stale[0]) == [False]
    assert isinstance(pair.receive(one, card()), Attach)
    assert len(pair.sent(net, Role.FORWARD)) == 1
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert pair.codes(one) == pair.codes(two) == ["00"]


def test_a_repeat_on_the_session_that_waits_already_gets_no_second_answer(pair, net):
    terminal = pair.accept()
    pair.receive(terminal, card())
    assert isinstance(pair.receive(terminal, card()), Absorb)
    assert isinstance(pair.receive(terminal, card(mti="0201")), Attach)
    assert pair.session(terminal).waiting == 1
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert pair.codes(terminal) == ["00"] and pair.session(terminal).waiting == 0


def test_two_repeats_in_one_peek_make_one_waiter(pair, net):
    one, two = pair.accept(), pair.accept()
    pair.receive(one, card())
    first = pair.offer(two, card(mti="0201"))
    second = Attach(two, first.end, 2 * first.end, first.transaction, first.waiter, None, b"")
    assert pair.append("a", first, second) == [True, True]
    assert pair.session(two).waiting == 1
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert pair.codes(two) == ["00"]


def test_an_answer_made_before_a_repeat_came_is_made_again(pair, net):
    one, two = pair.accept(), pair.accept(node="b")
    pair.receive(one, card())
    stale = pair.offer(net, answer_to(pair.forwarded(net)))
    pair.receive(two, card())
    assert pair.append("a", stale) == [False]
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert pair.codes(one) == pair.codes(two) == ["00"]


def test_waiters_are_bounded_and_those_that_ended_make_room():
    pair = Pair(rules(limits=Limits(waiters_max=2)))
    net, terminals = pair.connect(), [pair.accept() for _ in range(4)]
    for id_ in terminals[:2]:
        pair.receive(id_, card())
    assert isinstance(pair.receive(terminals[2], card()), Absorb)
    pair.end(terminals[0])
    stale = pair.offer(net, answer_to(pair.forwarded(net)))
    assert isinstance(pair.receive(terminals[3], card()), Attach)
    assert [waiter.session for waiter in pair.only().waiters] == [terminals[1], terminals[3]]
    assert pair.append("a", stale) == [False], "as many waiters, but others"
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert [pair.codes(id_) for id_ in terminals[1:]] == [["00"], [], ["00"]]


def test_a_repeat_of_an_answered_request_gets_a_copy_that_counts_for_its_delivery(pair, net):
    one, two = pair.accept(), pair.accept()
    pair.receive(one, card())
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert isinstance(pair.receive(two, card()), Attach)
    assert pair.only().copies == 2 and pair.codes(two) == ["00"]
    pair.end(one)
    assert pair.only().stage is Stage.ANSWERED, "a copy is outstanding"
    pair.ack(two)
    assert not pair.state.transactions
    assert [item.outcome.decision for item in pair.state.outcomes.values()] == [Decision.APPROVED]


def test_a_repeat_of_a_finished_request_gets_the_recorded_outcome_under_its_own_echo_fields(pair, net):
    one, two = pair.accept(), pair.accept(node="b")
    pair.receive(one, card())
    pair.receive(net, answer_to(pair.forwarded(net), "51"))
    pair.ack(one)
    assert isinstance(pair.receive(two, card(mti="0201")), Reply)
    assert pair.codes(two) == ["51"] and len(pair.outs(net)) == 1


def test_a_repeat_offered_before_its_outcome_was_forgotten_is_offered_again():
    pair = Pair(rules(limits=Limits(segment_outcomes=1, replay_window_ms=1_000)))
    one, two, net = pair.accept(), pair.accept(), pair.connect()
    pair.receive(one, card())
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.ack(one)
    stale = pair.offer(two, card())
    pair.pass_ms(1_000)
    pair.tend()
    assert not pair.state.outcomes and pair.append("a", stale) == [False]


@pytest.mark.parametrize("when", ["in flight", "answered", "finished"])
def test_another_request_under_a_used_key_is_refused_and_replaces_nothing(pair, net, when):
    one, two = pair.accept(), pair.accept()
    pair.receive(one, card())
    if when != "in flight":
        pair.receive(net, answer_to(pair.forwarded(net)))
    if when == "finished":
        pair.ack(one)
    before = dict(pair.state.outcomes), dict(pair.state.transactions)
    assert isinstance(pair.receive(two, card(de4="000000009999")), Refuse)
    assert pair.codes(two) != ["00"] and before == (pair.state.outcomes, pair.state.transactions)


def test_a_refusal_offered_before_the_link_came_up_does_not_decide_a_request_in_flight(pair):
    one, two = pair.accept(), pair.accept(node="b")
    stale = pair.offer(two, card())
    pair.connect()
    pair.receive(one, card())
    assert isinstance(stale, Refuse) and pair.append("b", stale) == [False]


def test_a_copy_of_an_approval_that_was_undone_meanwhile_is_not_sent(pair, net):
    one, two = pair.accept(node="a"), pair.accept(node="b")
    pair.receive(one, card())
    pair.receive(net, answer_to(pair.forwarded(net)))
    stale = pair.offer(two, card())
    assert isinstance(stale, Attach) and stale.frame
    three = pair.accept(node="a")
    pair.end(one)
    pair.receive(three, card())
    pair.tend()
    assert pair.only().stage is Stage.ANSWERED and pair.codes(three) != ["00"]
    assert pair.append("b", stale) == [False]
    pair.receive(two, card())
    assert pair.codes(two) == pair.codes(three)


def test_a_request_offered_before_its_twin_was_decided_is_not_forwarded_after_it(pair, net):
    one, two = pair.accept(node="a"), pair.accept(node="b")
    stale = pair.offer(two, card())
    pair.receive(one, card())
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.ack(one)
    assert pair.append("b", stale) == [False]
    pair.receive(two, card())
    assert pair.codes(two) == ["00"] and len(pair.outs(net)) == 1
