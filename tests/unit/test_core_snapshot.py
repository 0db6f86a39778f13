"""Snapshots: what is written is read back, as it was at one index, whatever was applied meanwhile."""

import msgspec
import pytest
from engines import Pair, answer_to, card, rules, status, transfer

from switch.core import snapshot
from switch.core.proposals import Piece
from switch.core.records import Breaker, CardUse, Rate
from switch.core.rules import Limits


def encoded(view):
    return list(view.chunks()), {name: encode() for name, encode in view.segments().items()}


def busy():
    """Every table has items: pieces, waiters, pending and finished requests, advices, open and closed segments."""
    pair = Pair(rules(net={"timeout_ms": 500}, limits=Limits(segment_outcomes=2, journal_waiting_max=100)))
    terminal, net, bank, hub = pair.accept(), pair.connect(), pair.accept("bank"), pair.connect("hub")
    for number in range(1, 6):
        pair.receive(terminal, card(number))
        pair.receive(net, answer_to(pair.forwarded(net)))
        pair.ack(terminal)
    pair.receive(terminal, card(6))
    pair.pass_ms(500)
    pair.tend()
    pair.receive(terminal, card(7))
    pair.receive(bank, transfer(1))
    pair.receive(bank, transfer(2))
    pair.receive(hub, status(2))
    pair.append("a", Piece(bank, pair.session(bank).applied, pair.session(bank).applied + 3, b"\0\x10<"))
    return pair


def test_every_table_comes_back_as_it_was():
    pair = busy()
    for engine in pair.engines.values():
        engine.state.put_mark("a frame", 1)
        engine.state.put_date("net", "0301")
        engine.state.put_breaker("net", Breaker(2, True))
        engine.state.put_pace("net", 7)
        engine.state.put_rate("link/net", Rate(5, 1))
        engine.state.put_card(b"account", CardUse(3, 1, 100))
        engine.state.commit()
    for name in snapshot.TABLES:
        assert getattr(pair.state, name), name
    view = snapshot.View(pair.state)
    chunks, segments = encoded(view)
    copy = snapshot.load(view.index, chunks, segments)
    for name in snapshot.TABLES:
        assert getattr(copy, name) == getattr(pair.state, name), name
    assert copy.hash() == pair.state.hash() and copy.index == pair.index


def test_a_view_is_of_its_index_though_it_is_encoded_later():
    pair = busy()
    view, hashed = snapshot.View(pair.state), pair.state.hash()
    for number in range(10, 16):
        pair.receive(next(iter(pair.state.sessions)), card(number))
        pair.tend()
    chunks, segments = encoded(view)
    copy = snapshot.load(view.index, chunks, segments)
    assert copy.hash() == hashed != pair.state.hash()


def test_a_copy_goes_on_like_the_one_it_was_taken_from():
    pair = busy()
    pair.engines["b"] = pair.loaded("b")
    pair.engines["b"].become("b1")
    net = next(id_ for id_ in pair.state.sessions if id_.startswith("net"))
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.pass_ms(2_000)
    pair.tend()
    for id_ in list(pair.state.sessions):
        pair.end(id_, 0)
    assert pair.engines["a"].state.hash() == pair.engines["b"].state.hash()


def test_closed_segments_never_change():
    pair = busy()
    before = encoded(snapshot.View(pair.state))[1]
    terminal = pair.accept()
    for number in range(20, 26):
        pair.receive(terminal, card(number))
    after = encoded(snapshot.View(pair.state))[1]
    assert before and before.items() <= after.items()


def test_a_forgotten_segment_is_gone_from_the_next_snapshot_and_a_late_file_of_it_is_noticed():
    pair = Pair(rules(limits=Limits(segment_outcomes=1, replay_window_ms=1_000)))
    terminal = pair.accept()
    pair.receive(terminal, card())
    _, old = encoded(snapshot.View(pair.state))
    pair.pass_ms(1_000)
    pair.tend()
    view = snapshot.View(pair.state)
    chunks, segments = encoded(view)
    assert old and not segments
    with pytest.raises(snapshot.SnapshotError):
        snapshot.load(view.index, chunks, old)


def test_slices_are_small_and_read_back_together():
    pair = Pair()
    for number in range(1, 301):
        pair.state.put_stan(f"x{number}/a", number)
    pair.state.commit()
    view = snapshot.View(pair.state)
    chunks = list(view.chunks())
    assert len(chunks) == 2
    assert snapshot.load(view.index, chunks, {}).stans == pair.state.stans


@pytest.mark.parametrize("harm", ["bytes", "index", "missing", "unknown table", "header", "depth"])
def test_a_damaged_snapshot_is_named_so(harm):
    pair = busy()
    view = snapshot.View(pair.state)
    chunks, segments = encoded(view)
    index = view.index
    if harm == "bytes":
        chunks[0] = chunks[0].replace(b"pos", b"pox")
    elif harm == "index":
        index += 1
    elif harm == "missing":
        segments.popitem()
    elif harm == "unknown table":
        chunks.append(snapshot.LAST + msgspec.msgpack.encode([("nothing", 1, 2)]))
    elif harm == "depth":
        chunks.append(snapshot.LAST + b"\x91\x93\xa5marks\xa1x" + b"\x91" * 5000)
    else:
        chunks[0] = b"\xc1"
    with pytest.raises(snapshot.SnapshotError):
        snapshot.load(index, chunks, segments)
