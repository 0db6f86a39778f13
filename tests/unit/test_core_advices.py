"""Advices: in the lane of their link until acknowledged, in a window, repeated, over any session."""

import pytest
from engines import DIALECT, Pair, answer_to, card, rules, transfer

from switch.core import tend
from switch.core.proposals import AdviceSend, Settle
from switch.core.records import Role

RETRY = {"timeout_ms": 500, "advice_retry_ms": 1_000, "advice_window": 2, "advice_tries_max": 2}


@pytest.fixture
def pair():
    return Pair(rules(net=RETRY))


def timed_out(pair, count=1):
    """Requests whose timeout left an advice each in the lane; none is sent yet."""
    terminal = pair.accept(node="a")
    for number in range(1, count + 1):
        pair.receive(terminal, card(number))
    pair.pass_ms(1_000)
    for subject, proposal in pair.due("a"):
        if not isinstance(proposal, AdviceSend):
            pair.append("a", proposal)
        pair.engines["a"].resolved(subject)
    assert len(pair.state.lanes["net"]) == count


def advices(pair, net):
    return pair.sent(net, Role.ADVICE)


def test_an_advice_waits_for_its_answer_and_then_is_gone(pair):
    net = pair.connect()
    timed_out(pair)
    pair.tend()
    (advice,) = advices(pair, net)
    pair.ack(net)
    assert len(pair.state.advices) == 1, "the remote kernel has it, the remote host may not"
    pair.receive(net, answer_to(advice))
    assert not pair.state.advices and not pair.state.advice_keys and not pair.state.stans_busy


def test_a_copy_whose_session_ends_is_not_waited_for_though_its_remote_had_it(pair):
    net = pair.connect()
    timed_out(pair)
    pair.tend()
    pair.ack(net)
    pair.end(net, pair.session(net).output)
    other = pair.connect()
    pair.tend()
    assert [payload[:4] for payload in advices(pair, other)] == [b"0421"]


def test_no_more_than_the_window_is_outstanding(pair):
    net = pair.connect()
    timed_out(pair, 5)
    pair.tend()
    assert len(advices(pair, net)) == 2
    pair.receive(net, answer_to(advices(pair, net)[0]))
    pair.tend()
    assert len(advices(pair, net)) == 3


def test_an_advice_without_an_answer_is_repeated_and_marked_so(pair):
    net = pair.connect()
    timed_out(pair)
    pair.tend()
    assert not pair.due("a")
    pair.pass_ms(1_000)
    pair.tend()
    first, second = advices(pair, net)
    assert (DIALECT.decode(first).mti[3], DIALECT.decode(second).mti[3]) == ("0", "1")
    assert first[4:] == second[4:]


def test_one_that_is_never_answered_is_parked_and_holds_up_no_other(pair):
    net = pair.connect()
    timed_out(pair, 4)
    for _ in range(4):
        pair.tend()
        pair.pass_ms(2_000)
    parked = {advice.id: advice.parked for advice in pair.state.advices.values()}
    assert [parked[1], parked[2]] == ["unanswered"] * 2
    assert len(advices(pair, net)) == 8, "each twice"
    assert list(pair.state.parked["net"])[:2] == [1, 2]


@pytest.mark.parametrize("reversed_meanwhile", [False, True])
def test_many_that_are_never_answered_hold_up_none_behind_them(monkeypatch, reversed_meanwhile):
    monkeypatch.setattr(tend, "LOOK_MAX", 3)
    pair = Pair(rules(net={"timeout_ms": 1_000, "advice_retry_ms": 500, "advice_retry_max_ms": 500, "echo_interval_ms": 0,
                           "advice_window": 2}))  # fmt: skip
    terminal, net = pair.accept(), pair.connect()
    for number in range(1, 12):
        pair.receive(terminal, card(number, mti="0220"))
    answered, lane = set(), 9 + reversed_meanwhile
    for _ in range(60):
        pair.tend()
        out = [each for each in pair.state.advices.values() if each.session and each.tries <= tend.PATIENT_TRIES]
        assert len([each for each in out if each.deadline_ms > pair.state.meta.clock_ms]) <= 2
        for payload in advices(pair, net):
            stan = int(DIALECT.decode(payload).fields[37])
            if stan in (9, 11) and stan not in answered:  # the others' issuer is away
                pair.receive(net, answer_to(payload))
                answered.add(stan)
            elif reversed_meanwhile and stan in (4, 5):  # one of those that are looked at: it waits for the first ones then
                original = f"0220{stan:06d}0301100000{'123456'.zfill(11)}{0:011d}"
                of = {"de7": "0301100100", "de37": f"{stan:012d}", "de90": original}
                pair.receive(terminal, card(stan + 500, mti="0420", **of))
                reversed_meanwhile = False
        pair.pass_ms(500)
    assert answered == {9, 11} and len(pair.state.lanes["net"]) == lane


def test_waits_are_doubled_up_to_a_bound_and_spread():
    pair = Pair(rules(net={**RETRY, "advice_tries_max": 9, "advice_window": 1, "advice_retry_max_ms": 3_000}))
    pair.connect()
    timed_out(pair)
    waits = []
    for _ in range(5):
        pair.tend()
        (advice,) = pair.state.advices.values()
        waits.append(advice.deadline_ms - pair.state.meta.clock_ms)
        pair.pass_ms(3_500)
    for wait, whole in zip(waits, [1_000, 2_000, 3_000, 3_000, 3_000], strict=True):
        assert 0.8 * whole <= wait <= whole, waits
    assert len(set(waits[2:])) > 1


