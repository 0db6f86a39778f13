"""Data keys: made when needed, shared by both nodes, and destroyed when nothing needs them, so that nothing gives them back."""

import contextlib
import gc
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from engines import FRAMER, Pair, answer_to, card
from msgspec.structs import replace
from sealing_pair import SealingPair

from switch import datakeys
from switch.core.proposals import Absorb, EntryError, Piece, decode_entry, encode_entry
from switch.core.records import Out, Role
from switch.core.sealed import Sealed, sealed_in
from switch.datakeys import SLOTS, VERSION, DataKeys, KeyGone, in_memory

PLAIN = b"4111111111111111=28121011234567890"


@pytest.fixture
def pair(tmp_path: Path) -> SealingPair:
    return SealingPair(tmp_path / "data-keys")


def key_ids(pair: SealingPair) -> list[tuple[str, int]]:
    return [(slot.node, slot.incarnation) for slot in pair.keys["b"]._slots()]


def keys_in(path: Path) -> set[bytes]:
    """The keys themselves, as whoever reads the file finds them."""
    data = path.read_bytes()
    size = datakeys.SLOT_BYTES
    slots = (data[at : at + size] for at in range(0, 2 * SLOTS * size, size))
    return {slot[-datakeys.KEY_BYTES :] for slot in slots} - {bytes(datakeys.KEY_BYTES)}


def held_by(root: Any) -> Iterator[Any]:
    """Everything that can be reached from an object, but for modules and classes."""
    found, todo = {id(root)}, [root]
    while todo:
        item = todo.pop()
        yield item
        for each in gc.get_referents(item):
            if id(each) not in found and not isinstance(each, ModuleType | type):
                found.add(id(each))
                todo.append(each)


def forward(pair: SealingPair) -> tuple[str, Sealed]:
    """A request on its way: the session that it goes out on, and what stands in its outbox."""
    net = pair.connect(node="a")
    pair.receive(pair.accept(node="a"), card(1))
    ((out),) = pair.outs(net, Role.FORWARD)
    assert isinstance(out.data, Sealed)
    return net, out.data


# --- sealing


def test_what_one_node_seals_both_open_and_so_does_the_next_process(tmp_path: Path) -> None:
    a, b = (DataKeys(tmp_path / "k", node, 5) for node in "ab")
    sealed = a.seal(PLAIN)
    assert len(sealed) == len(PLAIN) and PLAIN not in sealed.value
    assert a.open(sealed) == b.open(sealed) == DataKeys(tmp_path / "k", "a", 5).open(sealed) == PLAIN
    assert b.open(b.seal(PLAIN)) == PLAIN and b.seal(PLAIN).key != sealed.key


def test_the_same_is_sealed_differently_each_time_and_the_next_process_uses_no_key_again(tmp_path: Path) -> None:
    keys = DataKeys(tmp_path / "k", "a", 5)
    values = [keys.seal(PLAIN) for _ in range(10)]
    assert len({each.value for each in values}) == 10 and len({each.key for each in values}) == 1
    assert DataKeys(tmp_path / "k", "a", 5).seal(PLAIN).key != values[0].key


def test_no_altered_byte_goes_unnoticed(tmp_path: Path) -> None:
    keys = DataKeys(tmp_path / "k", "a", 5)
    sealed = keys.seal(PLAIN)
    for position in range(len(sealed.value)):
        altered = bytearray(sealed.value)
        altered[position] ^= 1
        with pytest.raises(KeyGone):
            keys.open(Sealed(bytes(altered)))


def test_what_is_too_short_to_be_sealed_is_no_entry() -> None:
    for length, fits in ((31, False), (32, True)):
        body = encode_entry([Piece("s", 0, 1, Sealed(bytes(length)))])
        with contextlib.nullcontext() if fits else pytest.raises(EntryError):
            decode_entry(body)


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    DataKeys(tmp_path / "k", "a", 5)
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600


def test_nothing_is_sealed_in_entries_that_older_software_applies(pair: SealingPair) -> None:
    pair.connect()
    request = pair.offer(pair.accept(), card(1))
    assert pair.keys["a"].sealed(request, VERSION - 1) is request
    sealed = pair.keys["a"].sealed(request, VERSION)
    (again,) = decode_entry(encode_entry([sealed]))
    assert again == sealed and pair.keys["b"].open(again.frame) == request.frame
    assert pair.keys["a"].sealed(sealed, VERSION) is sealed  # once
    absorb = Absorb("s", 0, 1, "")
    assert pair.keys["a"].sealed(absorb, VERSION) is absorb


