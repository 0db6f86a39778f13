"""ISO 20022 messages in any form they may come in, whole and damaged: used for all they are for, or refused silently.

What has to hold stands in oracles.py. Errors are told exactly here, as in a process that has seen some.
"""

import oracles
import pytest
import test_iso20022_codec as samples
from hypothesis import given, settings
from hypothesis import strategies as st

from messages.iso20022 import Iso20022Codec, Iso20022Options
from messages.iso20022.explained import load
from messages.iso20022.schemas import load_schemas
from messages.message import MessageError

CODEC = Iso20022Codec(Iso20022Options())
SECRETS = ("Mustermann", "Dupont", "12.30", "GB33BUKB20201555555555")
TOKENS = [
    b"<", b">", b"&", b"\0", b"\r\n", b"&#13;", b"&e;", b"]]>", b"<!--", b"-->", b"<![CDATA[", b"<?x y?>", b"<a/>",
    b"</Document>", b"<!DOCTYPE a>", b' xmlns:r="relative"', b' xmlns=""', b' xsi:nil="true"', b"\xff", b"\xef\xbb\xbf",
    b"4111111111111111", b"7",
]  # fmt: skip
PLAIN = st.text("ABCDEFG 0123456789-/&<>\t\r'", min_size=1, max_size=35).map(
    lambda text: "".join(f"&#{ord(each)};" if each in "&<>\t\r" else each for each in text)
)
IDENTIFICATION = "<ClrSysMmbId><ClrSysId><{0}>X</{0}></ClrSysId><MmbId>021040078</MmbId></ClrSysMmbId>"
MEMBER = f"<CdtrAgt><FinInstnId>{IDENTIFICATION}</FinInstnId></CdtrAgt>"


@pytest.fixture(scope="module", autouse=True)
def exact() -> None:
    for schema in load_schemas().all():
        load(schema)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One transaction or several, agents by BIC or as members, bare, wrapped, with a header, indented, with comments."""
    agent = draw(st.sampled_from([None, MEMBER.format("Cd"), MEMBER.format("Prtry")]))
    currency, amount = draw(st.sampled_from([("EUR", "12.30"), ("JPY", "100"), ("BHD", "0.123"), ("EUR", "007.10000")]))
    count = draw(st.integers(1, 3))
    transactions = [samples.transaction(draw(PLAIN), amount, currency, agent) for _ in range(count)]
    text = samples.pacs_008(*transactions, msg_id=draw(PLAIN))
    if draw(st.booleans()):
        text = samples.with_header(text, draw(st.sampled_from(["", "<PssblDplct>true</PssblDplct>"])))
    elif draw(st.booleans()):
        text = f'<w:W xmlns:w="urn:w"><V xmlns="urn:v">{text}</V></w:W>'
    text = text.replace("><", draw(st.sampled_from(["><", ">\r\n  <", "><!-- 4111111111111111 --><"])))
    return draw(st.sampled_from(["", "\ufeff", '<?xml version="1.0" encoding="UTF-8"?>\n'])).encode() + text.encode()


@settings(deadline=None)
@given(requests())
def test_a_request_in_any_form_is_forwarded_refused_and_undone(payload: bytes) -> None:
    assert oracles.iso20022_payload(CODEC, payload), "a message of its schema is refused"


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    account = "<CdtrAcct><Id><IBAN>GB33BUKB20201555555555</IBAN></Id></CdtrAcct></CdtTrfTxInf>"
    whole = samples.with_header(samples.pacs_008().replace("</CdtTrfTxInf>", account))
    payload = bytearray(whole.encode())
    for _ in range(draw(st.integers(1, 3))):
        tags = [place for place, byte in enumerate(payload) if byte == ord(">")] or [0]
        at = draw(st.one_of(st.integers(0, len(payload)), st.sampled_from(tags)))
        end = at + draw(st.sampled_from([0, 0, 1, 5, 40, 4000]))
        piece = draw(st.sampled_from([*TOKENS, bytes(payload[at : at + 60])]))
        payload[at:end] = piece
    return bytes(payload)


@settings(deadline=None, max_examples=300)
@given(damaged())
def test_a_damaged_request_is_used_for_all_it_is_for_or_tells_nothing(payload: bytes) -> None:
    try:
        CODEC.decode(payload)
    except MessageError as error:
        told = f"{error} {error!r} {error.reason} {error.field}"
        assert not [secret for secret in SECRETS if secret in told]
    oracles.iso20022_payload(CODEC, payload)


def test_a_request_cut_off_anywhere_is_refused_inside_of_it() -> None:
    payload = samples.with_header(samples.pacs_008()).encode()
    for end in range(len(payload)):
        assert not oracles.iso20022_payload(CODEC, payload[:end])
