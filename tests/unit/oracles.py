"""What must hold of any bytes from outside, whoever made them up: shared by properties (tests/unit) and fuzzing (tests/fuzz).

Each check takes bytes and raises AssertionError for a defect. It returns whether the bytes were accepted; a refusal must be
the parser's own exception, name its place, and hold nothing of the message, in the exceptions behind it neither.
"""

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import iso8583
from lxml import etree

import messages
from messages.framing import Framer, FramingError
from messages.iso8583.bertlv import CARDHOLDER, build, parse, without_cardholder_data
from messages.iso8583.codec import Iso8583Codec
from messages.iso8583.mti import answer_mti, unmarked
from messages.iso8583.record import advice_body, unpack
from messages.iso20022 import Iso20022Codec
from messages.message import Cause, Kind, Message, MessageError, Reason

UTC = 1_780_000_000.0
STAN = 77
_WORD = re.compile(r"[0-9A-Za-z]{4,}")
_FIELD = re.compile(r"DE[0-9]{1,3}")
_TYPE = re.compile(r"[a-z]{4}\.[0-9]{3}\.[0-9]{3}\.[0-9]{2}")  # of ISO 20022: told, since schemas are added by it
_LIBRARY = (iso8583.DecodeError, iso8583.EncodeError, etree.Error)  # these hold the message


@functools.cache
def vocabulary() -> frozenset[str]:
    """The words of messages/: what an error text may say of its own accord."""
    folder = Path(messages.__file__).parent
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".toml"))
    return frozenset(word for path in files for word in _WORD.findall(path.read_text(encoding="utf-8")))


