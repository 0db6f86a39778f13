"""Requests of which no byte has left: to another session or target, approved here, or declined; and what may have left."""

import pytest
from engines import CARDS, DIALECT, Pair, answer_to, card, link, no_pin, reversal, rules
from msgspec.structs import replace

from messages.message import Decision
from switch.core.proposals import Configure, Decide, Redeliver, Refuse, Resend, Timeout, Undo
from switch.core.records import Fate, Role, Stage
from switch.core.rules import Limits, Route, RulesError, StandIn, check

RULE = StandIn(
    name="small", targets=["net"], profiles=["purchase"], currency="978", amount_max=5_000, card_amount_max=6_000,
    card_count_max=3,
)  # fmt: skip


def given(stand_ins=(), **links):
    """Terminals to a network, and a second network to take its place."""
    base = rules(**links)
    other = link("alt", connect=["h:5"])
    routes = [Route(name="cards", source=["pos"], targets=["net", "alt"]), base.routes[1]]
    return replace(base, links=[*base.links, other], routes=routes, stand_ins=list(stand_ins))


@pytest.fixture
def pair():
    return Pair(given())


def test_an_unwritten_forward_goes_out_on_another_session_of_its_link(pair):
    terminal, net = pair.accept(), pair.connect(slot=0)
    pair.receive(terminal, card())
    other = pair.connect(slot=1, node="b")
    pair.end(net, 0, written=0)
    assert pair.only().stage is Stage.UNSENT and not pair.state.pending
    assert [type(item) for item in pair.tend()] == [Resend]
    pair.receive(other, answer_to(pair.forwarded(other)))
    assert pair.codes(terminal) == ["00"] and not pair.state.advices


def test_or_to_the_next_target(pair):
    terminal, net, alt = pair.accept(), pair.connect(), pair.connect("alt")
    pair.receive(terminal, card())
    pair.end(net, 0, written=0)
    pair.tend()
    assert pair.only().target == "alt" and len(pair.sent(alt, Role.FORWARD)) == 1
    pair.receive(alt, answer_to(pair.forwarded(alt)))
    assert pair.codes(terminal) == ["00"]


