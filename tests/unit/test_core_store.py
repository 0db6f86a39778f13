"""Advices from terminals: acknowledged and kept in one entry; reversals and their originals, in every order."""

import pytest
from engines import DIALECT, Pair, answer_to, card, reversal, rules

from messages.message import Decision
from switch.core.originals import HOLDERS_MAX, Standing, find
from switch.core.proposals import Absorb, AdviceSend, Refuse, Reply, Resend, Settle, Store
from switch.core.records import Role
from switch.core.rules import Limits, RulesError
from switch.core.wires import serviceable


@pytest.fixture
def pair():
    return Pair(rules(net={"timeout_ms": 1_000, "advice_retry_ms": 1_000}))


def approved(pair, terminal, net, number=1):
    pair.receive(terminal, card(number))
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.ack(terminal)
    pair.ack(net)


def lane(pair, link="net"):
    return [pair.state.advices[number] for number in pair.state.lanes.get(link, ())]


def fields(payload):
    return DIALECT.decode(payload).fields


def test_an_advice_is_acknowledged_once_it_is_kept_and_goes_out_when_the_link_is_there(pair):
    terminal = pair.accept()
    assert isinstance(pair.receive(terminal, card(mti="0220")), Store)
    assert pair.codes(terminal) == ["00"] and len(lane(pair)) == 1
    assert not pair.tend(), "the link is down"
    net = pair.connect()
    pair.tend()
    (advice,) = pair.sent(net, Role.ADVICE)
    assert advice[:4] == b"0220"
    pair.receive(net, answer_to(advice))
    assert not pair.state.advices


def test_its_repeat_is_answered_and_not_kept_again(pair):
    terminal = pair.accept()
    pair.receive(terminal, card(mti="0220"))
    assert isinstance(pair.receive(terminal, card(mti="0221")), Reply)
    assert pair.codes(terminal) == ["00", "00"] and len(lane(pair)) == 1


def test_a_terminal_that_leaves_before_the_answer_to_its_advice_reverses_nothing(pair):
    terminal = pair.accept()
    pair.receive(terminal, card(mti="0220"))
    pair.end(terminal, 0)
    assert not pair.state.undeliverable and len(lane(pair)) == 1


def test_a_reversal_names_its_original_as_it_was_sent_and_replaces_its_outcome(pair):
    terminal, net = pair.accept(), pair.connect()
    approved(pair, terminal, net)
    sent = pair.state.stans
    pair.receive(terminal, reversal())
    assert pair.codes(terminal) == ["00"]
    (advice,) = lane(pair)
    out = fields(advice.payload)
    assert out[90][:10] == f"0200{sent['net/a'] - 2:06d}", "the STAN that the network knows"
    assert out[90][10:20] == "0301100000" and out[90][20:31] == "00000123456"
    pair.ack(terminal)
    assert isinstance(pair.receive(terminal, card(1, mti="0201")), Reply)
    assert pair.codes(terminal) != ["00"], "the old approval is told to nobody"


@pytest.mark.parametrize("code", ["51", "05"])
def test_a_reversal_of_what_was_declined_is_acknowledged_and_goes_nowhere(pair, code):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.receive(net, answer_to(pair.forwarded(net), code))
    pair.receive(terminal, reversal())
    assert pair.codes(terminal) == [code, "00"] and not lane(pair)


def test_a_second_reversal_of_one_original_goes_nowhere(pair):
    terminal, net = pair.accept(), pair.connect()
    approved(pair, terminal, net)
    pair.receive(terminal, reversal())
    pair.receive(terminal, reversal(stan=777))
    assert len(lane(pair)) == 1 and pair.codes(terminal)[-1] == "00"


