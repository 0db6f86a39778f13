"""Hostile XML is refused with a MessageError that holds nothing of the message."""

import inspect
import sys
import threading
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.iso20022 import BusinessMessage, explained, load_schemas, parse
from messages.message import MessageError

PACS_002 = "urn:iso:std:iso:20022:tech:xsd:pacs.002.001.10"
HEAD = "urn:iso:std:iso:20022:tech:xsd:head.001.001.02"
NAME = "Marta Mustermann"
IBAN = "DE02120300000000202051"


def document(msg_id="REPORT-1", status="RJCT", extra="", attributes=""):
    return (
        f'<Document xmlns="{PACS_002}"{attributes}><FIToFIPmtStsRpt><GrpHdr><MsgId>{msg_id}</MsgId>'
        "<CreDtTm>2026-03-01T10:00:00Z</CreDtTm></GrpHdr>"
        f"<TxInfAndSts><OrgnlEndToEndId>E2E-1</OrgnlEndToEndId><TxSts>{status}</TxSts>{extra}</TxInfAndSts>"
        "</FIToFIPmtStsRpt></Document>"
    )


def header(definition="pacs.002.001.10"):
    party = "<FIId><FinInstnId><BICFI>BANKDEFFXXX</BICFI></FinInstnId></FIId>"
    return (
        f'<AppHdr xmlns="{HEAD}"><Fr>{party}</Fr><To>{party}</To><BizMsgIdr>B-1</BizMsgIdr>'
        f"<MsgDefIdr>{definition}</MsgDefIdr><CreDt>2026-03-01T10:00:00Z</CreDt></AppHdr>"
    )


@pytest.fixture(scope="module", autouse=True)
def exact_errors():
    for schema in load_schemas().all():
        explained.load(schema)


def read(text, **options) -> BusinessMessage:
    return parse(text if isinstance(text, bytes) else text.encode(), load_schemas(), **options)


def refusal(text, **options) -> MessageError:
    with pytest.raises(MessageError) as caught:
        read(text, **options)
    return caught.value


def value_of(message, name):
    return message.document.findtext(f".//{{{PACS_002}}}{name}")


def test_a_bare_document_is_read():
    message = read(document())
    assert (message.type, message.header, message.wrapper) == ("pacs.002.001.10", None, ())


@pytest.mark.parametrize(
    ("start", "end", "wrapper"),
    [
        ('<Envelope xmlns="urn:swift:xsd:envelope">', "</Envelope>", ("{urn:swift:xsd:envelope}Envelope",)),
        ("<BizMsgEnvlp>", "</BizMsgEnvlp>", ("BizMsgEnvlp",)),
        (
            '<f:Out xmlns:f="urn:fednow:outgoing:v001"><f:Message><f:Status>',
            "</f:Status></f:Message></f:Out>",
            tuple(f"{{urn:fednow:outgoing:v001}}{name}" for name in ("Out", "Message", "Status")),
        ),
    ],
)
def test_a_wrapper_of_any_namespace_is_looked_through(start, end, wrapper):
    message = read(start + header() + document() + end)
    assert message.wrapper == wrapper
    assert message.header is not None


def test_children_in_the_namespace_of_a_scheme_are_refused_as_what_cannot_be_validated():
    assert "cannot be validated" in str(refusal('<Message xmlns="urn:tch"><AppHdr/><Report/></Message>'))


def test_two_documents_in_a_wrapper_are_refused():
    assert refusal(f"<W>{document()}{document()}</W>").field == "/Document"


def test_a_document_far_down_in_a_wrapper_is_not_looked_for():
    assert refusal("<W>" * 20 + document() + "</W>" * 20).field == "/Document"
    assert "too many elements" in refusal(f"<W>{'<a/>' * 200}{document()}</W>").reason


@pytest.mark.parametrize(
    "declaration",
    [
        "<!DOCTYPE Document>",
        '<!DOCTYPE Document SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE Document [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE Document [<!ENTITY % p SYSTEM "http://127.0.0.1:1/x">%p;]>',
        '<!DOCTYPE Document [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>',
    ],
)
def test_a_document_type_declaration_is_refused_before_parsing(declaration):
    error = refusal(declaration + document(msg_id="&x;"))
    assert error.reason == "document type declaration"
    assert error.offset == 0


def test_an_entity_that_is_not_predefined_is_refused():
    assert refusal(document(msg_id="&secret;")).reason == "entity that is not predefined"


