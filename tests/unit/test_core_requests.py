"""Requests: forwarded once, answered once, refused by record, bounded."""

import pytest
from engines import FRAMER, FRAMING, UTC, Pair, answer_to, card, link, rules, status, transfer

from messages.framing import Framer
from messages.message import Decision
from switch.core.proposals import Absorb, Answer, Refuse, Request
from switch.core.records import Role, Stage
from switch.core.rules import Limits, Rules, RulesError, check


@pytest.fixture
def pair():
    return Pair()


def test_a_request_goes_out_under_a_stan_of_ours_and_its_answer_comes_back_under_its_own(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card(41))
    transaction = pair.only()
    assert transaction.stage is Stage.SENT and transaction.stan == 2
    assert f"{transaction.stan:06d}".encode() in pair.forwarded(net)
    pair.receive(net, answer_to(pair.forwarded(net)))
    (answer,) = pair.sent(terminal, Role.ANSWER)
    assert answer.startswith(b"0210") and b"000041" in answer
    pair.ack(terminal)
    assert not pair.state.transactions and len(pair.state.outcomes) == 1


def test_a_session_of_the_peer_carries_the_request_where_we_have_none(pair):
    terminal, net = pair.accept(node="a"), pair.connect(node="b")
    pair.receive(terminal, card())
    assert pair.only().target_session == net and pair.only().owner == "a1"
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert pair.codes(terminal) == ["00"]


def test_a_transfer_is_forwarded_and_answered_byte_for_byte(pair):
    bank, hub = pair.accept("bank"), pair.connect("hub")
    pair.receive(bank, transfer())
    assert pair.forwarded(hub) == transfer() and pair.only().stan == 0
    pair.receive(hub, status())
    assert pair.sent(bank, Role.ANSWER) == [status()]


def test_rails_without_a_stan_never_collide_in_it(pair):
    bank, hub = pair.accept("bank"), pair.connect("hub")
    pair.receive(bank, transfer(1))
    pair.receive(bank, transfer(2))
    assert len(pair.state.transactions) == 2 and not pair.state.stans_busy
    pair.receive(hub, status(2))
    assert pair.state.waiting["hub"] == 1


def test_one_session_may_be_source_and_target():
    given = rules(net={"timeout_ms": 1_000})
    given.routes[0].targets[:] = ["pos"]
    pair = Pair(given)
    only = pair.accept()
    pair.receive(only, card())
    assert pair.session(only).waiting == 1
    assert len(pair.outs(only, Role.FORWARD)) == 1
    pair.receive(only, answer_to(pair.forwarded(only)))
    assert pair.codes(only) == ["00"] and pair.session(only).waiting == 0


@pytest.mark.parametrize("age_ms", [0, 20_000])
def test_without_a_session_to_its_target_or_over_its_age_a_request_is_refused_by_record(pair, age_ms):
    terminal = pair.accept()
    if age_ms:
        pair.connect()
    assert isinstance(pair.receive(terminal, card(), age_ms=age_ms), Refuse)
    (code,) = pair.codes(terminal)
    assert code != "00" and [item.outcome.decision for item in pair.state.outcomes.values()] == [Decision.DECLINED]


def test_a_refusal_is_the_outcome_also_when_the_link_is_back(pair):
    terminal = pair.accept()
    pair.receive(terminal, card())
    pair.connect()
    pair.receive(terminal, card(mti="0201"))
    first, again = pair.codes(terminal)
    assert first == again and not pair.state.transactions


def test_a_request_that_cannot_be_framed_for_its_target_is_refused_and_its_session_lives():
    pair = Pair(rules(net={"frame_max_bytes": 60}))
    terminal, _ = pair.accept(), pair.connect()
    assert isinstance(pair.receive(terminal, card()), Refuse)


