"""Bad input on a live switch: a clear log line, that session closed or its input passed over; nobody else notices."""

import json
import random
import re
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from switch_rig import (
    CARDS,
    DECLINED_PAN,
    DIALECT,
    TPDU,
    TRANSFERS,
    WAIT_S,
    Traffic,
    Wire,
    card_request,
    clean,
    health,
    log_lines,
    logged,
    owned,
    until,
)

from switch.ops.control import CONNECTIONS_MAX
from tools.pair import Settings, Switch
from tools.transfer_requests import built_in_templates

LENIENT = {"unparseable": "ignore"}
SETTINGS = Settings(
    terminals={"keepalive": "echo"},
    # what has no route is refused by the switch itself: nothing of these reaches the hosts' books
    further={"lenient": LENIENT, "unrouted": LENIENT, "unrouted_banks": {**LENIENT, "iso20022": {}}},
)
RANDOM_FRAMES = 10_000

GOOD = card_request(1, pan=DECLINED_PAN)


def with_bitmap(bits: str) -> bytes:
    return GOOD[:2] + bytes.fromhex(bits) + GOOD[10:]


# name: the payload of a whole frame, and what the log line must tell
UNPARSEABLE = {
    "empty after its header": (b"\x02", r"error="),
    "cut in the middle of a field": (GOOD[:40], "field=DE"),
    "longer than its fields": (GOOD + b"\x00\x00\x00", "error="),
    "garbage": (bytes(range(200, 250)), "error="),
    "an MTI that is no digits": (b"\xab\xcd" + GOOD[2:], "field=MTI"),
    "a bitmap of fields that are not there": (with_bitmap("FFFFFFFFFFFFFFFF"), "offset="),
    "a length that is no digits": (GOOD.replace(b"\x16\x41\x00", b"\xff\x41\x00", 1), "field=DE2"),
}
BAD_FRAMES = {
    "an oversized length": (b"\xff\xff" + b"x" * 100, "over the maximum of 4096"),
    "a length below its header's": (b"\x00\x03abc", "below the header"),
}
TRANSFER = built_in_templates()[0].build("9", 0, datetime(2026, 1, 1, tzinfo=UTC), random.Random(0)).payload
HOSTILE_XML = {
    "an amount that no record holds": re.sub(b"(<IntrBkSttlmAmt[^>]*>)[^<]*", rb"\g<1>184467440737095517", TRANSFER),
    "not XML": b"@" * 300,
    "a bomb of entities": b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10 if n else b"&a;" * 10) for n in range(12))
    + b"]><x>&a11;</x>",
    "an external entity": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    "a DTD": b'<!DOCTYPE Document SYSTEM "http://127.0.0.1:1/x.dtd"><Document/>',
    "depth": b"<a>" * 15_000 + b"</a>" * 15_000,
    "attributes": b"<a " + b" ".join(b'a%d="x"' % n for n in range(10_000)) + b"/>",
    "another message": b'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"/>',
    "not UTF-8": b'<?xml version="1.0" encoding="UTF-8"?><Document>\xff\xfe</Document>',
    "cut": b'<?xml version="1.0"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"><FIToFICstm',
    "an invalid message": b'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"><FIToFICstmrCdtTrf/>'
    b"</Document>",
}


@pytest.fixture(scope="module")
def traffic(switch: Switch) -> Iterator[Traffic]:
    with Traffic(switch) as running:
        yield running


@pytest.mark.parametrize("name", UNPARSEABLE)
def test_an_unparseable_message_closes_its_session_and_is_named_in_the_log(
    switch: Switch, traffic: Traffic, name: str
) -> None:
    payload, told = UNPARSEABLE[name]
    with Wire(switch.ports.terminals["a"]) as wire:
        assert wire.ask(card_request(pan=DECLINED_PAN))[39] == "51"
        good = len(wire.frame(card_request(pan=DECLINED_PAN)))
        wire.request(payload)
        assert wire.rest() == b""
        line = logged(switch, "input.unparseable", f"remote={wire.local}", "link=terminals", "session=", told)
        assert f"frame={good}" in line
        ended = logged(switch, "session.ended", f"remote={wire.local}")
        assert f"input={good}" in ended and "unparseable" in ended


@pytest.mark.parametrize("name", UNPARSEABLE)
def test_where_the_link_says_so_an_unparseable_message_is_passed_over(
    switch: Switch, traffic: Traffic, name: str
) -> None:
    payload, told = UNPARSEABLE[name]
    with Wire(switch.ports.further["lenient"]["b"]) as wire:
        request = card_request(pan=DECLINED_PAN)
        wire.send(wire.frame(payload) + wire.frame(request) + wire.frame(payload))
        assert wire.fields()[39] == "51"
        logged(switch, "input.unparseable", f"remote={wire.local}", "link=lenient", told)
        assert wire.ask(card_request(pan=DECLINED_PAN))[39] == "51"