def test_a_character_reference_is_its_character():
    assert value_of(read(document(msg_id="A&#x26;&amp;B")), "MsgId") == "A&&B"


def test_a_comment_or_processing_instruction_does_not_split_a_value():
    assert value_of(read(document(msg_id="AB<!-- x -->C<?p i?>D<![CDATA[E]]>")), "MsgId") == "ABCDE"


def test_deep_nesting_is_refused():
    assert refusal("<a>" * 5000).reason == "nested too deeply or too large"


def nested(levels):
    text = document(status="TOO-LONG")
    for _ in range(levels):
        text = document(extra="<SplmtryData><Envlp>" + text + "</Envlp></SplmtryData>")
    return text


def test_an_error_at_the_greatest_depth_is_explained():
    assert refusal(nested(48)).field.endswith("/SplmtryData/Envlp/Document/FIToFIPmtStsRpt/TxInfAndSts/TxSts")


def test_an_error_too_deep_to_explain_is_still_a_message_error():
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)
    try:
        error = refusal(nested(48))
    finally:
        sys.setrecursionlimit(limit)
    assert error.reason == "does not follow its schema"


def test_an_error_that_its_explainer_cannot_bear_is_still_a_message_error():
    far = document().replace("<CreDtTm>2", f"<CreDtTm>{'2' * 50}")
    assert far != document()
    with pytest.raises(MessageError, match="does not follow its schema field=/Document"):
        read(far.encode())


def test_more_bytes_than_the_maximum_are_refused_unread():
    assert "longer than 100 bytes" in refusal(b"\0" * 101, maximum=100).reason
    size = len(document().encode())
    assert read(document(), maximum=size).type == "pacs.002.001.10"
    assert "longer" in refusal(document(), maximum=size - 1).reason


def test_a_huge_attribute_is_refused():
    assert isinstance(refusal(document(attributes=f' a="{"x" * 900_000}"')), MessageError)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_other_unicode_encodings_are_refused(encoding):
    assert refusal(document().encode(encoding)).reason == "encoding is not UTF-8"


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-7", "ISO-8859-1", "EBCDIC-CP-US", ""])
def test_a_declared_encoding_other_than_utf_8_is_refused(encoding):
    text = f'<?xml version="1.0" encoding="{encoding}"?>{document()}'
    assert "encoding" in refusal(text).reason
    assert "encoding" in refusal(b"\xef\xbb\xbf" + text.encode()).reason


def test_bytes_that_are_not_utf_8_are_refused_under_any_declaration():
    text = f'<?xml version="1.0" encoding="UTF-8"?>{document(msg_id="M§ller")}'
    assert refusal(text.encode("iso-8859-1")).reason == "bytes that are not UTF-8"


def test_utf_8_with_a_byte_order_mark_is_read():
    text = f'<?xml version="1.0" encoding="utf-8"?>{document(msg_id="Müller")}'
    assert value_of(read(b"\xef\xbb\xbf" + text.encode()), "MsgId") == "Müller"


def test_a_schema_location_in_the_message_is_not_followed(tmp_path: Path):
    evil = tmp_path / "evil.xsd"
    evil.write_text("<not/>")
    location = (
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:schemaLocation="{PACS_002} {evil.as_uri()} urn:x http://127.0.0.1:1/x.xsd"'
    )
    assert read(document(attributes=location)).type == "pacs.002.001.10"
    assert refusal(document(attributes=location, status="TOO-LONG")).field.endswith("/TxSts")


def test_the_byte_offset_of_a_syntax_error_is_near_it():
    text = document().replace("</TxSts>", "</Txsts>").replace("><", ">\n<")
    error = refusal(text)
    assert error.reason == "end tag does not match its start tag"
    assert abs(error.offset - text.index("</Txsts>")) <= len("</Txsts>")


@pytest.mark.parametrize("text", ["", "text", "<", "<a", "<a>", "<a></b>", "</a>", "<a/><b/>", "<a b=1/>", "<b:a/>"])
def test_what_is_no_xml_is_refused(text):
    assert isinstance(refusal(text), MessageError)


