"""Sessions: opening, slots, pieces, keep-alives, sign-on, echo, sign-off, moving and ending."""

import pytest
from engines import FRAMER, UTC, Pair, answer_to, card, link, network, rules

from messages.iso8583.options import Iso8583Options
from messages.message import MessageError, NetworkFunction
from switch.core.proposals import (
    Absorb,
    Connected,
    End,
    Leave,
    Move,
    NetworkAnswer,
    NetworkSend,
    Open,
    Piece,
    Refuse,
    Request,
)
from switch.core.records import Role

SIGN_ON = {"iso8583": Iso8583Options(sign_on=True), "network_timeout_ms": 1_000, "echo_interval_ms": 5_000}


@pytest.fixture
def pair():
    return Pair(rules(net=SIGN_ON, pos={"sessions_max": 2, "keepalive": "echo"}))


def signed_on(pair, node="a"):
    net = pair.connect(node=node)
    pair.tend()
    pair.receive(net, answer_to(pair.sent(net, Role.NETWORK)[-1]))
    assert pair.session(net).ready
    return net


def opened(id_, name, slot):
    return Open(id_, name, slot, "boot:1", "r:1", "l:1", "")


def test_a_slot_holds_one_session_and_a_listener_as_many_as_it_may(pair):
    pair.connect(slot=1)
    assert pair.append("b", opened("x", "net", 1), opened("y", "net", 2), opened("z", "nowhere", -1)) == [False] * 3
    first, _ = pair.accept(), pair.accept()
    assert pair.append("b", opened("w", "pos", -1), opened(first, "pos", -1)) == [False, False]
    pair.end(first)
    assert pair.append("b", opened("w", "pos", -1)) == [True]


def test_who_has_left_opens_nothing_more(pair):
    pair.append("b", Leave())
    assert pair.append("b", opened("late", "net", 0)) == [False]
    assert pair.append("a", opened("mine", "net", 0)) == [True]


def test_an_outbound_session_carries_nothing_before_it_is_connected_and_signed_on(pair):
    terminal = pair.accept()
    pair.append("a", opened("n", "net", 0))
    assert isinstance(pair.offer(terminal, card()), Refuse)
    assert pair.append("b", Connected("n", "l")) == [False]
    assert pair.append("a", Connected("n", "l"), Connected("n", "l")) == [True, False]
    assert isinstance(pair.offer(terminal, card()), Refuse)
    assert [type(item) for item in pair.tend()] == [NetworkSend]
    pair.receive("n", answer_to(pair.sent("n", Role.NETWORK)[-1]))
    assert isinstance(pair.offer(terminal, card()), Request)


def test_a_refused_sign_on_is_not_sent_again_at_once_and_the_session_ends(pair):
    net = pair.connect()
    pair.tend()
    end = pair.session(net).applied + 50
    refused = NetworkAnswer(net, pair.session(net).applied, end, pair.session(net).network.match_key, False)
    assert pair.append("a", refused) == [True]
    assert "link.sign_on_refused" in pair.notes
    assert not pair.due("a") and not pair.session(net).ready
    pair.pass_ms(1_000)
    assert [type(item) for item in pair.tend()] == [End] and net not in pair.state.sessions


def test_silence_makes_an_echo_and_no_answer_to_it_ends_the_session(pair):
    net = signed_on(pair)
    pair.pass_ms(4_900)
    assert not pair.tend()
    pair.pass_ms(500)
    (echo,) = pair.tend()
    assert echo.function is NetworkFunction.ECHO
    pair.receive(net, answer_to(pair.sent(net, Role.NETWORK)[-1]))
    assert pair.session(net).network is None and not pair.tend()
    pair.pass_ms(5_500)
    pair.tend()
    pair.pass_ms(1_000)
    assert [type(item) for item in pair.tend()] == [End]


