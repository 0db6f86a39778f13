"""The ISO 20022 codec: what a pacs.008 means, what answers it, and what passes through untouched."""

import re
from pathlib import Path

import msgspec
import pytest
import xmlschema
from hypothesis import given
from hypothesis import strategies as st

from messages.iso20022 import Iso20022Codec, Iso20022Options
from messages.iso20022.options import RESPONSE_CODES
from messages.message import (
    Cause,
    Decision,
    Kind,
    Message,
    MessageError,
    NetworkFunction,
    Outcome,
    Reason,
    Summary,
    Trait,
    Verdict,
)

OFFICIAL = Path(__file__).parents[3] / "shared" / "reference" / "xsd"
PACS_008 = "urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"
PACS_002 = "urn:iso:std:iso:20022:tech:xsd:pacs.002.001.10"
HEAD = "urn:iso:std:iso:20022:tech:xsd:head.001.001.02"
UETR = "8a562c67-ca16-48ba-b074-65581be6f011"
CODEC = Iso20022Codec(Iso20022Options())
REFERENCES = ("msg_id", "instr_id", "end_to_end_id", "tx_id", "uetr")


def agent(name, bic):
    return f"<{name}><FinInstnId><BICFI>{bic}</BICFI></FinInstnId></{name}>"


def transaction(end_to_end_id="E2E-1", amount="12.30", currency="EUR", creditor_agent=None):
    return (
        f"<CdtTrfTxInf><PmtId><InstrId>I-1</InstrId><EndToEndId>{end_to_end_id}</EndToEndId><TxId>T-1</TxId>"
        f'<UETR>{UETR}</UETR></PmtId><IntrBkSttlmAmt Ccy="{currency}">{amount}</IntrBkSttlmAmt><ChrgBr>SLEV</ChrgBr>'
        f"<Dbtr><Nm>Marta Mustermann</Nm></Dbtr>{agent('DbtrAgt', 'DEBTDEFFXXX')}"
        f"{creditor_agent or agent('CdtrAgt', 'CREDFRPP')}<Cdtr><Nm>Jean Dupont</Nm></Cdtr></CdtTrfTxInf>"
    )


def pacs_008(*transactions, count=None, msg_id="M-1"):
    transactions = transactions or (transaction(),)
    return (
        f'<Document xmlns="{PACS_008}"><FIToFICstmrCdtTrf><GrpHdr><MsgId>{msg_id}</MsgId>'
        f"<CreDtTm>2026-03-01T10:00:00+01:00</CreDtTm><NbOfTxs>{count or len(transactions)}</NbOfTxs>"
        "<SttlmInf><SttlmMtd>CLRG</SttlmMtd></SttlmInf>"
        f"{agent('InstgAgt', 'DEBTDEFFXXX')}{agent('InstdAgt', 'CSMXBEBB')}</GrpHdr>"
        f"{''.join(transactions)}</FIToFICstmrCdtTrf></Document>"
    )


def with_header(document, marks="", definition="pacs.008.001.08", created="2026-03-01T10:00:01Z"):
    parties = (
        "<Fr><FIId><FinInstnId><BICFI>DEBTDEFFXXX</BICFI></FinInstnId></FIId></Fr>"
        "<To><OrgId><Nm>The clearing house</Nm></OrgId></To>"
    )
    return (
        f'<e:Envelope xmlns:e="urn:swift:xsd:envelope"><AppHdr xmlns="{HEAD}">{parties}<BizMsgIdr>B-1</BizMsgIdr>'
        f"<MsgDefIdr>{definition}</MsgDefIdr><BizSvc>swift.cbprplus.02</BizSvc><CreDt>{created}</CreDt>{marks}</AppHdr>"
        f"{document}</e:Envelope>"
    )


def pacs_002(*statuses, original="M-1", end_to_end_id="E2E-1", reason=""):
    reason = f"<StsRsnInf><Rsn><Cd>{reason}</Cd></Rsn></StsRsnInf>" if reason else ""
    reports = "".join(
        f"<TxInfAndSts><OrgnlInstrId>I-1</OrgnlInstrId><OrgnlEndToEndId>{end_to_end_id}</OrgnlEndToEndId>"
        f"<OrgnlTxId>T-1</OrgnlTxId><OrgnlUETR>{UETR}</OrgnlUETR><TxSts>{status}</TxSts>{reason}</TxInfAndSts>"
        for status in statuses
    )
    return (
        f'<Document xmlns="{PACS_002}"><FIToFIPmtStsRpt><GrpHdr><MsgId>R-1</MsgId>'
        "<CreDtTm>2026-03-01T10:00:02Z</CreDtTm></GrpHdr>"
        f"<OrgnlGrpInfAndSts><OrgnlMsgId>{original}</OrgnlMsgId><OrgnlMsgNmId>pacs.008.001.08</OrgnlMsgNmId>"
        f"</OrgnlGrpInfAndSts>{reports}</FIToFIPmtStsRpt></Document>"
    )