def test_or_is_declined_where_its_link_has_got_another_framing_meanwhile(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.end(net, 0, written=0)
    now = given(net={"framing": "4-ascii"})
    assert pair.append("a", Configure(now.encode())) == [True]
    assert [type(item) for item in pair.tend()] == [Decide]
    assert pair.codes(terminal) == ["91"] and not pair.state.advices


def test_or_is_declined_at_once_without_a_reversal(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.end(net, 0, written=0)
    assert [type(item) for item in pair.tend()] == [Decide]
    assert pair.codes(terminal) == ["91"] and not pair.state.advices
    assert pair.only().fate is Fate.NOTHING


@pytest.mark.parametrize("written", [1, -1])
def test_what_may_have_left_goes_nowhere_else_and_is_undone_at_its_timeout(pair, written):
    terminal, net, alt = pair.accept(), pair.connect(), pair.connect("alt")
    pair.receive(terminal, card())
    pair.end(net, 0, written=written)
    assert not pair.tend() and not pair.sent(alt, Role.FORWARD)
    pair.pass_ms(16_000)
    assert isinstance(pair.tend()[0], Timeout)
    assert pair.codes(terminal) == ["68"] and len(pair.state.advices) == 1


def test_one_that_was_written_and_one_behind_it_that_was_not_are_told_apart(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card(1))
    first = pair.session(net).output
    pair.receive(terminal, card(2))
    pair.end(net, 0, written=first)
    assert [t.stage for t in pair.state.transactions.values()] == [Stage.SENT, Stage.UNSENT]


def test_its_terminals_reversal_ends_it_without_sending_anything(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.receive(terminal, reversal())
    pair.end(net, 0, written=0)
    pair.connect("alt")
    pair.tend()
    assert not pair.state.advices and pair.codes(terminal)[0] == "00"
    assert pair.only().fate is Fate.NOTHING


def test_the_heir_sends_what_the_dead_had_not():
    pair = Pair(given())
    terminal, net = pair.accept(node="b"), pair.connect(slot=0, node="b")
    pair.receive(terminal, card())
    other = pair.connect(slot=1, node="b")
    pair.end(net, 0, written=0)
    pair.die("a")
    pair.tend()
    assert len(pair.sent(other, Role.FORWARD)) == 1


# --- stand-in


def test_stand_in_approves_and_tells_the_issuer_when_it_is_there():
    pair = Pair(given([RULE]))
    terminal = pair.accept()
    pair.receive(terminal, no_pin())
    assert pair.only().stage is Stage.UNSENT
    pair.tend()
    assert pair.codes(terminal) == ["00"]
    net = pair.connect()
    pair.tend()
    (advice,) = pair.sent(net, Role.ADVICE)
    assert advice[:4] == b"0220" and b"=2812" not in advice, "without track or PIN"


def test_its_advice_has_the_business_date():
    pair = Pair(given([RULE]))
    terminal, net = pair.accept(), pair.connect()
    pair.receive(net, DIALECT.encode("0800", {7: "0301100000", 11: "900001", 15: "0302", 70: "201"}))
    pair.end(net)
    pair.receive(terminal, no_pin())
    pair.tend()
    (advice,) = pair.state.advices.values()
    assert DIALECT.decode(advice.payload).fields[15] == "0302"


def test_its_limits_hold_for_a_card_and_day_and_over_takeovers():
    pair = Pair(given([RULE]))
    terminal = pair.accept(node="b")
    pair.receive(terminal, no_pin(1, de4="000000003000"))
    pair.tend()
    pair.receive(terminal, no_pin(2, de4="000000004000"))
    pair.tend()
    pair.die("a")
    pair.reload("b")
    pair.receive(terminal, no_pin(3, de4="000000003000"))
    pair.tend()
    pair.receive(terminal, no_pin(4, de4="000000000100"))
    pair.tend()
    assert pair.codes(terminal) == ["00", "91", "00", "91"]


def test_it_approves_no_more_than_its_count():
    pair = Pair(given([replace(RULE, card_count_max=1)]))
    terminal = pair.accept()
    for number in (1, 2):
        pair.receive(terminal, no_pin(number))
        pair.tend()
    other = no_pin(3, de2="4000000000000002", de35="4000000000000002=28121011234567890")
    pair.receive(terminal, other)
    pair.tend()
    assert pair.codes(terminal) == ["00", "91", "00"]


@pytest.mark.parametrize(
    "payload",
    [card(), no_pin(de4="000000005001"), no_pin(de49="840"), no_pin(de3="310000"), no_pin(mti="0100", de3="200000")],
    ids=["online PIN", "amount", "currency", "inquiry", "profile"],
)
def test_what_no_rule_speaks_of_is_declined(payload):
    pair = Pair(given([RULE]))
    terminal = pair.accept()
    pair.receive(terminal, payload)
    pair.tend()
    assert pair.codes(terminal) == ["91"] and not pair.state.cards


def test_a_card_whose_bin_is_not_named_is_declined():
    pair = Pair(given([replace(RULE, bins=["5"])]))
    terminal = pair.accept()
    pair.receive(terminal, no_pin())
    pair.tend()
    assert pair.codes(terminal) == ["91"]


def test_two_stale_approvals_charge_the_limit_once():
    pair = Pair(given([replace(RULE, card_count_max=1)]))
    one, two = pair.accept(node="a"), pair.accept(node="b")
    pair.receive(one, no_pin(1))
    pair.receive(two, no_pin(2))
    ((_, first),), ((_, second),) = pair.due("a"), pair.due("b")
    assert pair.append("a", first) == [True]
    assert pair.append("b", second) == [False]
    pair.engines["b"].resolved(("transaction", 2))
    pair.tend()
    assert pair.codes(two) == ["91"]


def test_cards_are_bounded_and_forgotten_with_the_day():
    pair = Pair(replace(given([RULE]), limits=Limits(stand_in_cards_max=1)))
    terminal = pair.accept()
    pair.receive(terminal, no_pin(1))
    pair.tend()
    pair.receive(terminal, no_pin(2, de2="4000000000000002", de35="4000000000000002=28121011234567890"))
    pair.tend()
    assert pair.codes(terminal) == ["00", "91"] and len(pair.state.cards) == 1


def test_a_stand_in_approval_that_reaches_nobody_is_reversed_after_its_advice():
    pair = Pair(given([RULE]))
    terminal = pair.accept()
    pair.receive(terminal, no_pin())
    pair.tend()
    pair.end(terminal, 0)
    assert any(isinstance(item, Undo) for item in pair.tend())
    net = pair.connect()
    pair.tend()
    first = pair.sent(net, Role.ADVICE)
    assert [payload[:4] for payload in first] == [b"0220"], "one after the other"
    pair.receive(net, answer_to(first[0]))
    pair.tend()
    assert [payload[:4] for payload in pair.sent(net, Role.ADVICE)] == [b"0220", b"0420"]


# --- another session of the concentrator


def test_an_approval_that_reached_nobody_goes_to_another_session_of_its_concentrator():
    pair = Pair(given(pos={"redeliver": True}))
    one, two, net = pair.accept(), pair.accept(), pair.connect()
    pair.receive(one, card())
    pair.end(one, 0)
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert pair.only().stage is Stage.UNDELIVERABLE
    pair.tend()
    assert pair.codes(two) == ["00"]
    pair.end(two, 0)
    pair.tend()
    assert len(pair.state.advices) == 1, "once: then it is reversed"


def test_one_that_its_terminal_has_reversed_meanwhile_is_told_to_nobody():
    """Found by seed 10766: the reversal was acknowledged as needless, and then the approval went to another session."""
    pair = Pair(given(pos={"redeliver": True}))
    one, two, net = pair.accept(), pair.accept(), pair.connect()
    pair.receive(one, card())
    pair.end(one, 0)
    pair.receive(net, answer_to(pair.forwarded(net)))
    ((_, stale),) = pair.due("a")
    pair.receive(two, reversal())
    assert isinstance(stale, Redeliver) and pair.append("a", stale) == [False]
    pair.engines["a"].resolved(("transaction", 1))
    pair.tend()
    assert pair.codes(two) == ["00"] and [payload[:4] for payload in pair.sent(net, Role.ADVICE)] == [b"0420"]


def test_it_is_reversed_where_the_link_does_not_allow_that():
    pair = Pair(given())
    one, two, net = pair.accept(), pair.accept(), pair.connect()
    pair.receive(one, card())
    pair.end(one, 0)
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.tend()
    assert not pair.codes(two) and len(pair.state.advices) == 1


# --- partial approvals


def test_a_partial_approval_passes():
    pair = Pair(given())
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.receive(net, answer_to(pair.forwarded(net), "10"))
    assert pair.codes(terminal) == ["10"] and not pair.state.advices


def test_a_source_that_takes_none_gets_a_decline_and_the_issuer_a_reversal():
    pair = Pair(given(pos={"iso8583": replace(CARDS, partial=False)}))
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.receive(net, answer_to(pair.forwarded(net), "10"))
    assert pair.codes(terminal) != ["10"] and pair.only().outcome.decision is Decision.DECLINED
    pair.tend()
    assert [payload[:4] for payload in pair.sent(net, Role.ADVICE)] == [b"0420"]


# --- breaker, rates, times


def test_a_link_that_times_out_again_and_again_gets_echoes_and_no_payments():
    pair = Pair(given(net={"breaker_timeouts": 2, "timeout_ms": 500, "echo_interval_ms": 0}))
    terminal, net, alt = pair.accept(), pair.connect(), pair.connect("alt")
    for number in (1, 2):
        pair.receive(terminal, card(number))
        pair.pass_ms(1_000)
        pair.tend()
    assert pair.state.breakers["net"].open
    pair.receive(terminal, card(3))
    assert len(pair.sent(net, Role.FORWARD)) == 2 and len(pair.sent(alt, Role.FORWARD)) == 1
    echo = [payload for payload in pair.sent(net, Role.NETWORK) if payload[:4] == b"0800"][-1]
    pair.receive(net, answer_to(echo))
    assert "net" not in pair.state.breakers
    pair.receive(terminal, card(4))
    assert len(pair.sent(net, Role.FORWARD)) == 3


def test_a_network_that_connects_to_us_is_asked_by_an_echo_too_before_it_gets_payments_again():
    listening = {"connect": [], "listen": {"a": "h:1", "b": "h:2"}}
    pair = Pair(rules(net={**listening, "breaker_timeouts": 2, "timeout_ms": 500}))
    terminal, net = pair.accept(), pair.accept("net")
    for number in (1, 2):
        pair.receive(terminal, card(number))
        pair.pass_ms(1_000)
        pair.tend()
    (echo,) = pair.sent(net, Role.NETWORK)
    assert pair.state.breakers["net"].open and echo[:4] == b"0800"
    pair.receive(net, answer_to(echo))
    assert "net" not in pair.state.breakers
    pair.receive(terminal, card(3))
    assert len(pair.sent(net, Role.FORWARD)) == 3
    pair.pass_ms(60_000)
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.tend()
    assert pair.sent(net, Role.NETWORK) == [echo]  # else who connects sends echoes


def test_a_network_that_connects_to_us_and_answers_no_echo_is_to_connect_anew():
    listening = {"connect": [], "listen": {"a": "h:1", "b": "h:2"}}
    pair = Pair(rules(net={**listening, "breaker_timeouts": 1, "timeout_ms": 500, "network_timeout_ms": 2_000}))
    terminal, net = pair.accept(), pair.accept("net")
    pair.receive(terminal, card(1))
    pair.pass_ms(1_000)
    pair.tend()
    pair.pass_ms(2_500)
    pair.tend()
    assert net not in pair.state.sessions
    again = pair.accept("net")
    pair.tend()
    pair.receive(again, answer_to(pair.sent(again, Role.NETWORK)[-1]))
    assert "net" not in pair.state.breakers


def test_an_echo_that_was_not_answered_ends_its_session_when_it_is_due_and_not_at_the_breakers_next_opening():
    listening = {"connect": [], "listen": {"a": "h:1", "b": "h:2"}}
    pair = Pair(rules(net={**listening, "breaker_timeouts": 1, "timeout_ms": 500, "network_timeout_ms": 2_000}))
    terminal, silent, net = pair.accept(), pair.accept("net"), pair.accept("net")
    pair.receive(terminal, card(1))
    pair.pass_ms(1_000)
    pair.tend()
    pair.receive(net, answer_to(pair.sent(net, Role.NETWORK)[-1]))
    assert "net" not in pair.state.breakers and silent in pair.state.sessions
    pair.pass_ms(2_500)
    pair.tend()
    assert silent not in pair.state.sessions and net in pair.state.sessions


def test_a_link_gets_no_more_requests_a_second_than_its_rate():
    pair = Pair(rules(net={"rate_max": 2}))
    terminal, net = pair.accept(), pair.connect()
    kinds = []
    for number in range(1, 5):
        kinds.append(isinstance(pair.receive(terminal, card(number)), Refuse))
    assert kinds == [False, False, True, True]
    pair.pass_ms(1_000)
    pair.receive(terminal, card(9))
    assert len(pair.sent(net, Role.FORWARD)) == 3


def test_a_timer_that_outlives_the_patience_of_the_source_is_refused():
    with pytest.raises(RulesError, match="waits only"):
        check(given(pos={"patience_ms": 10_000}, net={"timeout_ms": 12_000}))