def test_a_frame_in_pieces_is_whole_again_whichever_of_them_are_sealed(pair: SealingPair) -> None:
    terminal, data = pair.accept(), FRAMER.frame(card(1))
    assert Pair.append(pair, "a", Piece(terminal, 0, 10, data[:10])) == [True]  # before the version was activated
    assert pair.append("a", Piece(terminal, 10, 20, data[10:20]), Piece(terminal, 20, 30, data[20:30])) == [True, True]
    session = pair.session(terminal)
    assert session.held == 30 and pair.keys["b"].piece(session) == data[:30]
    assert [type(part) for part in session.piece] == [bytes, Sealed, Sealed]
    pair.reload("b")
    assert pair.engines["b"].state.sessions[terminal] == session
    assert pair.append("a", Piece(terminal, 30, 140_000, bytes(139_970))) == [False]  # longer than a frame may be
    assert len(list(sealed_in(pair.state))) == 2


# --- destroying


def test_a_key_that_nothing_needs_is_in_no_file_and_no_object_and_what_it_sealed_no_longer_opens(pair: SealingPair) -> None:
    net, sealed = forward(pair)
    assert pair.keys["a"].open(sealed) == pair.keys["b"].open(sealed)
    (key,) = keys_in(pair.path)
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.ack(net)
    assert pair.keys["a"].rotate(pair.index)
    pair.settle()
    assert key not in pair.path.read_bytes() and keys_in(pair.path) == set()
    assert key_ids(pair) == []
    for keys in pair.keys.values():
        held = list(held_by(keys))
        assert not any(isinstance(each, AESGCM) for each in held)
        assert not any(key in each for each in held if isinstance(each, bytes | bytearray))
        with pytest.raises(KeyGone):
            keys.open(sealed)
    # what is still there opens nothing either: the log, to the end
    bodies = b"".join(body for _, body in pair.log)
    assert sealed.value in bodies and PLAIN not in bodies


def test_a_key_lives_as_long_as_something_on_its_way_is_sealed_with_it(pair: SealingPair) -> None:
    net, sealed = forward(pair)
    pair.keys["a"].rotate(pair.index)
    pair.settle()
    assert pair.keys["b"].open(sealed)
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.settle()
    assert pair.keys["b"].open(sealed)  # answered, but a part of it may have to be written by an heir
    pair.ack(net)
    pair.settle()
    assert key_ids(pair) == []


def test_a_key_is_kept_until_what_it_sealed_last_is_decided_by_the_log(pair: SealingPair) -> None:
    pair.connect()
    terminal = pair.accept()
    request = pair.keys["a"].sealed(pair.offer(terminal, card(1)), VERSION)  # sealed, and not in the log yet
    beats = [(node, engine.heartbeat(pair.now_ms)) for node, engine in pair.engines.items()]
    pair.keys["a"].rotate(pair.index)
    pair.tend_keys("a")
    for node, beat in beats:  # made before the last use
        pair.append(node, beat)
    pair.tend_keys("a")
    assert key_ids(pair) == [("a", 1)]
    assert pair.append("a", request) == [True]
    pair.settle()
    assert key_ids(pair) == [("a", 1)]


def test_a_key_is_kept_until_the_peer_has_applied_as_much(pair: SealingPair) -> None:
    net, _ = forward(pair)
    pair.ack(net)
    pair.keys["a"].rotate(pair.index)
    a, b = pair.engines["a"], pair.engines["b"]
    behind = pair.state.incarnations["b1"].applied
    for _ in range(4):
        pair.now_ms += 250
        pair.append("a", a.heartbeat(pair.now_ms))
        pair.append("b", replace(b.heartbeat(pair.now_ms), applied=behind))
        pair.tend_keys("a")
    assert key_ids(pair) == [("a", 1)]
    pair.settle()
    assert key_ids(pair) == []


def test_keys_of_the_dead_are_destroyed_by_their_heir_and_those_of_the_living_are_not(pair: SealingPair) -> None:
    net, sealed = forward(pair)
    pair.keys["b"].seal(PLAIN)
    pair.settle()
    pair.die("a", held=list(pair.state.sessions))
    pair.settle()
    assert pair.keys["b"].open(sealed)  # the heir has it to write
    pair.ack(net)
    pair.settle()
    assert key_ids(pair) == [("b", 1)]


