"""Peers that read slowly or never, send a byte at a time or close one way: exact bytes, and bounds by record."""

import random
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import etcd3.etcdrpc as rpc
import grpc
import pytest
from switch_rig import (
    DIALECT,
    TRANSFERS,
    Recording,
    Traffic,
    Wire,
    card_request,
    clean,
    fresh,
    logged,
    postings,
    session,
    until,
)

from switch.core.proposals import Piece, decode_entry
from switch.mirror.sealing import Sealer
from tools.pair import Settings, Switch
from tools.record import IN, lives, read_chunks
from tools.transfer_requests import TransferRequest, built_in_templates

REQUESTS = 300  # their answers are more than a socket's buffers hold when they are small
SETTINGS = Settings(
    issuer={"advice_retry_ms": 1000},
    bank={"frame_max_bytes": 900_000},
    further={
        "impatient": {"outbox_age_max_ms": 1500},
        "narrow": {"outbox_max_bytes": 8192},
        "big_banks": {"iso20022": {}, "frame_max_bytes": 900_000, "tcp": {"receive_buffer_bytes": 4096}},
    },
)


@pytest.fixture(scope="module")
def traffic(switch: Switch) -> Iterator[Traffic]:
    with Traffic(switch) as running:
        yield running


@pytest.fixture(scope="module")
def recording(switch: Switch) -> Recording:
    return Recording(switch.directory / "own")


@pytest.mark.parametrize(
    ("link", "reason"), [("impatient", "not acknowledged"), ("narrow", "too much output is not acknowledged")]
)
def test_a_peer_that_never_reads_is_ended_by_record_and_only_what_reached_it_stands(
    switch: Switch, traffic: Traffic, recording: Recording, link: str, reason: str
) -> None:
    numbers = [fresh() for _ in range(REQUESTS)]
    # a small window on the peer's side: what is beyond it stays with the switch, unacknowledged. It is in no recording:
    # how many of its answers were written before its end is a matter of speed, and the rest is never answered there
    silent = Wire(switch.ports.further[link]["a"], receive_buffer=2048)
    answered = traffic.answered
    for number in numbers:
        silent.request(card_request(number))
    logged(switch, "session.ended", f"remote={silent.local}", reason)
    until(lambda: session(switch, silent) is None, "the session to be over")
    traffic.more(50)
    assert traffic.answered > answered
    # whatever is decided now, the repeat says the same as the books
    answers: dict[str, dict[int, str]] = {}
    with Wire(switch.ports.further[link]["b"], recording=recording) as other:
        for number in numbers:
            answers[f"{number:06d}"] = other.ask(card_request(number, mti="0201"))
    until(lambda: not switch.ask("a")["advices"], "the reversals to be acknowledged")
    standing = {f"{number:06d}" for number in numbers if postings(switch, number)[1]}
    assert standing == {stan for stan, answer in answers.items() if answer[39] == "00"}
    # all that the peer could ever read, now that it does: each once, and as its repeat has heard it
    data = silent.rest()
    silent.close()
    frames = silent.framer.cut(data).frames
    read = [{0: message.mti, **message.fields} for message in (DIALECT.decode(frame.payload) for frame in frames)]
    stans = [answer[11] for answer in read]
    assert standing.issuperset(stans), "an approval that could be read was reversed"
    assert len(stans) == len(set(stans)) and read == [answers[stan] for stan in stans]
    assert {frame.header for frame in frames} <= {silent.framer.answer_header(silent.header)}


def test_a_peer_that_closes_its_direction_after_the_request_still_gets_its_answer(
    switch: Switch, traffic: Traffic, recording: Recording
) -> None:
    for node in "ab":
        number = fresh()
        with Wire(switch.ports.terminals[node], recording=recording) as wire:
            wire.request(card_request(number))
            wire.sock.shutdown(socket.SHUT_WR)
            assert wire.fields()[39] == "00"
            assert wire.rest() == b""
            logged(switch, "session.ended", f"remote={wire.local}", "closed by remote")
        assert postings(switch, number) == (1, 1)