@pytest.mark.parametrize("name", BAD_FRAMES)
@pytest.mark.parametrize("link", ["terminals", "lenient"])
def test_a_stream_that_cannot_be_followed_ends_its_session_always(
    switch: Switch, traffic: Traffic, link: str, name: str
) -> None:
    data, told = BAD_FRAMES[name]
    port = (switch.ports.further.get(link) or switch.ports.terminals)["a"]
    with Wire(port) as wire:
        request = wire.frame(card_request(pan=DECLINED_PAN))
        wire.send(request)
        assert wire.fields()[39] == "51"
        wire.send(data)
        assert wire.rest() == b""
        line = logged(switch, "input.bad_frame", f"remote={wire.local}", f"link={link}", "session=", told)
        assert f"frame={len(request)}" in line


def test_a_frame_that_never_becomes_whole_ends_with_its_session_and_is_told(switch: Switch, traffic: Traffic) -> None:
    with Wire(switch.ports.terminals["b"]) as wire:
        whole = wire.frame(card_request(pan=DECLINED_PAN))
        wire.send(whole[: len(whole) // 2])
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.rest() == b""
        line = logged(switch, "session.ended", f"remote={wire.local}", "link=terminals")
        assert f"input={len(whole) // 2}" in line


def test_keepalives_are_echoed_or_absorbed_as_the_link_says(switch: Switch, traffic: Traffic) -> None:
    with Wire(switch.ports.terminals["a"]) as wire:
        for _ in range(50):
            wire.send(b"\0\0")
        assert [wire.answer() for _ in range(50)] == [b""] * 50
        assert wire.ask(card_request(pan=DECLINED_PAN))[39] == "51"
    with Wire(switch.ports.further["lenient"]["a"]) as wire:
        wire.send(b"\0\0" * 50 + wire.frame(card_request(pan=DECLINED_PAN)))
        assert wire.fields()[39] == "51"


def test_an_answer_that_nobody_waits_for_is_absorbed(switch: Switch, traffic: Traffic) -> None:
    with Wire(switch.ports.terminals["b"]) as wire:
        wire.request(card_request(mti="0210", pan=DECLINED_PAN, de39="00"))
        assert wire.ask(card_request(pan=DECLINED_PAN))[39] == "51"
        row = until(lambda: log_lines(switch, "answer.unmatched"), "the answer to be absorbed")
        assert "session=" in row[-1]


@pytest.mark.parametrize("name", HOSTILE_XML)
def test_hostile_xml_closes_its_session_and_is_named_in_the_log(switch: Switch, traffic: Traffic, name: str) -> None:
    with Wire(switch.ports.banks["a"], TRANSFERS) as wire:
        wire.request(HOSTILE_XML[name])
        assert wire.rest() == b""
        logged(switch, "input.unparseable", f"remote={wire.local}", "link=banks", "session=", "error=")


def test_where_the_link_says_so_hostile_xml_is_passed_over_and_the_next_transfer_is_answered(
    switch: Switch, traffic: Traffic
) -> None:
    with Wire(switch.ports.further["unrouted_banks"]["b"], TRANSFERS) as wire:
        for number, data in enumerate(HOSTILE_XML.values()):
            transfer = built_in_templates()[number % 8].build("9", number, datetime.now(UTC), random.Random(number))
            wire.send(wire.frame(data) + wire.frame(b"") + wire.frame(transfer.payload))
            answer = wire.answer()
            assert transfer.end_to_end_id.encode() in answer and b"RJCT" in answer
        named = log_lines(switch, "input.unparseable", f"remote={wire.local}", "link=unrouted_banks")
        # one that has not been consumed before a hold is looked at, and named, once more
        assert len({re.search(r" frame=\d+ ", line)[0] for line in named}) == len(HOSTILE_XML)


def test_a_length_that_is_no_number_ends_a_bank_session(switch: Switch, traffic: Traffic) -> None:
    for data, told in ((b"0000x100<x/>", "not decimal digits"), (b"99999999", "over the maximum")):
        with Wire(switch.ports.banks["b"], TRANSFERS) as wire:
            wire.send(data)
            assert wire.rest() == b""
            logged(switch, "input.bad_frame", f"remote={wire.local}", "link=banks", told)


def test_ten_thousand_random_frames_on_one_session_harm_nobody(switch: Switch, traffic: Traffic) -> None:
    dice = random.Random(8583)
    print("seed 8583")

    def payload() -> bytes:
        if dice.random() < 0.5:
            return dice.randbytes(dice.randrange(1, 200))
        mutant = bytearray(GOOD)  # a request of which some bytes are changed gets further
        for _ in range(dice.randrange(1, 8)):
            mutant[dice.randrange(len(mutant))] = dice.randrange(256)
        return bytes(mutant)

    last = card_request()
    fields = DIALECT.decode(last).fields
    its = {field: fields[field] for field in (11, 37)}  # of the mutants one may have its STAN, or its RRN
    answered = traffic.answered
    with Wire(switch.ports.further["unrouted"]["a"]) as wire:
        for _ in range(RANDOM_FRAMES // 100):
            wire.send(b"".join(CARDS.frame(payload(), TPDU) for _ in range(100)))
        wire.request(last)
        while not (answer := wire.fields()).items() >= its.items():
            pass  # mutants that are requests still have answers, too
        assert answer[39] == "92"
        assert len(log_lines(switch, "input.unparseable", f"remote={wire.local}")) > RANDOM_FRAMES // 2
    assert traffic.answered > answered


def test_operators_get_an_answer_to_whatever_they_say(switch: Switch, traffic: Traffic) -> None:
    for line in (
        b'{"a":' * 5_000, b"[" * 60_000, b"null", b'"status"', b"\xff\xfe", b'{"command":"settle"}',
        b'{"command":"settle","id":[1]}', b'{"command":"settle","id":"one","retry":true}', b'{"command":{}}',
    ):  # fmt: skip
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(WAIT_S)
            sock.connect(str(switch.run_directory / "demo-a.sock"))
            sock.sendall(line + b"\n")
            with sock.makefile() as lines:
                assert json.loads(lines.readline())["ok"] is False
    assert not log_lines(switch, "control.failed")


@pytest.mark.parametrize("kind", ["http", "control"])
def test_operators_connections_are_bounded(switch: Switch, traffic: Traffic, kind: str) -> None:
    def connect() -> socket.socket:
        if kind == "http":
            return socket.create_connection(("127.0.0.1", switch.ports.http["b"]))
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(switch.run_directory / "demo-b.sock"))
        return sock

    def held() -> int:
        return len(list(Path(f"/proc/{switch.nodes['b'].pid}/fd").iterdir()))

    before = held()
    silent = [connect() for _ in range(3 * CONNECTIONS_MAX)]
    until(lambda: before + CONNECTIONS_MAX // 2 < held() < before + 2 * CONNECTIONS_MAX, "the others to be closed")
    if kind == "http":  # the oldest make room for the newest
        assert health(switch, "b")[0] == 200
    for sock in silent:
        sock.close()
    until(lambda: held() < before + CONNECTIONS_MAX // 2, "them to be over")
    assert switch.ask("b")["node"] == "b"


def test_what_comes_to_the_wrong_port_is_in_no_log(switch: Switch, traffic: Traffic) -> None:
    card = DECLINED_PAN.encode()
    for data in (
        GOOD, b"0200" + card + b"D25122010000012345\r\n\r\n", b"GET /pay?pan=" + card + b"\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nTrack2: ;" + card + b"=2512\x00\r\n\r\n", b"POST " + card + b"D2512 HTTP/1.1\r\n\r\n",
    ):  # fmt: skip
        with socket.create_connection(("127.0.0.1", switch.ports.http["a"])) as sock:
            sock.settimeout(WAIT_S)
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4_096):
                pass
    assert health(switch, "a")[0] == 200
    text = switch.nodes["a"].log.read_text()
    assert DECLINED_PAN not in text and "Traceback" not in text


@pytest.mark.parametrize("when", ["between frames", "inside a frame"])
def test_an_urgent_byte_is_input_as_any_other_also_to_an_heir(start: Callable[..., Switch], when: str) -> None:
    """The lenient framing passes over it between frames: there it is an empty frame's first byte, its second follows."""
    switch = start(Settings(terminals={"keepalive": "echo"}))
    with owned(switch, "a") as wire:
        assert wire.ask(card_request(pan=DECLINED_PAN))[39] == "51"
        whole = wire.frame(card_request(pan=DECLINED_PAN))
        data = b"\0\0" + whole if when == "between frames" else whole
        place = 0 if when == "between frames" else 30
        wire.sock.send(data[:place])
        wire.sock.send(data[place : place + 1], socket.MSG_OOB)
        switch.nodes["a"].kill()
        wire.sock.send(data[place + 1 :])
        if when == "between frames":
            assert wire.answer() == b""
        assert wire.fields()[39] == "51"
        assert wire.ask(card_request(pan=DECLINED_PAN))[39] == "51"
    assert not log_lines(switch, "input.bad_frame", nodes="b")


def test_nobody_else_noticed(switch: Switch, traffic: Traffic) -> None:
    traffic.more(100)
    for node in "ab":
        assert switch.nodes[node].running() and switch.ask(node)["incarnation"] == f"{node}1"
    verdict = clean(switch, traffic)
    assert verdict.approved > 100