def test_an_answer_that_its_source_cannot_hold_is_absorbed_and_the_request_is_undone_at_its_timeout(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    wire = pair.engines["a"].wires["pos"]
    framer, wire.framer = wire.framer, Framer.of(FRAMING, header="none", maximum=20)
    assert isinstance(pair.receive(net, answer_to(pair.forwarded(net))), Absorb)
    wire.framer = framer
    pair.pass_ms(16_000)
    pair.tend()
    assert pair.codes(terminal) not in ([], ["00"]) and len(pair.state.advices) == 1


def test_an_advice_is_never_refused_since_silence_makes_its_sender_repeat():
    pair = Pair(Rules(links=[link("pos"), link("net", connect=["h:3"])]))
    terminal = pair.accept()
    assert isinstance(pair.receive(terminal, card(mti="0220")), Absorb)
    assert not pair.state.outcomes and not pair.outs(terminal)


def test_requests_in_flight_are_bounded_by_the_link_also_for_stale_proposals():
    pair = Pair(rules(net={"inflight_max": 2}))
    terminals, _ = [pair.accept(node=node) for node in "abab"], pair.connect()
    stale = [pair.offer(id_, card(number)) for number, id_ in enumerate(terminals, 1)]
    assert [pair.append(pair.node_of(p.session), p)[0] for p in stale] == [True, True, False, False]
    assert isinstance(pair.receive(terminals[2], card(3)), Refuse)
    assert pair.state.waiting["net"] == 2


def test_requests_in_flight_are_bounded_over_all_links():
    pair = Pair(rules(limits=Limits(transactions_max=1)))
    terminal, _ = pair.accept(), pair.connect()
    first, second = pair.offer(terminal, card(1)), pair.offer(pair.accept(), card(2))
    assert pair.append("a", first, second) == [True, False]
    assert isinstance(pair.receive(second.session, card(2)), Refuse)


def test_a_link_whose_lane_is_full_gets_no_new_requests():
    pair = Pair(rules(net={"lane_max": 1, "timeout_ms": 100}))
    terminal, _ = pair.accept(), pair.connect()
    stale = pair.offer(pair.accept(), card(2))
    pair.receive(terminal, card(1))
    pair.pass_ms(500)
    pair.tend()
    assert len(pair.state.lanes["net"]) == 1
    assert pair.append("a", stale) == [False]
    assert isinstance(pair.receive(terminal, card(3)), Refuse)


def test_input_is_taken_in_order_once_and_by_the_owner_only(pair):
    terminal, _ = pair.accept(node="a"), pair.connect()
    first = pair.offer(terminal, card(1))
    assert pair.append("b", first) == [False]
    assert pair.append("a", first, first) == [True, False]
    assert pair.session(terminal).applied == first.end
    ahead = Absorb(terminal, first.end + 1, first.end + 2, "ahead")
    assert pair.append("a", ahead) == [False]


def test_a_request_is_refused_by_the_log_when_its_target_session_has_ended(pair):
    terminal, net = pair.accept(), pair.connect()
    stale = pair.offer(terminal, card())
    pair.end(net)
    assert isinstance(stale, Request) and pair.append("a", stale) == [False]


def test_an_answer_nobody_waits_for_is_absorbed(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    answer = answer_to(pair.forwarded(net))
    assert isinstance(pair.receive(net, answer), Answer)
    assert isinstance(pair.receive(net, answer), Absorb)
    assert len(pair.codes(terminal)) == 1


def test_an_answer_and_its_copy_that_come_together_are_taken_together(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    data = FRAMER.frame(answer_to(pair.forwarded(net)))
    engine, session, frame = pair.engines["a"], pair.session(net), FRAMER.cut(data).frames[0]
    answered: set[bytes] = set()
    proposals = [
        engine.offer(session, place * len(data), (place + 1) * len(data), frame, 0, UTC, answered) for place in (0, 1)
    ]
    assert [type(proposal) for proposal in proposals] == [Answer, Absorb]
    assert pair.append("a", *reversed(proposals)) == [False, True], "each in its place only"
    assert pair.append("a", proposals[1]) == [True]
    assert pair.codes(terminal) == ["00"]


def test_an_interim_status_and_the_final_one_may_come_together(pair):
    bank, hub = pair.accept("bank"), pair.connect("hub")
    pair.receive(bank, transfer())
    engine, session, answered = pair.engines["a"], pair.session(hub), set()
    first, second = (FRAMER.frame(status(code=code)) for code in ("PDNG", "ACSC"))
    interim = engine.offer(session, 0, len(first), FRAMER.cut(first).frames[0], 0, UTC, answered)
    end = len(first) + len(second)
    final = engine.offer(session, len(first), end, FRAMER.cut(second).frames[0], 0, UTC, answered)
    assert pair.append("a", interim, final) == [True, True]
    assert isinstance(final, Answer)


def test_the_same_answer_on_two_sessions_decides_once(pair):
    terminal, one, two = pair.accept(), pair.connect(slot=0), pair.connect(node="b", slot=1)
    pair.receive(terminal, card())
    answer = answer_to(pair.forwarded(pair.only().target_session))
    stale = pair.offer(one, answer), pair.offer(two, answer)
    assert pair.append("b", stale[1]) == [True]
    assert pair.append("a", stale[0]) == [False]
    assert pair.codes(terminal) == ["00"]


POLICIES = {
    "ignore": [],
    "advise": [b"0620"],
}


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_no_message_gets_what_its_link_says_and_never_its_own_bytes(policy):
    pair = Pair(rules(pos={"unparseable": policy}))
    terminal = pair.accept()
    secret = b"0200\xff4111111111111111"
    proposal = pair.unreadable(terminal, secret)
    assert pair.append("a", proposal) == [True]
    told = pair.sent(terminal, Role.NETWORK)
    assert [payload[:4] for payload in told] == POLICIES[policy]
    assert not any(b"4111" in payload for payload in told)


def test_a_rejected_frame_gets_its_header_back_with_the_flag_and_nothing_else():
    pair = Pair(rules(pos={"unparseable": "reject", "header": "fixed:4", "header_value": "00000000", "reject_flag": "2:80"}))
    terminal = pair.accept()
    pair.append("a", pair.unreadable(terminal, b"no message", header=b"\x01\x02\x03\x04"))
    (out,) = pair.outs(terminal)
    assert out.data == b"\0\4\x01\x02\x83\x04"


@pytest.mark.parametrize("flag", ["", "9:80", "1:00", "x:80"])
def test_a_flag_that_is_no_bit_of_the_header_is_refused(flag):
    with pytest.raises(RulesError, match="reject_flag"):
        check(rules(pos={"unparseable": "reject", "header": "tpdu", "reject_flag": flag}))