def _told(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that a traceback would show behind it."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def silent(shown: str, data: bytes, *known: object) -> None:
    """No word of the message stands in the text. `known` may be told: offsets, limits, the message type."""
    found = set(_WORD.findall(_TYPE.sub("", shown))) - vocabulary() - {str(each) for each in known}
    if found:  # seldom, and then the message is looked at in each form that it may be told in
        forms = (data.decode("latin-1"), data.decode("cp500"), data.hex().upper(), data.decode("utf-8", "ignore"))
        told = sorted(word for word in found if not _FIELD.fullmatch(word) and any(word in form for form in forms))
        assert not told, f"{shown!r} tells {told} of the message"


def refused(error: MessageError, data: bytes, *known: object) -> None:
    """The refusal names its place and is silent about the rest."""
    assert error.reason and (error.field or error.offset is not None), f"{error!r} names no place"
    assert error.offset is None or 0 <= error.offset <= len(data), f"{error!r} is outside of {len(data)} bytes"
    assert not isinstance(error.__context__, _LIBRARY) or error.__suppress_context__, "the library's error is kept"
    for each in _told(error):
        silent(f"{each} {each!r}", data, *known, error.offset)
    silent(error.reason, data, *known)


# --- framing


def framing(framer: Framer, data: bytes, split: int) -> bool:
    """A stream cut whole and cut in two with the rest carried on gives the same frames, and the same end."""
    whole = framer.cut(data)
    at = 0
    for frame in whole.frames:
        assert frame.start == at < frame.end <= len(data), "a hole between frames"
        at = frame.end
        rebuilt = framer.frame(frame.payload, frame.header) if frame.header or frame.payload else framer.keepalive
        (again,) = framer.cut(rebuilt).frames
        assert (again.payload, again.header, len(rebuilt)) == (frame.payload, frame.header, frame.end - frame.start)
        assert len(frame.header) + len(frame.payload) <= framer.maximum
    if whole.error is not None:
        assert isinstance(whole.error, FramingError) and whole.error.offset == at and whole.need == 0
        refused(whole.error, data, framer.maximum, framer.header_length)
    elif at < len(data):
        most = framer.framing.prefix + framer.maximum
        assert len(data) - at < whole.need <= most, f"needs {whole.need} for {len(data) - at} of at most {most}"
    else:
        assert whole.need == 0, "needs more than whole frames"
    first = framer.cut(data[:split])
    done = first.frames[-1].end if first.frames else 0
    if first.error is not None:
        assert whole.error is not None and (first.error.offset, str(first.error)) == (at, str(whole.error))
        return False
    rest = framer.cut(data[done:])
    assert [(f.payload, f.header) for f in (*first.frames, *rest.frames)] == [
        (f.payload, f.header) for f in whole.frames
    ]
    assert rest.need == whole.need and str(rest.error)[:20] == str(whole.error)[:20]
    return whole.error is None


# --- ISO 8583


def iso8583_payload(codec: Iso8583Codec, payload: bytes, other: Iso8583Codec | None = None) -> bool:
    """Decoded and used for all that a message of its kind is used for; toward a link of `other`'s dialect, too."""
    try:
        message = codec.decode(payload)
    except MessageError as error:
        refused(error, payload)
        return False
    body = message.body
    again = codec.dialect.decode(codec.dialect.assemble(body.mti, body.raw))
    assert (again.mti, again.fields, again.raw) == (body.mti, body.fields, body.raw), "decoding is not stable"
    values = "|".join(body.fields.values()).encode("utf-8", "replace")
    shown = f"{message!r} {body!r} {message.attributes!r} {message.outcome and message.outcome.content and 'content'}"
    silent(shown, payload + values, body.mti, unmarked(body.mti))
    if message.kind in (Kind.REQUEST, Kind.ADVICE):
        _forwarded(codec, message)
        _answered(codec, message)
        if other is not None:
            _translated(codec, message, other)
    elif message.kind in (Kind.ANSWER, Kind.ADVICE_ANSWER):
        assert (message.outcome is None) == bool(message.flaw), "an answer decides, or says why not"
        if message.outcome is None:
            return True
        kept = unpack(message.outcome.content)
        assert not kept.raw.keys() & (codec.dialect.sensitive - {55}), "an answer's record holds what is sensitive"
        chip = kept.message().fields.get(55)
        if chip:
            assert not _cardholder(bytes.fromhex(chip)), "an answer's record holds the cardholder's chip data"
    elif message.kind is Kind.NETWORK_REQUEST:
        reply = codec.decode(codec.network_answer(message))
        assert (reply.kind, reply.match_key) == (Kind.NETWORK_ANSWER, message.match_key)
    return True


def _cardholder(data: bytes) -> bool:
    return any(
        tag in CARDHOLDER or (int(tag[:2], 16) & 0x20 and _readable(value) and _cardholder(value))
        for tag, value in parse(data)
    )


def _readable(value: bytes) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return True


def _forwarded(codec: Iso8583Codec, message: Message) -> None:
    """Untouched fields pass byte for byte, under a new STAN."""
    body = message.body
    out = codec.forward(message, STAN, codec)
    sent = codec.decode(out.payload)
    assert sent.match_key == out.match_key and sent.body.mti == unmarked(body.mti)
    assert sent.body.fields[11] == f"{STAN:0{codec.stan_digits}d}"
    raw = body.raw if message.kind is Kind.REQUEST else advice_body(body).raw
    kept = {number: part for number, part in raw.items() if number != 11}
    assert {number: part for number, part in sent.body.raw.items() if number != 11} == kept
    marked = codec.decode(codec.repeat(out.payload))
    assert marked.repeat and (marked.duplicate_key, marked.digest) == (sent.duplicate_key, sent.digest)


def _answered(codec: Iso8583Codec, message: Message) -> None:
    original = codec.original(message)
    record = unpack(original)
    assert not record.raw.keys() & codec.dialect.sensitive, "a request's record holds what is sensitive"
    outcome = codec.refuse(original, Reason.TIMEOUT)
    refusal = codec.decode(codec.answer(original, outcome))
    assert refusal.body.mti == answer_mti(message.body.mti)
    assert refusal.outcome is not None and refusal.outcome.code == outcome.code
    assert refusal.match_key == message.match_key, "the answer cannot be matched by who asked"
    try:
        reversal = codec.reversal(original, codec.forward(message, STAN, codec).reference, STAN + 1, UTC, Cause.TIMEOUT)
    except MessageError as error:
        assert error.field == "DE2" and 2 not in message.body.fields, "only a track's account can be too long for DE2"
        return
    if reversal is not None:
        sent = codec.decode(reversal.payload)
        assert (sent.kind, sent.match_key) == (Kind.ADVICE, reversal.match_key)


def _translated(codec: Iso8583Codec, message: Message, other: Iso8583Codec) -> None:
    """In another dialect every value is the same or the message is refused; D and = are one track separator."""
    try:
        out = other.forward(message, STAN, codec)
    except MessageError as error:
        assert error.field
        silent(f"{error} {error!r}", "|".join(message.body.fields.values()).encode("utf-8", "replace"))
        return
    sent = other.decode(out.payload)
    assert sent.match_key == out.match_key

    def plain(fields: dict[int, str]) -> dict[int, str]:
        return {n: v.replace("D", "=") if n in (35, 36) else v for n, v in fields.items() if n != 11}

    body = message.body if message.kind is Kind.REQUEST else advice_body(message.body)
    assert plain(sent.body.fields) == plain(body.fields)


def bertlv(data: bytes) -> bool:
    try:
        objects = parse(data)
    except ValueError as error:
        assert "byte" in str(error) and type(error) is ValueError
        return False
    assert parse(build(objects)) == objects
    kept = without_cardholder_data(data)
    assert without_cardholder_data(kept) == kept and not _cardholder(kept)
    return True


# --- ISO 20022


def iso20022_payload(codec: Iso20022Codec, payload: bytes) -> bool:
    """Decoded and, when it is a request, forwarded, refused and undone by messages that are valid and match."""
    try:
        message = codec.decode(payload)
    except MessageError as error:
        refused(error, payload)
        return False
    silent(f"{message!r} {message.body!r}", payload, len(payload))
    again = codec.decode(payload)
    assert (again.match_key, again.duplicate_key, again.digest) == (
        message.match_key,
        message.duplicate_key,
        message.digest,
    )
    if message.kind is not Kind.REQUEST:
        assert message.outcome is not None and codec.answer(b"", message.outcome) == payload
        return True
    out = codec.forward(message, 0, codec)
    assert (out.payload, out.match_key) == (payload, message.match_key)
    try:
        original = codec.original(message)
    except MessageError as error:
        refused(error, payload)
        return False
    for reason in (Reason.NO_ROUTE, Reason.TIMEOUT):
        refusal = codec.decode(codec.answer(original, codec.refuse(original, reason)))
        assert (refusal.kind, refusal.match_key) == (Kind.ANSWER, message.match_key)
    undone = codec.decode(codec.reversal(original, b"", 0, UTC, Cause.TIMEOUT).payload)
    assert (undone.kind, undone.match_key) == (Kind.ANSWER, message.match_key)
    return True
