"""Requests without an answer in time, and answers that race their timeout: the order in the log decides."""

import engines
import pytest
from engines import HEARTBEAT_MS, Pair, answer_to, card, rules, status, transfer

from messages.framing import Framer
from messages.message import Decision
from switch.core.proposals import Absorb, Answer, Timeout, encode
from switch.core.records import Role, Stage
from switch.mirror.append import PROPOSAL_BYTES_MAX

PENDING = rules(bank={"iso20022": {"timeout_profile": "pending"}}, hub={"timeout_ms": 1_000}, net={"timeout_ms": 1_000})


@pytest.fixture
def pair():
    return Pair(PENDING)


def test_a_request_without_an_answer_is_declined_here_and_undone_at_its_target(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.pass_ms(1_000)
    assert isinstance(pair.tend("a")[0], Timeout)
    assert pair.only().outcome.decision is Decision.DECLINED and len(pair.codes(terminal)) == 1
    assert [payload[:4] for payload in pair.sent(net, Role.ADVICE)] in ([b"0420"], [b"0400"])


def test_timers_stand_still_while_the_log_does(pair):
    terminal, _ = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.now_ms += 3_600_000
    assert not pair.due("a")
    assert pair.engines["a"].clock(pair.now_ms) == pair.state.meta.clock_ms + 2 * HEARTBEAT_MS


def beating(pair, until_ms, late_ms):
    """Both nodes' heartbeats, half a period apart, each applied so late after it was made. How much log time passed."""
    began = pair.state.meta.clock_ms
    made = [(pair.now_ms + place * HEARTBEAT_MS / 2, node) for place, node in enumerate("ab")]
    under_way = []
    while True:
        (at, node), (due, by, tick) = min(made), min(under_way, default=(float("inf"), "", None), key=lambda each: each[0])
        if min(at, due) > until_ms:
            return pair.state.meta.clock_ms - began
        pair.now_ms = min(at, due)
        if due <= at:
            under_way.remove((due, by, tick))
            pair.append(by, tick)
        else:
            made.remove((at, node))
            made.append((at + HEARTBEAT_MS, node))
            under_way.append((at + late_ms, node, pair.engines[node].heartbeat(at)))


@pytest.mark.parametrize("late_ms", [0, 2, 20, 100, 200])
def test_log_time_is_as_fast_as_time_however_late_heartbeats_are_applied(pair, late_ms):
    pair.pass_ms(1_000)
    passed_ms = beating(pair, pair.now_ms + 60_000, late_ms)
    assert 59_000 < passed_ms <= 60_000


def test_the_time_of_a_hold_is_not_made_up_for(pair):
    pair.pass_ms(1_000)
    pair.now_ms += 3_600_000
    assert beating(pair, pair.now_ms + 10_000, 20) <= 10_000 + 2 * HEARTBEAT_MS


@pytest.mark.parametrize("first", ["answer", "timeout"])
def test_an_answer_and_a_timeout_race_and_the_first_in_the_log_wins(pair, first):
    terminal, net = pair.accept(), pair.connect(node="b")
    pair.receive(terminal, card())
    pair.pass_ms(1_000)
    answer = ("b", pair.offer(net, answer_to(pair.forwarded(net))))
    ((subject, timeout),) = pair.due("a")
    races = [answer, ("a", timeout)] if first == "answer" else [("a", timeout), answer]
    assert [pair.append(*race) for race in races] == [[True], [False]]
    pair.engines["a"].resolved(subject)
    assert (pair.codes(terminal) == ["00"]) is (first == "answer")
    assert bool(pair.state.advices) is (first == "timeout")
    assert not [item for item in pair.tend() if isinstance(item, Timeout)]
    if first == "timeout":
        assert isinstance(pair.receive(net, answer_to(pair.forwarded(net))), Absorb)


def test_a_timeout_that_lost_to_a_repeat_is_proposed_again(pair):
    one, two, _ = pair.accept(), pair.accept(), pair.connect()
    pair.receive(one, card())
    pair.pass_ms(1_000)
    ((subject, stale),) = pair.due("a")
    assert not pair.due("a"), "proposed once"
    pair.receive(two, card())
    assert pair.append("a", stale) == [False]
    pair.engines["a"].resolved(subject)
    pair.tend()
    assert pair.codes(one) == pair.codes(two) != []


def test_a_timeout_that_never_reached_the_log_is_proposed_again(pair):
    terminal, _ = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.pass_ms(1_000)
    ((subject, lost),) = pair.due("a")
    pair.engines["a"].resolved(subject)
    assert [type(proposal) for _, proposal in pair.due("a")] == [type(lost)]


def test_a_consumer_that_stops_half_way_loses_no_timer(pair):
    terminals, _ = [pair.accept(), pair.accept()], pair.connect()
    for number, id_ in enumerate(terminals):
        pair.receive(id_, card(number + 1))
    pair.pass_ms(1_000)
    subject, _ = next(pair.engines["a"].tend(pair.now_ms, 0.0))
    pair.engines["a"].resolved(subject)
    pair.tend()
    assert all(len(pair.codes(id_)) == 1 for id_ in terminals)


def test_only_who_acts_for_a_transaction_times_it_out_and_then_its_heir(pair):
    terminal, _ = pair.accept(node="a"), pair.connect(node="b")
    pair.receive(terminal, card())
    pair.pass_ms(1_000)
    assert not pair.due("b")
    pair.die("a", held=[terminal])
    assert isinstance(pair.tend("b")[0], Timeout)
    assert len(pair.codes(terminal)) == 1


def test_the_timers_of_a_snapshot_are_wound(pair):
    terminal, _ = pair.accept(node="a"), pair.connect(node="b")
    pair.receive(terminal, card())
    pair.die("a", held=[terminal])
    pair.restart("a")
    pair.die("b", held=list(pair.state.sessions))
    pair.pass_ms(1_500)
    assert any(isinstance(item, Timeout) for item in pair.tend("a"))


def test_a_timeout_before_its_time_is_refused(pair):
    terminal, _ = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.pass_ms(1_000)
    ((_, timeout),) = pair.due("a")
    early = Pair(PENDING)
    terminal, _ = early.accept(), early.connect()
    early.receive(terminal, card())
    assert early.append("a", timeout) == [False]


def test_a_pending_transfer_is_told_so_once_and_its_late_answer_still_decides(pair):
    bank, hub = pair.accept("bank"), pair.connect("hub")
    pair.receive(bank, transfer())
    pair.pass_ms(1_000)
    pair.tend()
    assert pair.only().stage is Stage.SENT and pair.only().outcome.decision is Decision.INTERIM
    (interim,) = pair.sent(bank)
    assert b"PDNG" in interim and not pair.state.advices
    pair.pass_ms(1_000)
    assert not pair.tend()
    assert isinstance(pair.receive(hub, status()), Answer)
    assert pair.sent(bank, Role.ANSWER) == [status()]


def test_a_transfer_pending_too_long_ends_as_pending(pair):
    bank, _ = pair.accept("bank"), pair.connect("hub")
    pair.receive(bank, transfer())
    pair.pass_ms(1_000)
    pair.tend()
    pair.pass_ms(10_500)
    pair.tend()
    pair.ack(bank)
    assert not pair.state.transactions
    assert [item.outcome.decision for item in pair.state.outcomes.values()] == [Decision.INTERIM]


def test_an_interim_timeout_and_the_answer_may_stand_in_one_entry(pair):
    bank, hub = pair.accept("bank"), pair.connect("hub")
    pair.receive(bank, transfer())
    pair.pass_ms(1_000)
    ((_, timeout),) = pair.due("a")
    pair.end(bank)
    answer = pair.offer(hub, status())
    assert pair.append("a", timeout, answer) == [True, True]
    assert not pair.state.transactions and len(pair.state.outcomes) == 1


def test_an_interim_status_of_the_target_decides_nothing(pair):
    bank, hub = pair.accept("bank"), pair.connect("hub")
    pair.receive(bank, transfer())
    assert isinstance(pair.receive(hub, status(code="PDNG")), Absorb)
    assert pair.only().stage is Stage.SENT


@pytest.mark.parametrize("answered", [False, True])
def test_what_is_owed_to_all_who_wait_fits_into_an_entry(monkeypatch, answered):
    """It did not, by the size of a wrapper that answers repeat: each node that was to propose a timeout ended.

    An answer ended the session of the network that gave it.
    """
    monkeypatch.setattr(engines, "FRAMER", Framer.of("4-byte-be", maximum=500_000))
    large = {"framing": "4-byte-be", "frame_max_bytes": 500_000}
    pair = Pair(rules(bank=large, hub={"connect": ["h:4"], "timeout_ms": 1_000, **large}))
    box = b'<w:Box xmlns:w="urn:%s">%%s</w:Box>' % (b"x" * 300_000)
    payload = box % transfer()
    banks, hub = [pair.accept("bank") for _ in range(4)], pair.connect("hub")
    for bank in banks:
        pair.receive(bank, payload)
    if answered:
        proposal = pair.receive(hub, box % status())
        assert isinstance(proposal, Answer)
    else:
        pair.pass_ms(1_500)
        ((_, proposal),) = pair.due("a")
        pair.append("a", proposal)
    assert len(encode(proposal)) <= PROPOSAL_BYTES_MAX
    told = [bool(pair.sent(bank, Role.ANSWER)) for bank in banks]
    assert True in told and False in told
    pair.receive(banks[told.index(False)], payload)
    assert pair.sent(banks[told.index(False)], Role.ANSWER), "when it asks again"
