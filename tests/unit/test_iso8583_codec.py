"""The ISO 8583 codec: what messages mean to the switch, and what the switch sends to terminals and networks."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iso8583_samples import APPROVALS, PAN, purchase_mti, sample

from messages.iso8583 import Iso8583, Iso8583Codec, Iso8583Options, shipped_dialects
from messages.iso8583.bertlv import build
from messages.message import Cause, Codec, Decision, Kind, Message, MessageError, NetworkFunction, Outcome, Reason

UTC = 1795350896.0  # 2026-11-22 12:34:56
SECRETS = {35: PAN + "=28121011234567890", 45: "B" + PAN + "^A/B^2812", 52: "0123456789ABCDEF", 53: "0000000000000007"}
PAIRS = [("iso87-ascii", "iso87-binary"), ("iso87-binary", "iso87-ebcdic"), ("iso93-binary", "iso93-ascii")]
PAIRS += [("iso2003-ascii", "iso2003-binary")]
EACH = ["iso87-binary", "iso93-ascii", "iso2003-binary"]


def codec_of(name: str, **options: object) -> Iso8583Codec:
    return Iso8583Codec(Iso8583Options(dialect=name, **options))  # type: ignore[arg-type]


def request(codec: Iso8583Codec, changes: dict[int, str] | None = None, mti: str = "") -> Message:
    version = codec.dialect.version
    fields = {**sample(version), **(changes or {})}
    return codec.decode(codec.dialect.encode(mti or purchase_mti(version), fields))


def answered(codec: Iso8583Codec, payload: bytes, changes: dict[int, str], mti: str = "") -> Message:
    """What an issuer answers to `payload`: most of its fields and `changes`."""
    body = codec.dialect.decode(payload)
    fields = {n: value for n, value in body.fields.items() if n not in (14, 18, 22, 23, 25, 28, 35, 43, 45, 52, 53, 55)}
    return codec.decode(codec.dialect.encode(mti or body.mti[:2] + "10", {**fields, **changes}))


def sent(codec: Iso8583Codec, message: Message) -> tuple[bytes, bytes]:
    """What the engine keeps of a request that it forwarded under STAN 77."""
    return codec.original(message), codec.forward(message, 77, codec).reference


def stan(codec: Iso8583Codec, number: int) -> str:
    return f"{number:0{codec.stan_digits}d}"


def approval(codec: Iso8583Codec) -> str:
    return APPROVALS[codec.dialect.version]


def test_it_is_a_codec() -> None:
    codec: Codec = codec_of("iso87-ascii")
    assert (codec.rail, codec.stan_digits) == ("iso8583", 6)


@pytest.mark.parametrize("mti", ["1200", "2200", "0000", "0900", "0250", "0290", "0208"])
def test_an_mti_of_another_version_or_without_a_meaning_is_refused(mti: str) -> None:
    codec = codec_of("iso87-ascii")
    with pytest.raises(MessageError, match="MTI"):
        codec.decode(codec.dialect.encode(mti, {11: "000001"}))


def test_routes_see_type_bin_processing_code_currency_and_amount() -> None:
    attributes = request(codec_of("iso87-binary")).attributes
    assert msgspec.structs.asdict(attributes) == {
        "type": "0200",
        "bin": PAN[:11],
        "bic": "",
        "processing_code": "000000",
        "currency": "978",
        "amount": 12345,
    }


def test_without_de2_the_bin_comes_from_the_track() -> None:
    codec = codec_of("iso87-ascii")
    assert codec.decode(codec.dialect.encode("0200", {35: PAN + "D2812"})).attributes.bin == PAN[:11]


@pytest.mark.parametrize("name", shipped_dialects())
def test_forwarding_in_the_same_dialect_changes_the_stan_and_nothing_else(name: str) -> None:
    codec = codec_of(name)
    message = request(codec)
    before: Iso8583 = message.body
    after = codec.dialect.decode(codec.forward(message, 77, codec).payload)
    assert after.raw == {**before.raw, 11: codec.dialect.encode_field(11, stan(codec, 77))}
    assert after.mti == before.mti


def test_a_foreign_pad_nibble_is_forwarded_as_it_came() -> None:
    codec = codec_of("iso87-binary")
    payload = bytes.fromhex("0200 4020040000000000 03 F411 000001 F051")
    assert codec.forward(codec.decode(payload), 2, codec).payload == payload.replace(b"\x00\x00\x01", b"\x00\x00\x02")


def test_a_repeat_that_is_forwarded_for_the_first_time_is_not_marked() -> None:
    codec = codec_of("iso87-ascii")
    assert codec.forward(request(codec, mti="0201"), 1, codec).payload.startswith(b"0200")


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_forwarding_between_dialects_keeps_every_value(source: str, target: str) -> None:
    terminal, network = codec_of(source), codec_of(target)
    message = request(terminal)
    outbound = network.forward(message, 77, terminal)
    assert network.dialect.decode(outbound.payload).fields == {**message.body.fields, 11: stan(network, 77)}


def test_a_value_the_other_dialect_cannot_hold_is_told_with_its_field() -> None:
    terminal, network = codec_of("iso87-ascii"), codec_of("iso87-binary")
    with pytest.raises(MessageError, match="DE49"):
        network.forward(request(terminal, {49: "EUR"}), 1, terminal)


def test_versions_are_not_translated_into_each_other() -> None:
    terminal, network = codec_of("iso87-ascii"), codec_of("iso93-ascii")
    with pytest.raises(MessageError, match="1987"):
        network.forward(request(terminal), 1, terminal)


@pytest.mark.parametrize(("source", "target"), [*PAIRS, ("iso87-ascii", "iso87-ascii")])
def test_an_answer_carries_the_key_of_what_was_forwarded(source: str, target: str) -> None:
    terminal, network = codec_of(source), codec_of(target)
    outbound = network.forward(request(terminal), 77, terminal)
    answer = answered(network, outbound.payload, {39: approval(network)})
    assert answer.match_key == outbound.match_key
    other = network.forward(request(terminal), 78, terminal)
    assert answer.match_key != other.match_key


@pytest.mark.parametrize("name", shipped_dialects())
def test_an_issuers_answer_passes_byte_for_byte_with_the_terminals_stan(name: str) -> None:
    codec = codec_of(name)
    message = request(codec)
    outbound = codec.forward(message, 77, codec)
    changes = {38: "A1B2C3", 39: approval(codec), 54: "0040978C000000001000", 48: "private"}
    issuer = answered(codec, outbound.payload, changes)
    assert issuer.outcome is not None
    assert issuer.outcome.decision is Decision.APPROVED
    result = codec.decode(codec.answer(codec.original(message), issuer.outcome))
    assert result.body.raw == {**issuer.body.raw, 11: message.body.raw[11]}
    assert result.attributes.type == purchase_mti(codec.dialect.version)[:2] + "10"


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_an_answer_is_brought_into_the_terminals_dialect(source: str, target: str) -> None:
    terminal, network = codec_of(source), codec_of(target)
    message = request(terminal)
    outbound = network.forward(message, 77, terminal)
    issuer = answered(network, outbound.payload, {38: "A1B2C3", 39: approval(network), 55: "8A023030"})
    assert issuer.outcome is not None
    fields = terminal.decode(terminal.answer(terminal.original(message), issuer.outcome)).body.fields
    assert fields == {**issuer.body.fields, 11: message.body.fields[11]}


@pytest.mark.parametrize(("code", "amount"), [("10", "000000005000"), ("00", "000000012345"), ("51", "000000012345")])
def test_only_a_partial_approval_changes_the_amount(code: str, amount: str) -> None:
    codec = codec_of("iso87-ascii")
    message = request(codec)
    issuer = answered(codec, codec.forward(message, 77, codec).payload, {39: code, 4: "5000"})
    assert issuer.outcome is not None
    assert codec.decode(codec.answer(codec.original(message), issuer.outcome)).body.fields[4] == amount


def test_an_answer_repeats_the_terminals_own_identification_whatever_the_issuer_says() -> None:
    codec = codec_of("iso87-ascii")
    message = request(codec)
    issuer = answered(codec, codec.forward(message, 77, codec).payload, {39: "00", 37: "999999999999", 41: "OTHER"})
    assert issuer.outcome is not None
    fields = codec.decode(codec.answer(codec.original(message), issuer.outcome)).body.fields
    assert [fields[n] for n in (11, 37, 41)] == [message.body.fields[n] for n in (11, 37, 41)]


def test_a_reference_the_terminal_did_not_give_comes_from_the_issuer() -> None:
    codec = codec_of("iso87-ascii", match=("7", "11", "41"))
    fields = {n: value for n, value in sample("1987").items() if n != 37}
    message = codec.decode(codec.dialect.encode("0200", fields))
    outbound = codec.forward(message, 77, codec)
    issuer = answered(codec, outbound.payload, {37: "123456789012", 39: "00"})
    assert issuer.match_key == outbound.match_key
    assert issuer.outcome is not None
    assert codec.decode(codec.answer(codec.original(message), issuer.outcome)).body.fields[37] == "123456789012"


def test_an_issuers_settlement_date_wins_over_the_terminals() -> None:
    codec = codec_of("iso87-ascii")
    message = request(codec, {15: "1122"})
    issuer = answered(codec, codec.forward(message, 77, codec).payload, {15: "1123", 39: "00"})
    assert issuer.outcome is not None
    assert codec.decode(codec.answer(codec.original(message), issuer.outcome)).body.fields[15] == "1123"


CODES = [("iso87-ascii", "00", True), ("iso87-ascii", "10", True), ("iso87-ascii", "05", False)]
CODES += [("iso93-ascii", "000", True), ("iso93-ascii", "002", True), ("iso93-ascii", "100", False)]


@pytest.mark.parametrize(("name", "code", "approves"), CODES)
def test_the_response_code_decides(name: str, code: str, approves: bool) -> None:
    codec = codec_of(name)
    outcome = answered(codec, codec.forward(request(codec), 1, codec).payload, {39: code}).outcome
    assert outcome is not None
    assert (outcome.code, outcome.decision is Decision.APPROVED) == (code, approves)


def test_a_link_can_have_approvals_of_its_own() -> None:
    codec = codec_of("iso87-ascii", approved=("7x",))
    for code, decision in (("76", Decision.APPROVED), ("00", Decision.DECLINED)):
        outcome = answered(codec, codec.forward(request(codec), 1, codec).payload, {39: code}).outcome
        assert outcome is not None
        assert outcome.decision is decision


def test_an_answer_without_a_response_code_decides_nothing_but_acknowledges_an_advice() -> None:
    codec = codec_of("iso87-ascii")
    for fields in ({11: "000001"}, {11: "000001", 39: "  "}):
        message = codec.decode(codec.dialect.encode("0210", fields))
        assert (message.kind, message.outcome, message.flaw) == (Kind.ANSWER, None, "DE39 missing")
    acknowledged = codec.decode(codec.dialect.encode("0430", {11: "000001"})).outcome
    assert acknowledged is not None
    assert acknowledged.decision is Decision.APPROVED


@pytest.mark.parametrize("name", EACH)
def test_no_record_holds_track_pin_or_chip_data_of_the_cardholder(name: str) -> None:
    codec = codec_of(name)
    message = request(codec, SECRETS)
    chip = [("91", bytes(10)), ("57", b"\x41\x11" * 8), ("5A", b"\x41\x11" * 4), ("5F24", b"\x28\x12\x31")]
    changes = {**SECRETS, 39: approval(codec), 55: build(chip).hex().upper()}
    issuer = answered(codec, codec.forward(message, 1, codec).payload, changes)
    assert issuer.outcome is not None
    records = codec.original(message) + issuer.outcome.content
    secrets = [message.body.raw[number] for number in (*SECRETS, 55)] + [build([part]) for part in chip[1:]]
    assert not [secret for secret in secrets if secret in records or secret[2:] in records]
    result = codec.decode(codec.answer(codec.original(message), issuer.outcome))
    assert result.body.fields[55] == build(chip[:1]).hex().upper()
    assert not SECRETS.keys() & result.body.fields.keys()


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("name", EACH)
def test_every_reason_has_a_code_by_which_a_request_is_refused(name: str, reason: Reason) -> None:
    codec = codec_of(name)
    message = request(codec)
    original = codec.original(message)
    outcome = codec.refuse(original, reason)
    assert outcome.decision is Decision.DECLINED
    answer = codec.decode(codec.answer(original, outcome))
    assert answer.outcome is not None
    assert (answer.outcome.code, answer.outcome.decision) == (outcome.code, Decision.DECLINED)
    for number in (2, 3, 4, 7, 11, 12, 32, 37, 41, 42, 49):
        assert answer.body.raw.get(number) == message.body.raw.get(number)


def test_a_links_own_code_for_a_reason_replaces_the_default() -> None:
    codec = codec_of("iso87-ascii", response_codes={Reason.TIMEOUT: "Z3"})
    original = codec.original(request(codec))
    assert codec.refuse(original, Reason.TIMEOUT).code == "Z3"
    assert codec.refuse(original, Reason.NO_ROUTE).code == "92"


@pytest.mark.parametrize(("source", "target"), [("iso87-ascii", "iso87-binary"), ("iso87-ascii", "iso87-ascii")])
def test_a_reversal_of_1987_names_what_was_sent_to_the_network(source: str, target: str) -> None:
    terminal, network = codec_of(source), codec_of(target)
    message = request(terminal, {33: "987654"}, "0201")
    outbound = network.reversal(
        terminal.original(message), network.forward(message, 77, terminal).reference, 78, UTC, Cause.TIMEOUT
    )
    assert outbound is not None
    reversal = network.decode(outbound.payload)
    fields = reversal.body.fields
    assert (reversal.kind, reversal.attributes.type) == (Kind.ADVICE, "0420")
    assert (fields[7], fields[11]) == ("1122123456", "000078")
    assert fields[90] == "0200" + "000077" + "1122123456" + "00000123456" + "00000987654"
    for number in (2, 3, 4, 12, 13, 32, 37, 41, 42, 49):
        assert fields[number] == message.body.fields[number]
    assert not fields.keys() & {14, 35, 52, 55}
    assert answered(network, outbound.payload, {39: "00"}, "0430").match_key == outbound.match_key


def test_a_reversal_of_1993_has_a_function_a_reason_and_original_data() -> None:
    codec = codec_of("iso93-binary")
    outbound = codec.reversal(*sent(codec, request(codec)), 78, UTC, Cause.TIMEOUT)
    assert outbound is not None
    body = codec.decode(outbound.payload).body
    assert (body.mti, body.fields[24], body.fields[25]) == ("1420", "400", "4021")
    assert body.fields[56] == "1200" + "000077" + "261122123456" + "06" + "123456"


def test_a_reversal_of_a_request_by_track_has_the_pan_of_the_track() -> None:
    codec = codec_of("iso87-ascii")
    fields = {n: value for n, value in sample("1987").items() if n != 2}
    original = codec.original(codec.decode(codec.dialect.encode("0200", fields)))
    outbound = codec.reversal(original, b"", 2, UTC, Cause.TIMEOUT)
    assert outbound is not None
    assert codec.decode(outbound.payload).body.fields[2] == PAN
    assert 2 not in codec.decode(codec.answer(original, codec.refuse(original, Reason.TIMEOUT))).body.fields


@pytest.mark.parametrize("mti", ["0220", "0400", "0420", "0120", "0800", "0500"])
def test_what_is_no_request_for_money_is_not_reversed(mti: str) -> None:
    codec = codec_of("iso87-ascii")
    assert codec.reversal(codec.original(request(codec, mti=mti)), b"", 2, UTC, Cause.TIMEOUT) is None


@pytest.mark.parametrize("name", shipped_dialects())
def test_a_repeat_is_marked_in_the_mti_alone(name: str) -> None:
    codec = codec_of(name)
    outbound = codec.reversal(*sent(codec, request(codec)), 2, UTC, Cause.TIMEOUT)
    assert outbound is not None
    repeat = codec.repeat(outbound.payload)
    first, second = codec.decode(outbound.payload), codec.decode(repeat)
    assert second.body.mti == first.body.mti[:3] + "1" and second.attributes.type == first.attributes.type
    assert (first.repeat, second.repeat) == (False, True)
    assert second.body.raw == first.body.raw
    assert codec.repeat(repeat) == repeat


def test_a_repeat_has_the_key_and_digest_of_what_it_repeats() -> None:
    codec = codec_of("iso87-binary")
    first = request(codec)
    fresh = {52: "FFFFFFFFFFFFFFFF", 53: "0000000000000009", 64: "0011223344556677"}
    repeat = request(codec, fresh, "0201")
    assert (first.repeat, repeat.repeat) == (False, True)
    assert (repeat.duplicate_key, repeat.digest) == (first.duplicate_key, first.digest)
    assert len(first.digest) == 16


@pytest.mark.parametrize("number", [2, 3, 4, 49, 55])
def test_other_content_under_the_same_key_has_another_digest(number: int) -> None:
    codec = codec_of("iso87-ascii")
    value = {2: "4222222222222222", 3: "010000", 4: "000000099999", 49: "840", 55: "9A03201122"}[number]
    first, other = request(codec), request(codec, {number: value})
    assert other.duplicate_key == first.duplicate_key
    assert other.digest != first.digest


@pytest.mark.parametrize("number", [11, 32, 37, 41, 42])
def test_another_identification_is_another_key(number: int) -> None:
    codec = codec_of("iso87-ascii")
    value = "9" * len(sample("1987")[number])
    assert request(codec, {number: value}).duplicate_key != request(codec).duplicate_key


def test_requests_advices_and_reversals_of_one_stan_are_no_duplicates_of_each_other() -> None:
    codec = codec_of("iso87-ascii")
    assert len({request(codec, mti=mti).duplicate_key for mti in ("0100", "0200", "0220", "0420")}) == 4


@pytest.mark.parametrize("function", [NetworkFunction.SIGN_ON, NetworkFunction.SIGN_OFF, NetworkFunction.ECHO])
@pytest.mark.parametrize("name", EACH)
def test_network_management_is_asked_and_answered(name: str, function: NetworkFunction) -> None:
    codec = codec_of(name)
    outbound = codec.network_request(function, 5, UTC)
    assert outbound is not None
    asked = codec.decode(outbound.payload)
    assert (asked.kind, asked.network_function) == (Kind.NETWORK_REQUEST, function)
    assert (asked.body.fields[7], asked.body.fields[11]) == ("1122123456", stan(codec, 5))
    answer = codec.decode(codec.network_answer(asked))
    assert (answer.kind, answer.network_function, answer.match_key) == (
        Kind.NETWORK_ANSWER,
        function,
        outbound.match_key,
    )
    assert answer.outcome is not None and answer.outcome.decision is Decision.APPROVED
    assert answer.body.fields[39] == {"iso87-binary": "00", "iso93-ascii": "800", "iso2003-binary": "8000"}[name]


def test_a_link_without_sign_on_still_echoes() -> None:
    codec = codec_of("iso87-ascii", sign_on=False)
    assert codec.network_request(NetworkFunction.SIGN_ON, 1, UTC) is None
    assert codec.network_request(NetworkFunction.SIGN_OFF, 1, UTC) is None
    assert codec.network_request(NetworkFunction.ECHO, 1, UTC) is not None


def test_a_network_can_ask_for_further_fields_in_its_management_messages() -> None:
    codec = codec_of("iso87-ascii", network_fields={"33": "123456"})
    outbound = codec.network_request(NetworkFunction.SIGN_ON, 1, UTC)
    assert outbound is not None
    assert codec.decode(outbound.payload).body.fields[33] == "123456"


def test_an_unknown_network_function_is_another_one() -> None:
    codec = codec_of("iso87-ascii")
    assert codec.decode(codec.dialect.encode("0800", {70: "101"})).network_function is NetworkFunction.OTHER


WRONG_OPTIONS: dict[str, tuple[str, dict[str, object]]] = {
    "the STAN alone": ("match: no field but DE11", {"match": ("11",)}),
    "the STAN alone, twice": ("match: no field but DE11", {"match": ("11", "11")}),
    "duplicates by the STAN alone": ("duplicate: no field but DE11", {"duplicate": ("11",)}),
    "nothing to match network management by": ("network_match: no field of the dialect", {"network_match": ()}),
    "a network match that is no number": ("network_match: fields are numbers", {"network_match": ("stan",)}),
    "no match fields": ("match: no field but DE11", {"match": ()}),
    "a field that is no number": ("match: fields are numbers", {"match": ("stan", "37")}),
    "DE11 and a field the dialect lacks": ("duplicate: no field but DE11", {"duplicate": ("11", "190")}),
    "a code too long for the field": ("DE39", {"response_codes": {Reason.TIMEOUT: "911"}}),
    "a reversal of another version": ("reversal_mti", {"reversal_mti": "1420"}),
    "a reversal of no MTI": ("reversal_mti", {"reversal_mti": "04"}),
    "a network field it cannot hold": ("DE33", {"network_fields": {"33": "x"}}),
}


@pytest.mark.parametrize("what", WRONG_OPTIONS)
def test_options_that_make_no_sense_are_refused(what: str) -> None:
    reason, options = WRONG_OPTIONS[what]
    with pytest.raises(ValueError, match=reason):
        codec_of("iso87-ascii", **options)


def test_a_refusal_that_filling_would_turn_into_an_approval_is_refused() -> None:
    with pytest.raises(ValueError, match="DE39"):
        codec_of("iso93-ascii", response_codes={Reason.TIMEOUT: "68"})


def test_options_are_read_from_configuration_strictly() -> None:
    options = msgspec.convert({"match": ["11", "37"], "response_codes": {"timeout": "68"}}, Iso8583Options)
    assert options.response_codes == {Reason.TIMEOUT: "68"}
    with pytest.raises(msgspec.ValidationError, match="colour"):
        msgspec.convert({"colour": "red"}, Iso8583Options)


@settings(deadline=None)
@given(st.sampled_from(shipped_dialects()), st.binary(max_size=120))
def test_random_bytes_are_a_message_or_refused(name: str, payload: bytes) -> None:
    codec = codec_of(name)
    try:
        message = codec.decode(payload)
    except MessageError:
        return
    codec.original(message)


NO_RECORDS = [
    ["", "0200", {}],
    ["iso99", "0200", {39: b"05"}],
    ["iso87-ascii", "02", {}],
    ["iso87-ascii", "0200", {999: b""}],
    ["iso87-ascii", "0200\n", {}],
]
NOT_UTF_8 = b"\x93\xa1\xff\xa40200\x80"
DEEP = b"\x95\xa5iso87\xa40200\x80\xa0" + b"\x91" * 2000


@pytest.mark.parametrize("data", [b"", b"\x00", NOT_UTF_8, DEEP, *map(msgspec.msgpack.encode, NO_RECORDS)])
def test_a_record_that_cannot_be_one_is_refused(data: bytes) -> None:
    codec = codec_of("iso87-ascii")
    with pytest.raises(MessageError):
        codec.answer(data, Outcome(Decision.DECLINED, "05", data))


def test_nothing_that_may_be_logged_shows_the_card_number() -> None:
    codec = codec_of("iso87-ascii")
    message = request(codec)
    outbound = codec.forward(message, 77, codec)
    issuer = answered(codec, outbound.payload, {39: "00"})
    shown = repr([message, message.body, message.attributes, outbound, issuer.outcome, codec.options, codec.dialect])
    assert PAN not in shown
    assert PAN[:8] not in shown


@pytest.mark.parametrize(("code", "accepted"), [("00", True), ("", True), ("05", False), ("91", False)])
def test_a_sign_on_is_accepted_or_refused_by_its_answer(code: str, accepted: bool) -> None:
    codec = codec_of("iso87-ascii")
    fields = {11: "000001", 70: "001", **({39: code} if code else {})}
    found = codec.decode(codec.dialect.encode("0810", fields))
    assert found.outcome is not None
    assert (found.outcome.decision is Decision.APPROVED) is accepted


SECRET = {  # of which something may be anything
    35: "4000000000000002=2512101{:.6}", 45: "B4000000000000002^A/B^2512101{:.6}", 52: "{:.16}",
    55: "57104000000000000002D2512101{:.6}0F9F0206000000012345",
}  # fmt: skip


@pytest.mark.parametrize("number", SECRET)
def test_what_must_not_be_kept_is_not_in_the_digest_that_is_kept(number: int) -> None:
    """Whoever has the rest of the message could find it by trying all values."""
    codec = codec_of("iso87-ascii")
    first, other = (
        request(codec, {number: SECRET[number].format(digits)}) for digits in ("1234567890123456", "9876543210987654")
    )
    assert first.body.raw[number] != other.body.raw[number]
    assert first.digest == other.digest


def test_the_card_counts_in_the_digest_where_only_its_track_has_it() -> None:
    codec = codec_of("iso87-ascii")
    digests = set()
    for pan in ("4000000000000002", "4000000000000010"):
        fields = {**sample("1987"), 35: f"{pan}=2512101123"}
        del fields[2]
        digests.add(codec.decode(codec.dialect.encode("0200", fields)).digest)
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("fields", "pan"),
    [
        ({35: PAN + "=2812"}, PAN),
        ({35: PAN + "D2812"}, PAN),
        ({35: "4" * 20}, ""),  # longer than any PAN
        ({45: f"B{PAN}^PAYER/A^28121011"}, PAN),
        ({45: f"%B{PAN}^PAYER/A^28121011"}, PAN),
        ({45: f"B{PAN}"}, ""),  # cut off: the rest of the PAN may be missing
        ({36: f"01{PAN}=9780"}, PAN),
        ({35: "5500000000000004=2812", 45: f"B{PAN}^A/B^2812"}, "5500000000000004"),
        ({2: "5500000000000004", 45: f"B{PAN}^A/B^2812"}, "5500000000000004"),
        ({41: "TERM0001"}, ""),
    ],
)
def test_the_account_is_found_in_any_track_and_is_no_part_of_what_is_shown(fields: dict[int, str], pan: str) -> None:
    codec = codec_of("iso87-ascii")
    found = codec.decode(codec.dialect.encode("0200", fields))
    original = codec.original(found)
    assert found.attributes.bin == pan[:11] and bool(codec.account(original)) == bool(pan)
    assert not pan or pan not in f"{found!r} {found.attributes!r}"
    assert not pan or codec.facts(original, None).pan.startswith(pan[:6] + "*")
    advice = codec.decode(codec.dialect.encode("0220", fields))
    sent = codec.decode(codec.forward(advice, 1, codec).payload).body.fields
    assert sent.get(2, "") == pan and not sent.keys() & {35, 36, 45}


@pytest.mark.parametrize("name", EACH)
def test_the_journal_has_amounts_and_currency_as_the_summary_does(name: str) -> None:
    """In 2003 both are in DE4, and so is what a partial approval leaves."""
    codec = codec_of(name)
    message = request(codec)
    part = sample(codec.dialect.version)[4][:-5] + "10000"
    code = {"iso87-binary": "10", "iso93-ascii": "002", "iso2003-binary": "0002"}[name]
    answer = answered(codec, codec.forward(message, 77, codec).payload, {4: part, 39: code})
    facts = codec.facts(codec.original(message), answer.outcome)
    assert (facts.amount, facts.currency, facts.approved_amount) == (12345, "978", 10000)
    assert (facts.amount, facts.currency) == (message.summary.amount, message.summary.currency)
