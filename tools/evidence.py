"""Reads a record folder as an auditor does: cuts the raw bytes into messages and takes from each what can be judged."""

import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from lxml import etree

from messages.iso8583 import load_dialect
from tools.card_reader import CardError, CardMessage, CardReader
from tools.ledger import account_token
from tools.payments import PaymentError, Transfer, read_payment
from tools.record import IN, OUT, SessionOpened, lives, read_chunks, read_sessions
from tools.streams import Stream, StreamError

Kind = Literal["request", "repeat", "answer", "advice", "advice answer", "network"]
Complain = Callable[[str], None]

# fields that an answer, where it has them, must bring back as they were sent
ECHOED = (2, 3, 4, 7, 11, 41, 42, 49)
# fields that must come to the host as the terminal sent them
FORWARDED = (2, 4, 14, 35, 49, 52, 55)
TOKEN_BYTES = 4
_KEY = os.urandom(16)  # of tokens that are compared here and kept nowhere: without it they could be guessed


class Facts(NamedTuple):
    """What one message says, without card data. key: ("card", RRN, terminal) or ("transfer", EndToEndId)."""

    kind: Kind
    type: str
    key: tuple[str, ...]
    stan: str = ""
    amount: int | None = None
    currency: str = ""
    code: str = ""
    approval: str = ""  # DE38
    echo: tuple[str, ...] = ()  # cards: values of ECHOED, "" where absent; transfers: UETR and message id
    account: str = ""  # token of the PAN, or of the creditor's account
    content: bytes = b""  # of requests: tokens of FORWARDED, each of TOKEN_BYTES; one of all of a transfer


class Seen(NamedTuple):
    """One message in a session, as it stands in the record. outward: sent by the keeper of the record."""

    session: str
    time: float
    outward: bool
    header: bytes
    header_kind: str
    facts: Facts


class _Session:
    """The two streams of a session."""

    def __init__(self, name: str, opened: SessionOpened) -> None:
        self.name = name
        self.header_kind = opened.header
        self.reader = card_reader(opened.dialect) if opened.dialect else None
        self.streams = {direction: Stream(opened.framing, opened.header) for direction in (IN, OUT)}
        self.bytes = {IN: 0, OUT: 0}
        self.broken: set[int] = set()


def read_messages(folder: Path, complain: Complain) -> Iterator[Seen]:
    """All messages of a folder in the order of the record. What cannot be read is complained about and left out."""
    for life in lives(folder):
        sessions = {
            event.session: _Session(f"{folder.name} {life}.{event.session}", event)
            for event in read_sessions(folder, life)
            if isinstance(event, SessionOpened)
        }
        for chunk in read_chunks(folder, life):
            session = sessions.get(chunk.session)
            if session is None:
                complain(f"bytes of session {life}.{chunk.session} in {folder.name}, which was never opened")
            elif chunk.direction not in session.broken:
                yield from _read_chunk(session, chunk.direction, chunk.offset, chunk.time, chunk.data, complain)
        for session in sessions.values():
            for direction, stream in session.streams.items():
                if stream.remainder and direction not in session.broken:
                    complain(f"{_where(session, direction)}: {stream.remainder} bytes at its end are no whole frame")


def _read_chunk(
    session: _Session, direction: int, offset: int, time: float, data: bytes, complain: Complain
) -> Iterator[Seen]:
    if offset != session.bytes[direction]:
        complain(
            f"{_where(session, direction)}: the record goes on at offset {offset} after {session.bytes[direction]}"
        )
        session.broken.add(direction)
        return
    session.bytes[direction] += len(data)
    try:
        cuts = session.streams[direction].feed(data)
    except StreamError as error:
        complain(f"{_where(session, direction)}: {error}")
        session.broken.add(direction)
        return
    for cut in cuts:
        try:
            facts = _card(cut.payload, session.reader) if session.reader else _payment(cut.payload)
        except (CardError, PaymentError) as error:
            complain(f"{_where(session, direction)}: the message at offset {cut.offset} cannot be read: {error}")
            continue
        yield Seen(session.name, time, direction == OUT, cut.header, session.header_kind, facts)


def _where(session: _Session, direction: int) -> str:
    return f"session {session.name}, bytes {'sent' if direction == OUT else 'received'}"


@functools.cache
def card_reader(dialect: str) -> CardReader:
    return CardReader(load_dialect(dialect))


def _card(payload: bytes, reader: CardReader) -> Facts:
    message = reader.read(payload)
    mti, text = message.mti, message.text
    key = ("card", text(37), text(41))
    kind, account = _kind(mti), account_token(message.pan)
    echo = (account if text(2) else "", *[text(number) for number in ECHOED[1:]])
    content = _content(message) if kind in ("request", "repeat") else b""
    return Facts(kind, mti, key, text(11), message.number(4), text(49), text(39), text(38), echo, account, content)


def _content(message: CardMessage) -> bytes:
    values = [message.track2 if number == 35 else message.text(number) for number in FORWARDED]
    return b"".join([_token(value.encode()) for value in values])


def _token(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=TOKEN_BYTES, key=_KEY).digest()


def _kind(mti: str) -> Kind:
    """By message class, function and origin (ISO 8583:1987 clause 4.1)."""
    if mti[1] == "8":
        return "network"
    advice = mti[1] == "4" or mti[2] in "23"
    if mti[2] in "13":
        return "advice answer" if advice else "answer"
    return "advice" if advice else "repeat" if mti[3] in "135" else "request"


def _payment(payload: bytes) -> Facts:
    payment = read_payment(payload)
    key = ("transfer", payment.end_to_end_id)
    echo = (payment.uetr, payment.msg_id)
    if isinstance(payment, Transfer):
        account, content = account_token(payment.creditor_account), _token(_canonical(payment))
        return Facts("request", payment.type, key, "", payment.amount, payment.currency, "", "", echo, account, content)
    return Facts("answer", payment.type, key, "", payment.amount, code=payment.code, echo=echo)


def _canonical(transfer: Transfer) -> bytes:
    """All of the message without its envelope and header (Exclusive XML Canonicalization 1.0)."""
    return etree.tostring(transfer.message.element, method="c14n", exclusive=True)
