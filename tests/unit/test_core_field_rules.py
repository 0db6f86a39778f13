"""Field and presence rules in the engine: who sees which value, and how a flawed request ends."""

import msgspec
import pytest
from engines import DIALECT, UTC, Pair, answer_to, card, rules

from messages.iso8583 import Iso8583Options
from switch.core.proposals import Absorb, Refuse, Reply
from switch.core.records import Role
from switch.core.rules import RulesError
from switch.core.wires import serviceable, wires


def cards(**given: object) -> dict[str, object]:
    return {"iso8583": msgspec.convert({"sign_on": False, **given}, Iso8583Options)}


def pair_of(pos: dict[str, object] | None = None, net: dict[str, object] | None = None) -> Pair:
    return Pair(rules(pos=cards(**(pos or {})), net={"connect": ["h:3"], **cards(**(net or {}))}))


def plain(payload: bytes) -> dict[int, str]:
    return DIALECT.decode(payload).fields


TIMES = [{"field": name, "action": "set"} for name in ("7", "12", "13", "37")]


def test_the_network_sees_the_switchs_values_and_the_terminal_its_own():
    pair = pair_of(net={"field": [*TIMES, {"field": "32", "action": "set", "value": "999"}]})
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card(41))
    sent = plain(pair.forwarded(net))
    moment = "0528202640"
    assert (sent[7], sent[12], sent[13], sent[32]) == (moment, moment[4:], moment[:4], "999")
    assert sent[37] == f"614820{sent[11]}" and UTC == 1_780_000_000
    pair.receive(net, answer_to(pair.forwarded(net)))
    (answer,) = pair.sent(terminal, Role.ANSWER)
    assert {n: plain(answer)[n] for n in (7, 11, 12, 13, 32, 37)} == {
        n: plain(card(41))[n] for n in (7, 11, 12, 13, 32, 37)
    }


def test_a_repeat_after_the_answer_has_its_own_values_too():
    pair = pair_of(net={"field": TIMES}, pos={"field": [{"field": "12", "action": "set", "when": ["answer"]}]})
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card(41))
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.ack(terminal)
    assert isinstance(pair.receive(terminal, card(41, "0201")), Reply)
    answer = plain(pair.sent(terminal, Role.ANSWER)[-1])
    assert (answer[12], answer[37], answer[39]) == ("202640", plain(card(41))[37], "00")


def test_a_timeout_is_answered_and_reversed_by_the_rules():
    pair = pair_of(
        pos={"field": [{"field": "12", "action": "set", "when": ["answer"]}]},
        net={"field": [{"field": "32", "action": "set", "value": "999"}]},
    )
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.pass_ms(16_000)
    pair.tend()
    assert plain(pair.sent(terminal, Role.ANSWER)[-1])[12] == "202640"
    (reversal,) = [payload for payload in pair.sent(net) if payload.startswith(b"0420")]
    assert plain(reversal)[32] == "999"


PRESENCE = {"presence": [{"mti": ["02", "04"], "mandatory": ["60"]}], "format_error_field": "44"}


def test_a_flawed_request_is_declined_at_once_and_its_field_is_named():
    pair = pair_of(pos=PRESENCE)
    terminal, net = pair.accept(), pair.connect()
    assert isinstance(pair.receive(terminal, card()), Refuse)
    assert pair.codes(terminal) == ["30"] and plain(pair.sent(terminal, Role.ANSWER)[0])[44] == "060"
    assert pair.notes == ["request.flawed"] and not pair.sent(net) and not pair.state.transactions


def test_a_flawed_request_leaves_nothing_that_could_answer_its_correction():
    pair = pair_of(pos=PRESENCE)
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    assert not pair.state.outcomes
    pair.receive(terminal, card(de60="X"))
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert pair.codes(terminal) == ["30", "00"]


def test_a_flaw_does_not_replace_what_is_recorded_under_its_key():
    pair = pair_of(pos=PRESENCE)
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card(de60="X"))
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.receive(terminal, card())
    pair.receive(terminal, card(mti="0201", de60="X"))
    assert pair.codes(terminal) == ["00", "94", "00"]
    assert [44 in plain(payload) for payload in pair.sent(terminal, Role.ANSWER)] == [False] * 3


@pytest.mark.parametrize("mti", ["0220", "0420"])
def test_a_flawed_advice_is_told_so_and_kept_nowhere(mti):
    pair = pair_of(pos=PRESENCE)
    terminal = pair.accept()
    pair.connect()
    proposal = pair.receive(terminal, card(mti=mti))
    assert isinstance(proposal, Absorb) and "DE60 missing" in str(msgspec.to_builtins(proposal))
    (told,) = [plain(payload) for payload in pair.sent(terminal)]
    assert (told[39], told[44]) == ("30", "060") and not pair.state.outcomes and not pair.state.advices


def test_a_value_the_rules_do_not_know_is_a_format_error_at_the_source():
    pair = pair_of(net={"field": [{"field": "25", "action": "map", "values": {"59": "08"}, "default": "error"}]})
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    assert pair.codes(terminal) == ["30"] and not pair.sent(net)


def test_rules_that_cannot_work_are_refused_with_their_link():
    with pytest.raises(RulesError, match=r"'net'.*field rule drop of field '37'"):
        pair_of(net={"field": [{"field": "37", "action": "drop"}]})


def test_a_rule_that_would_stop_our_own_sign_on_or_echo_is_refused_where_it_is_given():
    """It is due to nobody's request: it failed as a timer, which ended one node after the other."""
    strict = {"field": "70", "action": "map", "values": {"001": "061"}, "default": "error", "when": ["network"]}
    echoing = {"echo_interval_ms": 1_000}

    def net(field, **more):
        return rules(net={**cards(field=[field], sign_on=True), **more})

    with pytest.raises(RulesError, match=r"'net': its own echo.*DE70"):
        serviceable(wires(net(strict, **echoing), {}).values())
    with pytest.raises(RulesError, match=r"'net': its own sign_on.*DE70"):
        serviceable(wires(net({**strict, "values": {"301": "361"}}), {}).values())
    for fitting in (
        net({**strict, "values": {"001": "061", "301": "361"}}, **echoing),  # it never signs off
        net(strict, echo_interval_ms=0),
        net({**strict, "values": {"999": "998"}}, connect=[], listen={"a": "h:1"}),
    ):
        serviceable(wires(fitting, {}).values())
    pair = Pair(net(strict, **echoing))  # of those in the log no node ends
    session = pair.connect()
    pair.tend()
    (sign_on,) = pair.sent(session, Role.NETWORK)
    pair.receive(session, answer_to(sign_on))
    pair.pass_ms(1_500)
    pair.tend()
    assert session in pair.state.sessions and pair.sent(session, Role.NETWORK) == [sign_on]


def test_a_rule_that_an_administrative_message_does_not_pass_leaves_the_bytes_unanswered():
    """It failed outside of any message: who read the frame ended, and then its heir."""
    pos = {**cards(field=[{"field": "44", "action": "copy", "from": "48"}]), "unparseable": "advise"}
    pair = Pair(rules(pos=pos))
    proposal = pair.unreadable(pair.accept(), b"not a message")
    assert isinstance(proposal, Absorb) and not proposal.frame