@pytest.mark.parametrize(
    ("text", "field", "reason"),
    [
        (
            document().replace("<MsgId>REPORT-1</MsgId>", ""),
            "/Document/FIToFIPmtStsRpt/GrpHdr",
            "expected MsgId",
        ),
        (
            document(status="TOO-LONG"),
            "/Document/FIToFIPmtStsRpt/TxInfAndSts/TxSts",
            "ExternalPaymentTransactionStatus1Code",
        ),
        (
            document(extra=f"<Surname>{NAME}</Surname>"),
            "/Document/FIToFIPmtStsRpt/TxInfAndSts",
            "expected",
        ),
        (f"<W>{header().replace('CreDt', 'Cred')}{document()}</W>", "/AppHdr", "expected"),
        (document().replace("pacs.002.001.10", "pacs.002.001.99"), "/Document", "no schema for pacs.002.001.99"),
        (document().replace(PACS_002, "urn:other"), "/Document", "no schema for the namespace"),
    ],
)
def test_a_schema_error_has_the_path_and_what_was_expected(text, field, reason):
    error = refusal(text)
    assert error.field == field
    assert reason in error.reason


def test_the_second_of_several_transactions_is_named_as_such():
    transaction = "<TxInfAndSts><TxSts>ACSC</TxSts></TxInfAndSts><TxInfAndSts><TxSts>TOO-LONG</TxSts></TxInfAndSts>"
    text = document().replace("</FIToFIPmtStsRpt>", transaction + "</FIToFIPmtStsRpt>")
    assert refusal(text).field == "/Document/FIToFIPmtStsRpt/TxInfAndSts[3]/TxSts"


@pytest.mark.parametrize(
    "text",
    [
        document(msg_id=f"{NAME} {IBAN} is longer than a message identification"),
        document(status=IBAN),
        document(extra=f"<SplmtryData><Envlp><{IBAN}>{document(status='TOO-LONG')}</{IBAN}></Envlp></SplmtryData>"),
        document(extra=f"<{IBAN}>{NAME}</{IBAN}>"),
        document(attributes=f' {IBAN}="{NAME}"'),
        document(msg_id=f"{NAME}&{IBAN};"),
        document(msg_id=f"<{IBAN}>{NAME}</MsgId>"),
        document(extra=f"<AccptncDtTm>{NAME}</AccptncDtTm>"),
        f"<{IBAN}>{NAME}</{IBAN}>",
        f"<W>{header(definition=f'{NAME} {IBAN} {NAME} {IBAN}')}{document()}</W>",
        document().replace(PACS_002, f"urn:{IBAN}"),
        f"<{IBAN}:a/>",
        document(extra=f"<OrgnlTxRef><Dbtr><Pty><Nm>{NAME * 20}</Nm></Pty></Dbtr></OrgnlTxRef>"),
    ],
)
def test_an_error_text_holds_nothing_of_the_message(text):
    error = refusal(text)
    shown = "".join(traceback.format_exception(error)) + f"{error!r} {error.reason} {error.field}"
    assert IBAN not in shown
    assert "Mustermann" not in shown


def test_a_message_shows_no_content():
    assert repr(read(document(msg_id=IBAN))) == f"BusinessMessage(pacs.002.001.10 {len(document(msg_id=IBAN))} bytes)"


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_a_message_error(payload):
    with pytest.raises(MessageError):
        read(payload)


@given(st.data())
def test_a_mutated_message_is_read_or_raises_a_message_error(data):
    payload = bytearray(f"<W>{header()}{document()}</W>".encode())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(payload) - 1))
        length = data.draw(st.integers(0, 60))
        insert = data.draw(st.sampled_from([b"", b"<", b">", b"&", b"\0", b"<a/>", b"xmlns", b"]]>", b"<!--", b"\xff"]))
        payload[position : position + length] = insert
        payload = payload or bytearray(b" ")
    try:
        read(bytes(payload))
    except MessageError as error:
        assert error.reason


def test_threads_parse_at_the_same_time():
    failures = []

    def work(number):
        for turn in range(50):
            if value_of(read(document(msg_id=f"{number}-{turn}")), "MsgId") != f"{number}-{turn}":
                failures.append((number, turn))
            if refusal(document(status="TOO-LONG")).field != "/Document/FIToFIPmtStsRpt/TxInfAndSts/TxSts":
                failures.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_until_the_schema_is_compiled_again_an_error_names_the_top_element_only(monkeypatch):
    schema = load_schemas().get(PACS_002)
    ready = threading.Event()
    monkeypatch.setattr(explained, "_loaded", {})
    monkeypatch.setattr(explained, "_loading", set())
    monkeypatch.setattr(explained, "load", lambda wanted: wanted is schema and ready.set())
    with pytest.raises(MessageError) as first:
        read(document(msg_id=""))
    assert (first.value.reason, first.value.field) == ("does not follow its schema", "/Document")
    assert ready.wait(10), "the exact explanation is prepared in a thread"
