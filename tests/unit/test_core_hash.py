"""The hash of the state: equal for equal items however they came to be, and different for any difference."""

import msgspec
import pytest
from engines import Pair, answer_to, card

from switch.core.records import Out, Role, Session
from switch.core.state import State


def session(*outs, **changes):
    given = {"id": "s", "link": "net", "owner": "a1", "slot": 0, "cookie": "c", "remote": "r", "local": "l"}
    given |= {"connected": True, "ready": True, "output": sum(len(out.data) for out in outs), "outbox": outs}
    return Session(**{**given, **changes})


def out(offset, data, role=Role.FORWARD, ref=1):
    return Out(offset, data, role, ref)


def hash_of(*items):
    state = State()
    for item in items:
        state.put_session(item.id, item)
    state.commit()
    return state.hash()


def test_it_is_the_same_whatever_lay_between_and_however_often_it_was_asked():
    one, two = State(), State()
    first, second = session(out(0, b"abc")), session(out(0, b"abc"), out(3, b"de"))
    one.put_session("s", first)
    one.hash()
    one.put_session("t", first)
    one.put_session("s", second)
    one.hash()
    one.put_session("t", None)
    two.put_session("s", second)
    assert one.hash() == two.hash()


def test_frames_that_come_and_go_between_two_hashes_leave_no_trace():
    state = State()
    state.put_session("s", session())
    before = state.hash()
    state.put_session("s", session(out(0, b"abc")))
    state.put_session("s", session())
    assert state.hash() == before


@pytest.mark.parametrize(
    "other",
    [
        session(out(0, b"abd"), out(3, b"de")),
        session(out(0, b"abc"), out(3, b"de", ref=2)),
        session(out(0, b"abc"), out(3, b"de", role=Role.ANSWER)),
        session(out(0, b"abcd"), out(4, b"e")),
        session(out(0, b"abc")),
        session(out(3, b"de"), output=5, acked=3),
        session(out(0, b"abc"), out(3, b"de"), acked=1),
        session(out(0, b"abc"), out(3, b"de"), piece=b"x"),
        session(out(0, b"abc"), out(3, b"de"), owner="b1"),
    ],
)
def test_any_difference_of_a_session_and_its_output_shows(other):
    assert hash_of(session(out(0, b"abc"), out(3, b"de"))) != hash_of(other)


def test_equal_frames_of_two_sessions_do_not_cancel_out():
    frames = out(0, b"abc"), out(3, b"de")
    one = hash_of(session(*frames), session(id="t"))
    assert one != hash_of(session(), session(*frames, id="t"))


def test_what_was_rolled_back_never_was():
    pair = Pair()
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    state, before = pair.state, pair.state.hash()
    held = msgspec.structs.replace(pair.session(net), acked=1)
    state.put_session(net, held)
    state.put_session(net, None)
    state.put_transaction(1, None)
    state.put_stan("net/a", 99)
    state.put_meta(None, msgspec.structs.replace(state.meta, advice=7))
    state.put_outcome(b"x", None)
    state.roll_back()
    assert state.hash() == before
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert pair.codes(terminal) == ["00"]


def test_a_hash_asked_for_in_the_middle_of_what_is_rolled_back_does_no_harm():
    pair = Pair()
    terminal = pair.accept()
    before = pair.state.hash()
    pair.state.put_session(terminal, None)
    pair.state.hash()
    pair.state.roll_back()
    assert pair.state.hash() == before


@pytest.mark.parametrize("size", [10, 5_000])
def test_each_byte_of_a_frame_counts_in_a_short_outbox_and_a_long_one(size):
    frames = [b"x" * size, b"x" * (size - 1) + b"y", b"y" + b"x" * (size - 1)]
    assert len({hash_of(session(out(0, data))) for data in frames}) == 3