def test_requests_sent_a_byte_at_a_time_and_answers_read_a_byte_at_a_time_are_exact(
    switch: Switch, traffic: Traffic, recording: Recording
) -> None:
    numbers = [fresh() for _ in range(4)]
    with Wire(switch.ports.terminals["a"], recording=recording, receive_buffer=2048) as wire:
        data = b"".join(wire.frame(card_request(number)) for number in numbers)
        for place in range(len(data)):
            wire.send(data[place : place + 1])
        answers: set[str] = set()
        while len(answers) < len(numbers):
            byte = wire.sock.recv(1)
            assert byte
            wire.note(byte)
            for frame in wire.framer.cut(wire.received).frames:
                fields = DIALECT.decode(frame.payload).fields
                assert fields[39] == "00"
                answers.add(fields[11])
        assert answers == {f"{number:06d}" for number in numbers}
        cuts = wire.framer.cut(wire.received)
        assert cuts.frames[-1].end == len(wire.received) and len(cuts.frames) == len(numbers)


def transfer(padding: int) -> TransferRequest:
    """A transfer with so many bytes of remittance information."""
    template = built_in_templates()[fresh() % 8]
    request = template.build("7777777777", fresh(), datetime.now(UTC), random.Random(fresh()))
    line = b"<Ustrd>" + b"x" * 133 + b"</Ustrd>"
    payload = request.payload.replace(b"</RmtInf>", line * (padding // len(line)) + b"</RmtInf>")
    return TransferRequest(payload, request.end_to_end_id, request.uetr, request.amount)


@pytest.mark.parametrize("size", [100_000, 400_000, 850_000])
def test_a_frame_larger_than_the_receive_buffer_goes_in_pieces_and_arrives_byte_for_byte(
    switch: Switch, traffic: Traffic, recording: Recording, size: int
) -> None:
    small, large = transfer(0), transfer(size)
    with Wire(switch.ports.further["big_banks"]["a"], TRANSFERS, recording=recording) as wire:
        wire.send(wire.frame(small.payload) + wire.frame(large.payload))
        answers = [wire.answer(), wire.answer()]
        for request in (small, large):
            (answer,) = [each for each in answers if request.end_to_end_id.encode() in each]
            assert re.search(b"<TxSts>(ACSC|RJCT)", answer)
    until(lambda: TRANSFERS.frame(large.payload) in to_the_bank(switch), "the bank's record to hold it byte for byte")
    if size > 500_000:  # the kernel gives a socket 2 x net.core.rmem_max at the most
        assert pieces(switch)


def to_the_bank(switch: Switch) -> bytes:
    """All bytes that came to the bank, one session after the other."""
    folder = switch.directory / "bank"
    streams: dict[tuple[int, int], list[bytes]] = {}
    for life in lives(folder):
        for chunk in read_chunks(folder, life):
            if chunk.direction == IN:
                streams.setdefault((life, chunk.session), []).append(chunk.data)
    return b"".join(b"".join(stream) for stream in streams.values())


def pieces(switch: Switch) -> int:
    """Pieces of frames in the log."""
    sealer = Sealer(switch.directory / "keys")
    with grpc.insecure_channel(
        switch.etcd.endpoints[0].removeprefix("http://"), [("grpc.max_receive_message_length", 1 << 28)]
    ) as channel:
        log = rpc.KVStub(channel).Range(rpc.RangeRequest(key=b"/switch/demo/log/", range_end=b"/switch/demo/log0")).kvs
    entries = [decode_entry(sealer.open(kv.key, kv.value)) for kv in log]
    return sum(isinstance(proposal, Piece) for entry in entries for proposal in entry)


def test_nobody_else_noticed(switch: Switch, traffic: Traffic, recording: Recording) -> None:
    traffic.more(100)
    clean(switch, traffic, recording)