def test_after_both_died_the_next_lives_open_what_was_left_and_then_destroy_it(pair: SealingPair) -> None:
    net, sealed = forward(pair)
    held = list(pair.state.sessions)
    pair.die("a", held=held)
    pair.restart("a")  # b has died meanwhile
    pair.die("b", held=held)
    fresh = DataKeys(pair.path, "a", 5)
    assert fresh.open(sealed)
    pair.ack(net)
    pair.settle()
    assert key_ids(pair) == []


def test_a_key_of_a_life_that_the_state_does_not_know_yet_is_left_alone(pair: SealingPair) -> None:
    newer = DataKeys(pair.path, "a", 5)
    newer.begin(2)  # its join is in the log, and not applied here
    sealed = newer.seal(PLAIN)
    pair.die("a")
    pair.settle()
    assert pair.keys["b"].open(sealed) == PLAIN


def test_an_old_key_is_retired_by_its_age(pair: SealingPair, monkeypatch: pytest.MonkeyPatch) -> None:
    net, sealed = forward(pair)
    pair.ack(net)
    pair.settle()
    assert key_ids(pair) == [("a", 1)] and pair.keys["a"].health()["alive"] == 1
    monkeypatch.setattr(datakeys.time, "monotonic", lambda now=datakeys.time.monotonic: now() + 301)
    pair.settle()
    assert key_ids(pair) == [] and pair.keys["a"].health() == {"age_s": None, "alive": 0}
    assert pair.keys["a"].seal(PLAIN).key != sealed.key


# --- what if the process dies right here?


def test_who_dies_while_it_writes_a_key_leaves_none(pair: SealingPair, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(at: str) -> None:
        if at == "key.before":
            raise SystemExit

    monkeypatch.setattr(datakeys, "reach", dies)
    with pytest.raises(SystemExit):
        pair.keys["a"].seal(PLAIN)
    assert key_ids(pair) == [] and keys_in(pair.path) == set()


def test_who_dies_while_it_destroys_a_key_has_destroyed_it(pair: SealingPair, monkeypatch: pytest.MonkeyPatch) -> None:
    net, sealed = forward(pair)
    pair.ack(net)
    pair.keys["a"].rotate(pair.index)

    def dies(at: str) -> None:
        if at == "destroy.after":
            raise SystemExit

    monkeypatch.setattr(datakeys, "reach", dies)
    with pytest.raises(SystemExit):
        pair.settle()
    assert keys_in(pair.path) == set() and len(key_ids(pair)) == 1
    monkeypatch.undo()
    with pytest.raises(KeyGone):
        DataKeys(pair.path, "b", 5).open(sealed)
    pair.die("a")
    pair.settle()
    assert key_ids(pair) == []


def test_after_a_restart_of_the_host_state_and_snapshot_load_and_only_what_was_on_its_way_is_gone(
    pair: SealingPair, tmp_path: Path
) -> None:
    net, sealed = forward(pair)
    engine = pair.loaded("a")  # needs no data key
    assert engine.state.hash() == pair.state.hash()
    assert engine.state.sessions[net].outbox == (Out(0, sealed, Role.FORWARD, 1),)
    with pytest.raises(KeyGone):
        DataKeys(tmp_path / "a new tmpfs", "a", 5).open(sealed)


def test_where_no_slot_is_left_the_key_in_use_stays_in_use(tmp_path: Path) -> None:
    keys = DataKeys(tmp_path / "k", "a", 5)
    for _ in range(SLOTS - 1):
        keys.seal(PLAIN)
        assert keys.rotate(1)
    sealed = keys.seal(PLAIN)
    assert not keys.rotate(1) and keys.seal(PLAIN).key == sealed.key
    with pytest.raises(KeyGone, match="no slot"):
        DataKeys(tmp_path / "k", "a", 5).seal(PLAIN)
    assert DataKeys(tmp_path / "k", "b", 5).seal(PLAIN)


def test_slots_are_used_in_turn_so_that_none_is_used_again_just_after_it_was_zeroed(tmp_path: Path) -> None:
    keys = DataKeys(tmp_path / "k", "b", 5)
    places = []
    for _ in range(2 * SLOTS):
        keys.seal(PLAIN)
        (slot,) = keys._slots()
        places.append(slot.at)
        keys.rotate(1)
        keys._destroy(slot)
    assert all(one != other for one, other in itertools.pairwise(places)) and len(set(places)) == SLOTS


def test_a_directory_in_memory_is_told_from_one_on_a_disk() -> None:
    assert in_memory(Path("/dev/shm"))
    assert not in_memory(Path("/proc"))