def decode(text, codec=CODEC) -> Message:
    return codec.decode(text if isinstance(text, bytes) else text.encode())


def error_of(text) -> MessageError:
    with pytest.raises(MessageError) as caught:
        decode(text)
    return caught.value


def codec_with(**options) -> Iso20022Codec:
    return Iso20022Codec(Iso20022Options(**options))


def check_against_official_schema(payload):
    if OFFICIAL.is_dir():
        document = CODEC.decode(payload).body.message.document
        xmlschema.XMLSchema10(OFFICIAL / "pacs.002.001.10.xsd").validate(document)


FORMS = pytest.mark.parametrize("request_text", [pacs_008(), with_header(pacs_008())], ids=["bare", "enveloped"])


def test_a_credit_transfer_is_a_request_with_what_routes_look_at():
    message = decode(pacs_008())
    attributes = message.attributes
    assert message.kind is Kind.REQUEST
    assert (attributes.type, attributes.bic) == ("pacs.008.001.08", "CREDFRPP")
    assert (attributes.currency, attributes.amount) == ("EUR", 1230)
    assert message.outcome is None


@pytest.mark.parametrize(
    ("amount", "currency", "units"),
    [("12", "EUR", 1200), ("0.01", "EUR", 1), ("1.230", "USD", 123), ("12", "JPY", 12), ("1.234", "BHD", 1234)],
)
def test_an_amount_is_in_minor_units_of_its_currency(amount, currency, units):
    assert decode(pacs_008(transaction(amount=amount, currency=currency))).attributes.amount == units


@pytest.mark.parametrize(("amount", "currency"), [("1.234", "EUR"), ("1.2", "JPY")])
def test_an_amount_with_more_decimals_than_its_currency_is_refused(amount, currency):
    assert error_of(pacs_008(transaction(amount=amount, currency=currency))).field.endswith("/IntrBkSttlmAmt")


def test_an_amount_or_a_sum_that_no_record_holds_is_refused():
    largest = "92233720368547758.07"  # EUR: 2**63 - 1
    assert decode(pacs_008(transaction(amount=largest.removesuffix(".07")))).attributes.amount < 1 << 63
    for transactions in (["999999999999999999"], ["92233720368547758.08"[:-1]] * 2):
        told = error_of(pacs_008(*(transaction(f"E2E-{n}", amount) for n, amount in enumerate(transactions))))
        assert told.field.endswith("/IntrBkSttlmAmt") and "too large" in str(told)


def test_a_creditor_agent_without_a_bic_is_known_by_its_clearing_member_identification():
    member = "<CdtrAgt><FinInstnId><ClrSysMmbId><MmbId>021040078</MmbId></ClrSysMmbId></FinInstnId></CdtrAgt>"
    assert decode(pacs_008(transaction(creditor_agent=member))).attributes.bic == "021040078"


def test_a_creditor_agent_that_cannot_be_told_leaves_the_instructed_agent():
    unknown = "<CdtrAgt><FinInstnId><Nm>Some bank</Nm></FinInstnId></CdtrAgt>"
    assert decode(pacs_008(transaction(creditor_agent=unknown))).attributes.bic == "CSMXBEBB"