def test_a_session_that_the_switch_ends_by_itself_undoes_nothing_that_may_have_arrived():
    given = rules(net={"echo_interval_ms": 500, "network_timeout_ms": 500, "timeout_ms": 60_000})
    given.routes[0].source[:], given.routes[0].targets[:] = ["net"], ["pos"]
    pair = Pair(given)
    net, issuer = pair.connect(), pair.accept()
    pair.receive(net, card())
    pair.receive(issuer, answer_to(pair.forwarded(issuer)))
    pair.pass_ms(600)
    pair.tend()
    pair.pass_ms(600)
    pair.tend()
    assert net not in pair.state.sessions and not pair.state.undeliverable and not pair.state.advices


def test_a_network_that_signs_off_gets_no_requests_until_it_signs_on(pair):
    terminal, net = pair.accept(), signed_on(pair)
    pair.receive(net, network("0800", "002"))
    assert pair.sent(net, Role.NETWORK)[-1].startswith(b"0810")
    assert isinstance(pair.offer(terminal, card()), Refuse) and not pair.due("a")
    pair.receive(net, network("0800", "001"))
    assert isinstance(pair.offer(terminal, card()), Request)


def test_a_network_that_stays_signed_off_is_connected_anew(pair):
    net = signed_on(pair)
    pair.receive(net, network("0800", "002"))
    pair.pass_ms(1_000)
    assert [type(item) for item in pair.tend()] == [End]


def test_a_sign_on_of_the_network_is_no_answer_to_ours(pair):
    net = pair.connect()
    pair.tend()
    pair.receive(net, network("0800", "001"))
    assert not pair.session(net).ready and pair.session(net).network is not None


def test_an_answer_to_no_question_of_ours_is_absorbed(pair):
    net = signed_on(pair)
    assert isinstance(pair.receive(net, network("0810", "301", stan=999)), Absorb)


def test_a_keep_alive_is_echoed_where_the_link_says_so(pair):
    terminal = pair.accept()
    pair.receive(terminal, b"")
    (out,) = pair.outs(terminal)
    assert out.data == FRAMER.frame(b"")


def test_pieces_gather_until_the_frame_is_whole_and_are_bounded():
    pair = Pair(rules(pos={"frame_max_bytes": 300}))
    terminal, _ = pair.accept(), pair.connect()
    data = FRAMER.frame(card())
    engine = pair.engines["a"]
    assert pair.append("a", Piece(terminal, 0, 10, data[:10]), Piece(terminal, 10, 20, data[10:20])) == [True, True]
    assert pair.session(terminal).piece == data[:20]
    frame = FRAMER.cut(data).frames[0]
    assert pair.append("a", engine.offer(pair.session(terminal), 20, len(data), frame, 0, UTC)) == [True]
    assert pair.session(terminal).piece == b"" and pair.session(terminal).applied == len(data)
    assert pair.append("a", Piece(terminal, len(data), len(data) + 700, b"x" * 700)) == [False]


def test_what_is_no_message_is_said_so_to_who_offers_it(pair):
    terminal = pair.accept()
    with pytest.raises(MessageError):
        pair.offer(terminal, b"0200 this is none")


def test_the_end_is_the_owners_and_comes_once(pair):
    terminal = pair.accept(node="a")
    assert pair.append("b", End(terminal, 0, "x")) == [False]
    assert pair.append("a", End(terminal, 0, "x"), End(terminal, 0, "x")) == [True, False]


def test_a_session_that_moves_is_the_others_from_that_entry_on(pair):
    terminal, _ = pair.accept(node="a"), signed_on(pair, "b")
    stale = pair.offer(terminal, card())
    assert pair.append("a", Move((terminal, "gone"), "b1")) == [True]
    assert pair.append("a", stale) == [False]
    assert pair.append("b", stale) == [True]
    assert pair.append("a", Move((terminal,), "b1")) == [True] and pair.node_of(terminal) == "b"


def test_a_session_moves_only_to_a_node_that_lives(pair):
    terminal = pair.accept(node="a")
    pair.die("b")
    assert pair.append("a", Move((terminal,), "b1")) == [False] and pair.node_of(terminal) == "a"


def test_a_link_without_sign_on_is_ready_when_connected():
    pair = Pair(rules())
    assert pair.session(pair.connect()).ready and not pair.tend()
    assert link("net", connect=["h:1"]).outbound