def test_the_switchs_own_reversal_and_the_terminals_reach_the_network_once(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.pass_ms(1_000)
    pair.tend()
    assert len(pair.sent(net, Role.ADVICE)) == 1
    pair.receive(terminal, reversal())
    pair.tend()
    assert len(pair.state.advices) == 1 and len(pair.sent(net, Role.ADVICE)) == 1


def test_while_the_original_is_in_flight_its_reversal_follows_the_answer(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.receive(terminal, reversal())
    assert not pair.tend(), "it waits"
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert pair.only().outcome.decision is Decision.DECLINED, "it is told as reversed"
    pair.tend()
    assert len(pair.sent(net, Role.ADVICE)) == 1
    identity = pair.only().summary.identity
    pair.ack(terminal)
    assert find(pair.state, "pos", identity)[0] is Standing.UNDONE


def test_one_that_waited_is_dropped_when_the_original_was_declined(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.receive(terminal, reversal())
    pair.receive(net, answer_to(pair.forwarded(net), "51"))
    assert not pair.state.advices and pair.codes(terminal) == ["00", "51"]


def test_one_that_waited_goes_out_when_the_original_timed_out_and_the_switch_sends_none(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.receive(terminal, reversal())
    pair.pass_ms(1_000)
    pair.tend()
    (advice,) = pair.sent(net, Role.ADVICE)
    assert fields(advice)[11] == f"{lane(pair)[0].stan:06d}" and len(pair.state.advices) == 1


def test_an_answer_that_was_offered_before_the_reversal_is_offered_anew(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    stale = pair.offer(net, answer_to(pair.forwarded(net)))
    pair.receive(terminal, reversal())
    assert pair.append("a", stale) == [False]
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert pair.codes(terminal)[0] == "00" and pair.codes(terminal)[1] != "00"


def test_a_reversal_that_overtakes_its_original_is_remembered_and_blocks_it(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, reversal())
    assert pair.codes(terminal) == ["00"] and len(lane(pair)) == 1
    pair.receive(terminal, card())
    assert not pair.sent(net, Role.FORWARD) and pair.codes(terminal)[-1] != "00"
    pair.receive(terminal, reversal(stan=900))
    assert len(lane(pair)) == 1, "nothing more is to be undone"


def test_a_request_that_was_offered_before_the_reversal_is_refused(pair):
    terminal, other, _ = pair.accept(), pair.accept(), pair.connect()
    stale = pair.offer(terminal, card())
    pair.receive(other, reversal())
    assert pair.append("a", stale) == [False]


def test_what_never_came_here_may_be_acknowledged_only():
    pair = Pair(rules(pos={"unknown_original": "acknowledge"}))
    terminal = pair.accept()
    pair.receive(terminal, reversal())
    assert pair.codes(terminal) == ["00"] and not lane(pair)


def test_advices_about_one_original_go_in_their_order_and_others_pass():
    pair = Pair(rules(net={"advice_window": 4, "advice_retry_ms": 1_000}))
    terminal, net = pair.accept(), pair.connect()
    approved(pair, terminal, net, 1)
    approved(pair, terminal, net, 2)
    named = card(1)
    original = DIALECT.decode(reversal()).fields[90]
    pair.receive(terminal, card(11, mti="0220", de90=original))
    pair.receive(terminal, reversal(1))
    pair.receive(terminal, reversal(2))
    pair.tend()
    first = [payload[:4] for payload in pair.sent(net, Role.ADVICE)]
    assert sorted(first) == [b"0220", b"0400"] and named
    pair.receive(net, answer_to(next(p for p in pair.sent(net, Role.ADVICE) if p[:4] == b"0220")))
    pair.tend()
    assert len(pair.sent(net, Role.ADVICE)) == 3


def test_a_partial_reversal_leaves_the_approval(pair):
    terminal, net = pair.accept(), pair.connect()
    approved(pair, terminal, net)
    pair.receive(terminal, reversal(de95=f"{400:012d}{0:012d}C00000000C00000000"))
    assert len(lane(pair)) == 1
    pair.ack(terminal)
    pair.receive(terminal, card(1, mti="0201"))
    assert pair.codes(terminal) == ["00"]


def test_a_confirmation_may_have_all_fields_of_its_original(pair):
    terminal, net = pair.accept(), pair.connect()
    approved(pair, terminal, net)
    pair.receive(terminal, card(1, mti="0202"))
    assert pair.codes(terminal) == ["00"] and len(lane(pair)) == 1
    assert isinstance(pair.receive(terminal, card(1, mti="0203")), Reply) and len(lane(pair)) == 1


def test_what_goes_out_has_the_business_date_of_its_day_and_a_reversal_its_originals(pair):
    terminal, net = pair.accept(), pair.connect()

    def cutover(date, stan):
        pair.receive(net, DIALECT.encode("0800", {7: "0301100000", 11: stan, 15: date, 70: "201"}))

    cutover("0302", "900001")
    approved(pair, terminal, net)
    cutover("0303", "900002")
    original = fields(reversal())[90]
    pair.receive(terminal, card(11, mti="0220", de90=original))
    pair.receive(terminal, reversal())
    pair.receive(terminal, reversal(9, stan=901))
    assert [fields(advice.payload).get(15) for advice in lane(pair)] == ["0303", "0302", None]


def test_more_advices_than_a_lane_holds_are_left_to_their_sender():
    pair = Pair(rules(net={"lane_max": 1}))
    terminal = pair.accept()
    kinds = [type(pair.receive(terminal, card(number, mti="0220"))) for number in range(1, 5)]
    assert kinds == [Store, Store, Absorb, Absorb]


def test_while_too_many_wait_for_an_operator_more_are_left_to_their_sender():
    pair = Pair(rules(net={"parked_max": 1}))
    terminal, net = pair.accept(), pair.connect()
    kinds = []
    for number in range(1, 5):
        kinds.append(type(pair.receive(terminal, card(number, mti="0220"))))
        for proposal in pair.tend():
            assert isinstance(proposal, AdviceSend)
            pair.receive(net, answer_to(pair.sent(net, Role.ADVICE)[-1], "12"))
    assert kinds == [Store, Store, Absorb, Absorb] and len(pair.state.parked["net"]) == 2
    pair.append("a", Settle(1, retry=False))
    assert isinstance(pair.receive(terminal, card(3, mti="0220")), Store)


def test_bounds_that_leave_too_few_stans_are_refused_in_a_file_and_applied_in_a_log():
    bounds = {"inflight_max": 50_000, "lane_max": 100_000, "parked_max": 100_000}  # what a node of before has taken
    pair = Pair(rules(net=bounds))
    with pytest.raises(RulesError, match=r"'net'.*too few STANs"):
        serviceable(pair.engines["a"].wires.values())


def test_all_of_it_survives_a_takeover_and_a_snapshot(pair):
    terminal, net = pair.accept(), pair.connect(node="b")
    pair.receive(terminal, card())
    pair.receive(terminal, reversal())
    pair.reload("b")
    pair.die("a", held=[terminal])
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.tend()
    assert pair.only().outcome.decision is Decision.DECLINED and len(pair.sent(net, Role.ADVICE)) == 1


def advice_and_reversal(original="0220"):
    named = f"{original}{1:06d}0301100000{'123456'.zfill(11)}{0:011d}"
    return card(1, mti=original), card(501, mti="0400", de7="0301100100", de37=f"{1:012d}", de90=named)


def test_an_advice_that_was_reversed_goes_first_and_its_repeat_is_still_acknowledged(pair):
    terminal = pair.accept()
    advice, undoing = advice_and_reversal()
    pair.receive(terminal, advice)
    pair.receive(terminal, undoing)
    assert [item.payload[:4] for item in lane(pair)] == [b"0220", b"0400"]
    pair.receive(terminal, card(1, mti="0221"))
    pair.receive(terminal, card(601, mti="0400", de37=f"{1:012d}", de90=fields(undoing)[90]))
    assert pair.codes(terminal) == ["00"] * 4 and len(lane(pair)) == 2


def test_a_reversal_that_overtakes_its_advice_blocks_it(pair):
    terminal, other = pair.accept(), pair.accept()
    advice, undoing = advice_and_reversal()
    stale = pair.offer(other, advice)
    pair.receive(terminal, undoing)
    assert pair.append("a", stale) == [False]
    pair.receive(other, advice)
    assert pair.codes(other) == ["00"] and [item.payload[:4] for item in lane(pair)] == [b"0400"]
    pair.receive(terminal, card(601, mti="0400", de37=f"{1:012d}", de90=fields(undoing)[90]))
    assert pair.codes(terminal) == ["00", "00"] and len(lane(pair)) == 1


def test_an_outcome_that_is_replaced_moves_to_the_open_segment():
    pair = Pair(rules(limits=Limits(segment_outcomes=1)))
    terminal, net = pair.accept(), pair.connect()
    approved(pair, terminal, net)
    closed = next(iter(pair.state.segments))
    pair.receive(terminal, reversal())
    assert closed not in pair.state.segments
    assert pair.loaded("b").state.hash() == pair.state.hash()


def test_no_track_and_no_pin_is_kept_in_a_lane(pair):
    terminal = pair.accept()
    pair.receive(terminal, card(mti="0220"))
    (advice,) = lane(pair)
    assert fields(advice.payload).keys().isdisjoint({35, 52}) and fields(advice.payload)[2] == "4111111111111111"


# --- what a review found


def test_a_reversal_made_before_its_original_was_sent_anew_is_made_again():
    """It names the original as it was sent before, and to whom."""
    pair = Pair(rules())
    terminal, other, net = pair.accept(), pair.accept(node="b"), pair.connect(slot=0)
    pair.receive(terminal, card())
    stale = pair.offer(other, reversal())
    pair.end(net, 0, written=0)
    again = pair.connect(slot=1)
    pair.receive(pair.accept(), card(2))  # takes the STAN that the first one had
    pair.append("a", *[item for _, item in pair.due("a")])
    moved = pair.state.transactions[1].reference
    assert pair.append("b", stale) == [moved == stale.original_reference]
    assert pair.sent(again, Role.FORWARD)


def test_what_is_followed_is_not_sent_anew(pair):
    terminal, net = pair.accept(), pair.connect(slot=0)
    pair.receive(terminal, card())
    pair.receive(terminal, reversal(de95=f"{400:012d}{0:012d}C00000000C00000000"))
    pair.end(net, 0, written=0)
    pair.connect(slot=1)
    assert not any(isinstance(item, Resend) for item in pair.tend())
    assert pair.only().outcome.decision is Decision.DECLINED


def test_an_approval_that_its_terminal_reverses_while_it_reached_nobody_is_told_to_nobody():
    pair = Pair(rules(pos={"redeliver": True}))
    one, two, net = pair.accept(), pair.accept(), pair.connect()
    pair.receive(one, card())
    pair.end(one, 0)
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.receive(two, reversal())
    pair.tend()
    assert pair.codes(two) == ["00"], "of the reversal alone"
    assert len(pair.state.advices) == 1


def test_an_advice_that_its_target_cannot_hold_is_not_acknowledged():
    pair = Pair(rules(net={"frame_max_bytes": 120}))
    terminal = pair.accept()
    assert isinstance(pair.receive(terminal, card(mti="0220")), Absorb)
    pair.connect()
    pair.tend()


def test_a_reversal_that_cannot_be_made_is_told_of():
    body = DIALECT.decode(card())
    short = DIALECT.assemble(body.mti, {number: part for number, part in body.raw.items() if number not in (35, 52)})
    pair = Pair(rules(net={"frame_max_bytes": len(short), "timeout_ms": 1_000}))
    terminal, _ = pair.accept(), pair.connect()
    pair.receive(terminal, short)
    pair.pass_ms(1_000)
    ((_, timeout),) = pair.due("a")
    assert pair.append("a", timeout) == [True] and "advice.impossible" in pair.notes


def test_what_was_refused_here_hides_no_approval(pair):
    terminal, net = pair.accept(), pair.connect()
    approved(pair, terminal, net)
    pair.end(net)
    pair.receive(terminal, card(1, de32="654321"))
    assert pair.codes(terminal)[-1] == "91"
    pair.receive(terminal, reversal())
    assert len(lane(pair)) == 1


def test_a_parked_advice_is_passed_by_none_about_the_same_original(pair):
    terminal, net = pair.accept(), pair.connect()
    approved(pair, terminal, net)
    original = DIALECT.decode(reversal()).fields[90]
    pair.receive(terminal, card(11, mti="0220", de90=original))
    pair.tend()
    pair.receive(net, answer_to(pair.sent(net, Role.ADVICE)[0], "30"))
    pair.receive(terminal, reversal())
    pair.tend()
    assert len(pair.sent(net, Role.ADVICE)) == 1
    pair.append("a", Settle(1, retry=False))
    pair.tend()
    assert len(pair.sent(net, Role.ADVICE)) == 2


def test_the_reversal_of_a_completion_goes_after_it(pair):
    terminal, net = pair.accept(), pair.connect()
    approved(pair, terminal, net)
    original = DIALECT.decode(reversal()).fields[90]
    pair.receive(terminal, card(11, mti="0220", de90=original))
    completion = f"0220{11:06d}0301100000{'123456'.zfill(11)}{0:011d}"
    pair.receive(terminal, card(700, mti="0400", de90=completion))
    pair.tend()
    assert [payload[:4] for payload in pair.sent(net, Role.ADVICE)] == [b"0220"]


def test_an_outcome_about_which_an_advice_waits_is_not_forgotten():
    pair = Pair(rules(limits=Limits(segment_outcomes=1, replay_window_ms=1_000)))
    terminal, net = pair.accept(), pair.connect()
    approved(pair, terminal, net)
    pair.end(net)
    pair.receive(terminal, reversal())
    pair.pass_ms(5_000)
    pair.tend()
    pair.receive(terminal, reversal(stan=900))
    assert len(lane(pair)) == 1, "it is known as undone"


def test_what_an_issuer_had_approved_and_does_not_find_is_parked(pair):
    terminal, net = pair.accept(), pair.connect()
    approved(pair, terminal, net)
    pair.receive(terminal, reversal())
    for number in range(3):
        pair.tend()
        pair.receive(net, answer_to(pair.sent(net, Role.ADVICE)[number], "25"))
        pair.pass_ms(9_000)
    assert pair.state.advices[1].parked == "25"


def test_messages_of_one_identity_are_bounded(pair):
    terminal, _ = pair.accept(), pair.connect()
    for number in range(20):
        pair.receive(terminal, card(1, de32=f"{number:06d}"))
    assert len(pair.state.transactions) == 16
    assert set(pair.codes(terminal)) == {"94"}


def test_so_many_advices_of_one_identity_are_kept_and_no_more(pair):
    terminal = pair.accept()
    crowd = [pair.receive(terminal, reversal(1, stan=700, de42=f"M{number:014d}")) for number in range(HOLDERS_MAX + 3)]
    assert [type(each) for each in crowd] == [Store] * HOLDERS_MAX + [Absorb] * 3
    assert isinstance(pair.receive(terminal, reversal(1, stan=700, de42=f"M{0:014d}")), Reply), "repeats are answered"
    assert isinstance(pair.receive(terminal, reversal(2, stan=701)), Store), "and others are kept"


def test_also_of_requests_whose_repeats_have_one(pair):
    terminal, _ = pair.accept(), pair.connect()
    for number in range(HOLDERS_MAX + 3):
        merchant = f"M{number:014d}"
        pair.receive(terminal, card(1, de42=merchant, de7=f"03011000{number:02d}"))
        pair.receive(terminal, card(1, de42=merchant, de7="0301110000"))
    assert max(map(len, pair.state.originals.values())) == HOLDERS_MAX
    assert len(pair.state.transactions) == HOLDERS_MAX + 3


def test_also_of_requests_that_are_refused(pair):
    terminal = pair.accept()
    pair.receive(terminal, reversal(1, stan=700))
    for number in range(HOLDERS_MAX + 3):
        refused = pair.receive(terminal, card(1, de42=f"M{number:014d}"))
        assert isinstance(refused, Refuse)
    assert max(map(len, pair.state.originals.values())) == HOLDERS_MAX
    assert isinstance(pair.receive(terminal, card(1, de42=f"M{HOLDERS_MAX + 2:014d}")), Reply), "repeats are answered"


def test_also_when_they_come_at_once(pair):
    terminal = pair.accept()
    for number in range(HOLDERS_MAX - 1):
        pair.receive(terminal, reversal(1, stan=700, de42=f"M{number:014d}"))
    other = pair.accept(node="b")
    one, two = (pair.offer(session, reversal(1, stan=700, de42=f"MERCHANT{session:>7}")) for session in (terminal, other))
    assert pair.append("a", one) == [True]
    assert pair.append("b", two) == [False]