def test_several_transactions_for_one_creditor_agent_are_one_request():
    message = decode(pacs_008(transaction("E2E-1", "1.00"), transaction("E2E-2", "2.50")))
    assert message.attributes.amount == 350
    assert message.match_key == decode(pacs_002("ACSC", "ACSC")).match_key


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (pacs_008(count=2), "/GrpHdr/NbOfTxs"),
        (pacs_008(transaction(), transaction(currency="USD")), "/IntrBkSttlmAmt"),
        (pacs_008(transaction(), transaction(creditor_agent=agent("CdtrAgt", "OTHRFRPP"))), "/CdtrAgt"),
        (with_header(pacs_008(), definition="pacs.009.001.08"), "/AppHdr/MsgDefIdr"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(text, field):
    assert error_of(text).field.endswith(field)


@pytest.mark.parametrize(
    ("statuses", "decision"),
    [
        (("ACSC",), Decision.APPROVED),
        (("RJCT",), Decision.DECLINED),
        (("PDNG",), Decision.INTERIM),
        (("ACSC", "RJCT"), Decision.APPROVED),
        (("ACSC", "PDNG", "RJCT"), Decision.INTERIM),
    ],
)
def test_a_status_report_is_an_answer_with_a_decision(statuses, decision):
    message = decode(pacs_002(*statuses))
    assert message.kind is Kind.ANSWER
    assert message.outcome.decision is decision


def test_an_outcome_has_status_and_reason_and_the_report_as_it_came():
    payload = pacs_002("RJCT", reason="AC04").encode()
    assert decode(payload).outcome == Outcome(Decision.DECLINED, "RJCT/AC04", payload)


def test_a_status_without_a_decision_is_refused_rather_than_guessed():
    assert "no decision" in error_of(pacs_002("XXXX")).reason


def test_a_report_without_a_status_or_on_two_messages_is_refused():
    assert error_of(pacs_002()).reason == "no status"
    other = "<OrgnlGrpInfAndSts><OrgnlMsgId>M-2</OrgnlMsgId><OrgnlMsgNmId>pacs.008</OrgnlMsgNmId></OrgnlGrpInfAndSts>"
    text = pacs_002("ACSC").replace("<TxInfAndSts>", other + "<TxInfAndSts>", 1)
    assert error_of(text).reason == "reports on several messages"


@pytest.mark.parametrize("match", [*((name,) for name in REFERENCES), ("msg_id", "end_to_end_id"), REFERENCES])
def test_a_request_and_its_report_have_equal_match_keys(match):
    codec = codec_with(match=match)
    request, report = decode(pacs_008(), codec), decode(pacs_002("ACSC"), codec)
    assert request.match_key == report.match_key
    assert request.match_key.strip(b"\x1f")


def test_reports_on_different_requests_have_different_match_keys():
    keys = {decode(text).match_key for text in (pacs_002("ACSC"), pacs_002("ACSC", original="M-2"))}
    keys.add(decode(pacs_002("ACSC", end_to_end_id="E2E-2")).match_key)
    assert len(keys) == 3


@FORMS
def test_a_request_is_forwarded_byte_for_byte_under_the_keys_of_the_target(request_text):
    payload = request_text.replace("><", "> \n <!-- kept -->\t<").encode()
    target = codec_with(match=("uetr",))
    outbound = target.forward(decode(payload), 17, CODEC)
    assert outbound.payload == payload
    assert outbound.match_key == UETR.encode() == target.decode(pacs_002("ACSC").encode()).match_key


def test_a_repeat_has_the_keys_and_the_digest_of_the_first():
    first = decode(with_header(pacs_008()))
    for marks in ("<PssblDplct>true</PssblDplct>", "<CpyDplct>DUPL</CpyDplct>", "<PssblDplct> 1 </PssblDplct>"):
        again = decode(with_header(pacs_008(), marks=marks, created="2026-03-01T10:05:00Z"))
        assert (first.repeat, again.repeat) == (False, True)
        assert (again.duplicate_key, again.digest) == (first.duplicate_key, first.digest)
    assert decode(pacs_008().replace("><", ">\n  <")).digest == first.digest
    assert not decode(with_header(pacs_008(), marks="<CpyDplct>COPY</CpyDplct>")).repeat


def test_another_content_under_the_same_keys_has_another_digest():
    first, other = decode(pacs_008()), decode(pacs_008(transaction(amount="12.31")))
    assert first.duplicate_key == other.duplicate_key
    assert first.digest != other.digest
    assert len(first.digest) == 16


def test_a_duplicate_key_tells_sender_message_and_transaction_apart():
    texts = (
        pacs_008(),
        pacs_008(msg_id="M-2"),
        pacs_008(transaction("E2E-2")),
        pacs_008().replace(agent("InstgAgt", "DEBTDEFFXXX"), agent("InstgAgt", "OTHRDEFF")),
        pacs_002("ACSC"),
    )
    assert len({decode(text).duplicate_key for text in texts}) == len(texts)


@FORMS
@pytest.mark.parametrize("reason", list(Reason))
def test_a_refusal_is_a_valid_report_that_matches_its_request(request_text, reason):
    codec = codec_with(match=REFERENCES)
    request = decode(request_text, codec)
    original = codec.original(request)
    payload = codec.answer(original, codec.refuse(original, reason))
    report = decode(payload, codec)
    assert report.outcome.code == f"RJCT/{RESPONSE_CODES[reason]}"
    assert report.outcome.decision is Decision.DECLINED
    assert report.match_key == request.match_key
    assert payload == codec.answer(original, codec.refuse(original, reason))
    check_against_official_schema(payload)


def test_a_refusal_comes_in_the_form_of_its_request_with_the_parties_swapped():
    original = CODEC.original(decode(with_header(pacs_008())))
    payload = CODEC.answer(original, CODEC.refuse(original, Reason.NO_ROUTE))
    message = decode(payload).body.message
    texts = {child.tag.rpartition("}")[2]: "".join(child.itertext()) for child in message.header}
    assert message.wrapper == ("{urn:swift:xsd:envelope}Envelope",)
    assert (texts["Fr"], texts["To"]) == ("The clearing house", "DEBTDEFFXXX")
    assert (texts["MsgDefIdr"], texts["BizSvc"]) == ("pacs.002.001.10", "swift.cbprplus.02")
    assert texts["CreDt"] == "2026-03-01T10:00:01Z"
    assert b"<CreDtTm>2026-03-01T10:00:00+01:00</CreDtTm>" in payload


def test_our_own_bic_and_wrapper_stand_in_what_is_made_here():
    codec = codec_with(bic="SWITBEBB", wrapper=("{urn:w}Out", "{urn:w}Report"))
    original = codec.original(decode(with_header(pacs_008())))
    payload = codec.answer(original, codec.refuse(original, Reason.NO_ROUTE))
    assert decode(payload).body.message.wrapper == ("{urn:w}Out", "{urn:w}Report")
    assert payload.count(b"<BICFI>SWITBEBB</BICFI>") == 2
    check_against_official_schema(payload)


def test_a_refused_file_is_refused_as_a_group():
    request = decode(pacs_008(transaction("E2E-1"), transaction("E2E-2")))
    original = CODEC.original(request)
    payload = CODEC.answer(original, CODEC.refuse(original, Reason.OVERLOAD))
    assert b"<OrgnlNbOfTxs>2</OrgnlNbOfTxs><GrpSts>RJCT</GrpSts>" in payload
    assert decode(payload).match_key == request.match_key
    check_against_official_schema(payload)


def test_a_table_of_response_codes_replaces_entries():
    codec = codec_with(response_codes={Reason.NO_ROUTE: "RC01"})
    assert codec.refuse(b"", Reason.NO_ROUTE).code == "RJCT/RC01"
    assert codec.refuse(b"", Reason.LINK_DOWN).code == "RJCT/AB08"


def test_under_the_pending_profile_only_a_timeout_leaves_the_payment_open():
    codec = codec_with(timeout_profile="pending")
    original = codec.original(decode(pacs_008()))
    outcome = codec.refuse(original, Reason.TIMEOUT)
    assert outcome.decision is Decision.INTERIM
    payload = codec.answer(original, outcome)
    assert decode(payload).outcome.decision is Decision.INTERIM
    assert codec.refuse(original, Reason.NO_ROUTE).decision is Decision.DECLINED
    check_against_official_schema(payload)


def test_a_recorded_report_answers_byte_for_byte():
    payload = pacs_002("ACSC").replace("><", ">\n<").encode()
    assert CODEC.answer(CODEC.original(decode(pacs_008())), decode(payload).outcome) == payload


@FORMS
def test_a_reversal_is_a_negative_confirmation_to_the_creditors_agent(request_text):
    request = decode(request_text)
    outbound = CODEC.reversal(CODEC.original(request), b"", 2, 1_700_000_000.5, Cause.TIMEOUT)
    report = decode(outbound.payload)
    assert outbound.match_key == b""
    assert report.outcome.code == "RJCT/AB05"
    assert report.match_key == request.match_key
    assert b"<CreDtTm>2023-11-14T22:13:20.500Z</CreDtTm>" in outbound.payload
    instructed = b"<InstdAgt><FinInstnId><BICFI>CSMXBEBB</BICFI></FinInstnId></InstdAgt>"
    assert instructed in outbound.payload
    check_against_official_schema(outbound.payload)


def test_what_is_remembered_holds_no_name_and_no_amount():
    original = CODEC.original(decode(pacs_008()))
    assert b"Mustermann" not in original and b"Dupont" not in original and b"12.30" not in original


@pytest.mark.parametrize("data", [b"", b"\x98\xa1\xff", b"\x99\xa0\xa0\x01\x90\x90\x90\x90\xc0" + b"\x91" * 5000])
def test_what_is_no_record_of_a_request_is_refused(data):
    with pytest.raises(MessageError):
        CODEC.reversal(data, b"", 0, 0.0, Cause.TIMEOUT)


def test_a_transfer_is_money_that_is_undone_at_its_creditors_agent():
    request = decode(pacs_008())
    summary = request.summary
    assert (summary.profile, summary.amount, summary.currency) == ("transfer", 1230, "EUR")
    assert summary.traits == Trait.MONEY | Trait.TIMEOUT_REVERSAL
    assert summary.identity and summary.refers == b""
    assert decode(pacs_008(msg_id="M-2")).summary.identity != summary.identity
    assert decode(pacs_002("ACSC")).summary == Summary()


def test_forwarding_needs_no_reference_and_changes_no_date():
    payload = pacs_008().encode()
    outbound = CODEC.forward(decode(payload), 0, CODEC, reference=b"x", date="20261123")
    assert (outbound.payload, outbound.reference) == (payload, b"")


def test_a_transfer_is_decided_by_nobody_else_and_has_no_advices():
    original = CODEC.original(decode(pacs_008()))
    outcome = decode(pacs_002("ACSC")).outcome
    assert CODEC.verdict(outcome) is Verdict.DONE
    assert CODEC.takes_partial and not CODEC.partial(outcome)
    for call in (
        lambda: CODEC.accept(original),
        lambda: CODEC.approve(original, 1),
        lambda: CODEC.stand_in_advice(original, outcome, Cause.UNAVAILABLE, 1, 0.0),
    ):
        with pytest.raises(MessageError):
            call()


def test_this_rail_repeats_unchanged_and_has_no_network_messages():
    assert CODEC.repeat(b"payload") == b"payload"
    assert CODEC.network_request(NetworkFunction.ECHO, 1, 0.0) is None
    with pytest.raises(MessageError):
        CODEC.network_answer(decode(pacs_008()))
    with pytest.raises(MessageError):
        CODEC.original(decode(pacs_002("ACSC")))


def test_a_relative_namespace_is_refused():
    data = '<SplmtryData><Envlp><a xmlns="relative"/></Envlp></SplmtryData></CdtTrfTxInf>'
    assert error_of(pacs_008().replace("</CdtTrfTxInf>", data)).reason == "relative namespace name"


@pytest.mark.parametrize("party", ["Fr", "To"])
def test_a_relative_namespace_at_a_party_of_the_header_is_refused_when_it_is_to_be_remembered(party):
    message = decode(re.sub(f"<{party}><([A-Za-z]+)", rf'<{party}><\1 xmlns:r="relative"', with_header(pacs_008())))
    with pytest.raises(MessageError, match=f"relative namespace name field=/AppHdr/{party}"):
        CODEC.original(message)


def test_no_repr_shows_content():
    message = decode(pacs_008())
    assert "Mustermann" not in repr(message) + repr(message.body) + repr(message.attributes)


def test_options_refuse_an_unknown_field_or_reference():
    for text in (b'{"matching": []}', b'{"match": ["iban"]}', b'{"timeout_profile": "wait"}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text, type=Iso20022Options)
    assert msgspec.json.decode(b'{"response_codes": {"timeout": "AB06"}}', type=Iso20022Options).bic == ""


XML_CHARACTERS = st.one_of(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), st.sampled_from("\t\n\r<>&")
)
REFERENCE_TEXT = st.text(XML_CHARACTERS, min_size=1, max_size=35)


@given(msg_id=REFERENCE_TEXT, end_to_end_id=REFERENCE_TEXT)
def test_any_reference_survives_into_the_report(msg_id, end_to_end_id):
    escaped = [re.sub("[\t\n\r<>&]", lambda each: f"&#{ord(each[0])};", text) for text in (msg_id, end_to_end_id)]
    request = decode(pacs_008(transaction(escaped[1]), msg_id=escaped[0]))
    original = CODEC.original(request)
    report = decode(CODEC.answer(original, CODEC.refuse(original, Reason.FORMAT)))
    assert report.match_key == request.match_key == f"{msg_id}\x1f{end_to_end_id}".encode()


@given(st.data())
def test_a_mutated_request_is_decoded_or_raises_a_message_error(data):
    payload = bytearray(with_header(pacs_008()).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(payload) - 1))
        payload[position : position + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=4))
    try:
        message = decode(bytes(payload))
    except MessageError:
        return
    original = CODEC.original(message)
    assert decode(CODEC.answer(original, CODEC.refuse(original, Reason.FORMAT))).match_key == message.match_key