def test_a_passing_refusal_is_tried_again_later_and_a_lasting_one_is_parked(pair):
    net = pair.connect()
    timed_out(pair)
    pair.tend()
    pair.receive(net, answer_to(advices(pair, net)[0], "91"))
    assert not pair.tend(), "not at once"
    pair.pass_ms(2_500)
    pair.tend()
    first, second = advices(pair, net)
    assert DIALECT.decode(second).mti[3] == "1" and first[4:] == second[4:], "the same STAN and DE90"
    pair.receive(net, answer_to(second, "30"))
    (advice,) = pair.state.advices.values()
    assert advice.parked == "30" and not pair.due("a")


def test_an_operator_tries_a_parked_one_again_or_settles_it(pair):
    net = pair.connect()
    timed_out(pair)
    pair.tend()
    pair.receive(net, answer_to(advices(pair, net)[0], "12"))
    assert pair.append("b", Settle(1, retry=True)) == [True]
    assert pair.append("b", Settle(1, retry=True)) == [False], "it is parked no more"
    pair.tend()
    first, second = advices(pair, net)
    assert DIALECT.decode(second).mti[3] == "1" and first[4:] == second[4:], "it has been there before"
    pair.receive(net, answer_to(second, "12"))
    assert pair.append("a", Settle(1, retry=False)) == [True]
    assert not pair.state.advices and not pair.state.stans_busy


def test_the_answer_that_comes_to_a_parked_one_settles_it(pair):
    net = pair.connect()
    timed_out(pair)
    for _ in range(4):
        pair.tend()
        pair.pass_ms(2_000)
    assert pair.state.advices[1].parked
    pair.receive(net, answer_to(advices(pair, net)[0]))
    assert not pair.state.advices


def test_what_is_not_found_is_tried_a_few_times_and_then_done_or_parked():
    for template, left in (("done", 0), ("park", 1)):
        pair = Pair(rules(net={**RETRY, "advice_tries_max": 9, "advice_not_found": template}))
        net = pair.connect()
        timed_out(pair)
        for number in range(3):
            assert pair.state.advices
            pair.tend()
            pair.receive(net, answer_to(advices(pair, net)[number], "25"))
            pair.pass_ms(9_000)
        pair.tend()
        assert len(pair.state.parked.get("net", ())) == len(pair.state.advices) == left


def test_an_old_one_is_parked():
    pair = Pair(rules(net={**RETRY, "advice_expires_ms": 5_000}))
    timed = pair.connect()
    timed_out(pair)
    pair.end(timed)
    pair.pass_ms(6_000)
    pair.connect()
    pair.tend()
    assert pair.state.advices[1].parked == "expired"


def test_a_lane_is_drained_at_its_rate():
    pair = Pair(rules(net={**RETRY, "advice_window": 9, "advice_rate_max": 2}))
    net = pair.connect()
    timed_out(pair, 5)
    counts = []
    for _ in range(4):
        pair.tend()
        counts.append(len(advices(pair, net)))
        pair.pass_ms(500)
    assert counts == [1, 2, 3, 4]


def test_the_end_of_the_session_that_carried_it_sends_it_over_another(pair):
    one, two = pair.connect(slot=0), pair.connect(node="b", slot=1)
    timed_out(pair)
    pair.tend()
    carrier = next(id_ for id_ in (one, two) if advices(pair, id_))
    pair.end(carrier)
    pair.tend()
    other = two if carrier == one else one
    (again,) = advices(pair, other)
    assert DIALECT.decode(again).mti[3] == "1"


def test_it_waits_while_the_link_is_down(pair):
    net = pair.connect()
    timed_out(pair)
    pair.end(net)
    assert not pair.due("a") and len(pair.state.advices) == 1
    again = pair.connect()
    pair.tend()
    assert len(advices(pair, again)) == 1


def test_a_copy_proposed_twice_goes_out_once(pair):
    net = pair.connect()
    timed_out(pair)
    ((_, send),) = pair.due("a")
    assert pair.append("a", send, send) == [True, False]
    assert len(advices(pair, net)) == 1


def test_the_lead_sends_and_after_its_death_the_other(pair):
    pair.connect(node="b")
    timed_out(pair)
    assert not pair.due("b")
    pair.die("a")
    assert [type(item) for item in pair.tend("b")] == [AdviceSend]


def test_one_that_needs_no_answer_is_done_when_the_remote_kernel_has_it():
    pair = Pair(rules(hub={"timeout_ms": 500}))
    bank, hub = pair.accept("bank"), pair.connect("hub")
    pair.receive(bank, transfer())
    pair.pass_ms(1_000)
    pair.tend()
    assert len(pair.state.advices) == 1 and not pair.state.advice_keys
    assert b"RJCT" in advices(pair, hub)[0]
    pair.ack(hub, pair.session(hub).output - 1)
    assert pair.state.advices
    pair.ack(hub)
    assert not pair.state.advices
