"""Approvals that reach nobody: undone only when no copy was acknowledged, not a byte of it, and none is outstanding."""

import pytest
from engines import Pair, answer_to, card, rules, status, transfer

from messages.message import Decision
from switch.core.proposals import Attach, Heir, Undo
from switch.core.records import Role, Stage


@pytest.fixture
def pair():
    return Pair()


@pytest.fixture
def net(pair):
    return pair.connect(node="b")


def approve(pair, net, *terminals):
    for id_ in terminals:
        pair.receive(id_, card())
    pair.receive(net, answer_to(pair.forwarded(net)))


def decisions(pair):
    return [item.outcome.decision for item in pair.state.outcomes.values()]


def test_an_approval_whose_terminal_has_gone_is_reversed_and_its_outcome_replaced(pair, net):
    terminal = pair.accept()
    pair.receive(terminal, card())
    pair.end(terminal)
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert pair.only().stage is Stage.UNDELIVERABLE and list(pair.state.undeliverable) == [pair.only().id]
    assert isinstance(pair.tend("a")[0], Undo)
    assert decisions(pair) == [Decision.DECLINED]
    assert [payload[:2] for payload in pair.sent(net, Role.ADVICE)] == [b"04"]


def test_an_approval_of_which_no_byte_was_acknowledged_is_undone_when_its_session_ends(pair, net):
    terminal = pair.accept()
    approve(pair, net, terminal)
    pair.end(terminal, acked=0)
    assert pair.only().stage is Stage.UNDELIVERABLE
    pair.tend()
    assert decisions(pair) == [Decision.DECLINED]


@pytest.mark.parametrize("acked", [1, 5])
def test_a_byte_acknowledged_is_delivery_since_the_rest_may_have_come(pair, net, acked):
    terminal = pair.accept()
    approve(pair, net, terminal)
    pair.end(terminal, acked=acked)
    assert decisions(pair) == [Decision.APPROVED] and not pair.tend()


def test_a_half_acknowledged_answer_stays_in_the_outbox(pair, net):
    terminal = pair.accept()
    approve(pair, net, terminal)
    pair.ack(terminal, 5)
    assert pair.session(terminal).acked == 5 and len(pair.outs(terminal)) == 1
    assert pair.only().stage is Stage.ANSWERED
    pair.end(terminal, acked=3)
    assert decisions(pair) == [Decision.APPROVED]


def test_an_acknowledgement_beyond_the_output_or_behind_is_passed_over(pair, net):
    terminal = pair.accept()
    approve(pair, net, terminal)
    pair.ack(terminal, 5)
    pair.ack(terminal, 3)
    pair.ack(terminal, 100_000)
    assert pair.session(terminal).acked == 5


def test_without_a_socket_to_ask_an_approval_counts_as_delivered(pair, net):
    terminal = pair.accept(node="a")
    approve(pair, net, terminal)
    pair.die("a")
    assert decisions(pair) == [Decision.APPROVED] and not pair.state.sessions.get(terminal)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_copy_delivered_keeps_the_approval_whatever_became_of_the_others(pair, net, order):
    terminals = [pair.accept(node="a"), pair.accept(node="b")]
    approve(pair, net, *terminals)
    steps = [lambda: pair.ack(terminals[0]), lambda: pair.end(terminals[1])]
    for step in order:
        assert pair.only().stage is Stage.ANSWERED
        steps[step]()
    assert decisions(pair) == [Decision.APPROVED]


def test_it_is_undone_when_all_copies_are_lost(pair, net):
    terminals = [pair.accept(node="a"), pair.accept(node="b")]
    approve(pair, net, *terminals)
    pair.end(terminals[0])
    assert pair.only().stage is Stage.ANSWERED
    pair.end(terminals[1])
    assert pair.only().stage is Stage.UNDELIVERABLE


def test_who_repeats_before_the_reversal_gets_the_refusal(pair, net):
    terminal, again = pair.accept(), pair.accept(node="b")
    approve(pair, net, terminal)
    pair.end(terminal)
    assert isinstance(pair.receive(again, card()), Attach)
    pair.tend()
    (code,) = pair.codes(again)
    assert code != "00" and pair.only().stage is Stage.ANSWERED
    pair.end(again)
    assert not pair.state.transactions and len(pair.state.advices) == 1, "a refusal that is lost is not undone again"


def test_the_reversal_is_made_once_also_by_two_who_think_it_theirs(pair, net):
    terminal = pair.accept(node="a")
    approve(pair, net, terminal)
    pair.end(terminal)
    ((_, undo),) = [due for due in pair.due("a") if isinstance(due[1], Undo)]
    assert pair.append("a", undo) == [True]
    assert pair.append("b", undo) == [False]
    assert len(pair.state.advices) == 1


def test_the_heir_reverses_what_the_dead_had_not(pair, net):
    terminal = pair.accept(node="a")
    approve(pair, net, terminal)
    pair.end(terminal)
    assert not any(isinstance(proposal, Undo) for _, proposal in pair.due("b"))
    pair.engines.pop("a")
    pair.append("b", Heir("a1", ()))
    assert any(isinstance(item, Undo) for item in pair.tend("b"))


def test_a_decline_that_is_lost_stays_as_it_is(pair, net):
    terminal = pair.accept()
    pair.receive(terminal, card())
    pair.receive(net, answer_to(pair.forwarded(net), "51"))
    pair.end(terminal)
    assert decisions(pair) == [Decision.DECLINED] and not pair.tend()


def test_transfers_keep_an_approval_that_is_lost_for_who_asks_again(pair):
    bank, hub = pair.accept("bank"), pair.connect("hub")
    pair.receive(bank, transfer())
    pair.end(bank)
    pair.receive(hub, status())
    assert decisions(pair) == [Decision.APPROVED]
    again = pair.accept("bank")
    pair.receive(again, transfer())
    assert pair.sent(again) == [status()]


def test_a_link_of_cards_may_keep_them_too():
    pair = Pair(rules(pos={"undeliverable": "keep"}))
    terminal, net = pair.accept(), pair.connect()
    approve(pair, net, terminal)
    pair.end(terminal)
    assert decisions(pair) == [Decision.APPROVED] and not pair.tend()


def test_the_answer_to_an_advice_is_never_undone(pair, net):
    terminal = pair.accept()
    pair.receive(terminal, card(mti="0220"))
    pair.end(terminal)
    assert decisions(pair) == [Decision.APPROVED]
    assert not any(isinstance(item, Undo) for item in pair.tend())
