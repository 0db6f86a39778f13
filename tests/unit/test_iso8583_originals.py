"""Later messages about earlier ones: references, forwarded advices, the switch's own reversals, stand-in."""

import msgspec
import pytest
from iso8583_samples import APPROVALS, PAN, purchase_mti
from test_iso8583_summaries import codec_of, later, message, naming

from messages.iso8583 import Iso8583Codec, shipped_dialects
from messages.iso8583.dialect import SENSITIVE
from messages.message import Cause, Decision, Kind, Message, MessageError, Outbound, Reason, Trait

UTC = 1795350896.0  # 2026-11-22 12:34:56
SAME_VERSION = [("iso87-ascii", "iso87-binary"), ("iso87-binary", "iso87-ebcdic"), ("iso93-binary", "iso93-ascii")]
SAME_VERSION += [("iso2003-ascii", "iso2003-binary")]
EACH = ["iso87-binary", "iso93-ascii", "iso2003-binary"]
SECRETS: dict[int, str | None] = {52: "0123456789ABCDEF", 53: "0000000000000007"}


def digit(codec: Iso8583Codec) -> str:
    return purchase_mti(codec.dialect.version)[0]


def fields_of(codec: Iso8583Codec, outbound: Outbound | None) -> dict[int, str]:
    assert outbound is not None
    fields: dict[int, str] = codec.decode(outbound.payload).body.fields
    return fields


def about(codec: Iso8583Codec, function: str = "420", changes: dict[int, str | None] | None = None) -> Message:
    """A terminal's advice about the sample purchase."""
    return message(codec, digit(codec) + function, {**later(codec), **naming(codec), **(changes or {})})


def named(codec: Iso8583Codec, fields: dict[int, str]) -> dict[str, str]:
    number = 90 if 90 in fields and codec.dialect.version == "1987" else 56
    return codec.dialect.subfields(number, fields[number])


# --- forwarding


@pytest.mark.parametrize(("source", "target"), SAME_VERSION)
@pytest.mark.parametrize("function", ["420", "220"])
def test_an_advice_names_its_original_as_that_was_sent(source: str, target: str, function: str) -> None:
    terminal, network = codec_of(source), codec_of(target)
    original = message(terminal, "", {33: "987654"})
    reference = network.forward(original, 77, terminal).reference
    advice = about(terminal, function)
    fields = fields_of(network, network.forward(advice, 78, terminal, reference=reference))
    width = terminal.stan_digits
    assert (fields[11], named(network, fields)["stan"]) == (f"{78:0{width}d}", f"{77:0{width}d}")
    assert named(network, fields)["mti"] == purchase_mti(terminal.dialect.version)
    assert named(network, fields)["acquirer_id"].lstrip("0") == "123456"
    if terminal.dialect.version == "1987":
        assert fields[90] == "0200" + "000077" + "1122123456" + "00000123456" + "00000987654"
    else:
        assert named(network, fields)["local_time"] == original.body.fields[12]


def test_the_original_data_of_each_version_have_its_widths() -> None:
    for name, value in (
        ("iso93-ascii", "1200" + "000077" + "261122123456" + "06123456"),
        ("iso2003-ascii", "2200" + "000000000077" + "20261122123456" + "06123456"),
    ):
        codec = codec_of(name)
        reference = codec.forward(message(codec), 77, codec).reference
        assert fields_of(codec, codec.forward(about(codec), 78, codec, reference=reference))[56] == value


@pytest.mark.parametrize("name", EACH)
def test_without_a_reference_original_data_pass_as_they_came(name: str) -> None:
    codec = codec_of(name)
    advice = about(codec)
    before = {number: value for number, value in advice.body.fields.items() if number not in SENSITIVE - {55}}
    assert fields_of(codec, codec.forward(advice, 78, codec)) == {**before, 11: f"{78:0{codec.stan_digits}d}"}


def test_a_reversal_that_names_nothing_is_given_a_name_for_its_receiver() -> None:
    codec = codec_of()
    reference = codec.forward(message(codec), 77, codec).reference
    fields = fields_of(codec, codec.forward(message(codec, "0400"), 78, codec, reference=reference))
    assert fields[90].startswith("0200000077")


def test_a_reference_holds_nothing_of_the_card() -> None:
    codec = codec_of()
    reference = codec.forward(message(codec, "", SECRETS), 77, codec).reference
    assert PAN[:8].encode() not in reference
    assert len(reference) < 80


@pytest.mark.parametrize("data", [b"x", b"\x91\xa40200", b"\x80"])
def test_what_is_no_reference_is_refused(data: bytes) -> None:
    codec = codec_of()
    with pytest.raises(MessageError, match="reference"):
        codec.forward(about(codec), 78, codec, reference=data)


@pytest.mark.parametrize(("form", "given"), [("0400", "0421"), ("0420", "0400"), ("", "0400"), ("", "0420")])
def test_a_reversal_goes_out_in_the_links_form(form: str, given: str) -> None:
    terminal, network = codec_of(), codec_of(reversal_mti=form)
    outbound = network.forward(message(terminal, given), 78, terminal)
    assert network.decode(outbound.payload).attributes.type == (form or given)


@pytest.mark.parametrize(("mti", "kept"), [("0220", "0220"), ("0422", "0422"), ("0200", "0200")])
def test_the_form_of_reversals_is_that_of_nothing_else(mti: str, kept: str) -> None:
    terminal, network = codec_of(), codec_of(reversal_mti="0400")
    outbound = network.forward(message(terminal, mti), 78, terminal)
    assert network.decode(outbound.payload).attributes.type == kept


def test_a_network_can_want_the_originals_stan_in_a_reversal() -> None:
    terminal, network = codec_of(), codec_of("iso87-binary", reversal_stan="original")
    original = message(terminal)
    sent = network.forward(original, 77, terminal)
    forwarded = network.forward(about(terminal), 78, terminal, reference=sent.reference)
    own = network.reversal(terminal.original(original), sent.reference, 78, UTC, Cause.TIMEOUT)
    for outbound in (forwarded, own):
        fields = fields_of(network, outbound)
        assert (fields[11], fields[37]) == ("000077", original.body.fields[37])
        assert outbound is not None
        assert outbound.match_key == network.decode(outbound.payload).match_key != sent.match_key
    completion = network.forward(about(terminal, "220"), 78, terminal, reference=sent.reference)
    assert fields_of(network, completion)[11] == "000078"


def test_a_partial_reversal_is_answered_with_its_replacement_amounts() -> None:
    terminal = codec_of()
    replaced = f"{400:012d}{0:012d}C00000000C00000000"
    original = terminal.original(about(terminal, changes={95: replaced}))
    answer = terminal.decode(terminal.answer(original, terminal.accept(original))).body
    assert answer.mti == "0430" and answer.fields[95] == replaced


@pytest.mark.parametrize(("name", "date", "sent"), [
    ("iso87-ascii", "1123", "1123"), ("iso87-ascii", "20261123", "1123"), ("iso93-binary", "261123", "261123"),
    ("iso2003-ascii", "20261123", "20261123"),
])  # fmt: skip
def test_the_business_date_is_stamped_and_a_reversal_keeps_the_originals(name: str, date: str, sent: str) -> None:
    codec = codec_of(name)
    original = codec.forward(message(codec), 77, codec, date=date)
    assert fields_of(codec, original)[15] == sent
    tomorrow = date[:-1] + "4"
    reversal = codec.forward(about(codec), 78, codec, reference=original.reference, date=tomorrow)
    assert fields_of(codec, reversal)[15] == sent
    completion = codec.forward(about(codec, "220"), 79, codec, reference=original.reference, date=tomorrow)
    assert fields_of(codec, completion)[15] == sent[:-1] + "4"
    own = codec.reversal(codec.original(message(codec)), original.reference, 80, UTC, Cause.TIMEOUT)
    assert fields_of(codec, own)[15] == sent


def test_a_business_date_that_is_too_short_is_told() -> None:
    codec = codec_of("iso93-ascii")
    with pytest.raises(MessageError, match="DE15"):
        codec.forward(message(codec), 77, codec, date="1123")


def test_what_the_switch_sends_can_itself_be_named_later() -> None:
    codec = codec_of()
    outcome = codec.approve(codec.original(message(codec)), 5)
    advice = codec.stand_in_advice(codec.original(message(codec)), outcome, Cause.UNAVAILABLE, 90, UTC)
    fields = fields_of(codec, codec.forward(about(codec), 91, codec, reference=advice.reference))
    assert fields[90].startswith("0220" + "000090" + "1122123456")


# --- the switch's own reversals

REASONS = {Cause.TIMEOUT: "4021", Cause.UNDELIVERABLE: "4013", Cause.PARTIAL: "4007"}


@pytest.mark.parametrize("cause", REASONS)
@pytest.mark.parametrize("name", ["iso93-binary", "iso2003-ascii"])
def test_a_reversal_tells_its_cause(name: str, cause: Cause) -> None:
    codec = codec_of(name)
    original = message(codec)
    reference = codec.forward(original, 77, codec).reference
    fields = fields_of(codec, codec.reversal(codec.original(original), reference, 78, UTC, cause))
    assert (fields[24], fields[25]) == ("400", REASONS[cause])


def test_the_cause_is_told_in_1987_as_the_link_wants_it() -> None:
    codec = codec_of(reversal_fields={"timeout": {"39": "68"}, "undeliverable": {"39": "17", "48": "X"}})
    original = codec.original(message(codec))
    told = [fields_of(codec, codec.reversal(original, b"", 78, UTC, cause)) for cause in REASONS]
    assert [fields.get(39) for fields in told] == ["68", "17", None]
    assert told[1][48] == "X"


SUBJECT = {
    "000000": (True, True),
    "010000": (True, True),
    "400000": (True, True),
    "300000": (False, False),
    "310000": (False, False),
    "920000": (False, False),
}


@pytest.mark.parametrize("code", SUBJECT)
@pytest.mark.parametrize("mti", ["0100", "0200"])
def test_money_is_undone_and_an_inquiry_is_not(mti: str, code: str) -> None:
    codec = codec_of()
    original = codec.original(message(codec, mti, {3: code}))
    timeout, undeliverable = SUBJECT[code]
    assert (codec.reversal(original, b"", 2, UTC, Cause.TIMEOUT) is not None) is timeout
    assert (codec.reversal(original, b"", 2, UTC, Cause.UNDELIVERABLE) is not None) is undeliverable


def test_a_network_can_do_without_reversals_after_a_timeout() -> None:
    codec = codec_of(profiles={"preauth": {"traits": ["money"]}})
    original = codec.original(message(codec, "0100"))
    assert codec.reversal(original, b"", 2, UTC, Cause.TIMEOUT) is None
    assert codec.reversal(original, b"", 2, UTC, Cause.UNDELIVERABLE) is not None


@pytest.mark.parametrize("mti", ["0220", "0202", "0400", "0420", "0120", "0300", "0500", "0600"])
def test_what_is_no_request_for_money_is_not_reversed(mti: str) -> None:
    codec = codec_of()
    for cause in REASONS:
        assert codec.reversal(codec.original(message(codec, mti)), b"", 2, UTC, cause) is None


def test_a_reversal_has_the_retrieval_reference_that_was_sent() -> None:
    terminal, network = codec_of(), codec_of("iso87-binary")
    sent = network.forward(message(terminal, "", {37: "999999999999"}), 77, terminal)
    own = network.reversal(terminal.original(message(terminal)), sent.reference, 78, UTC, Cause.TIMEOUT)
    assert fields_of(network, own)[37] == "999999999999"


def test_a_reversal_needs_no_original_data_in_a_dialect_without_them(tmp_path: object) -> None:
    path = f"{tmp_path}/short.toml"
    with open(path, "w", encoding="ascii") as file:
        file.write('base = "iso87-ascii"\n[fields]\n90 = { format = "ansb...999", subfields = [] }\n')
    codec = codec_of(path)
    assert 90 not in fields_of(codec, codec.reversal(codec.original(message(codec)), b"", 2, UTC, Cause.TIMEOUT))


# --- stand-in


@pytest.mark.parametrize(("source", "target"), [*SAME_VERSION, ("iso87-ascii", "iso87-ascii")])
@pytest.mark.parametrize("function", ["100", "200"])
def test_stand_in_is_told_to_the_issuer_without_track_or_pin(source: str, target: str, function: str) -> None:
    terminal, network = codec_of(source), codec_of(target)
    request = message(terminal, digit(terminal) + function, SECRETS)
    original = terminal.original(request)
    outcome = terminal.approve(original, 345)
    answer = terminal.decode(terminal.answer(original, outcome))
    assert answer.outcome is not None and answer.outcome.decision is Decision.APPROVED
    assert answer.body.fields[38] == "000345"
    outbound = network.stand_in_advice(original, outcome, Cause.UNAVAILABLE, 78, UTC)
    advice = network.decode(outbound.payload)
    fields, before = advice.body.fields, request.body.fields
    assert (advice.kind, advice.attributes.type) == (Kind.ADVICE, digit(terminal) + function[0] + "20")
    assert (fields[7], fields[11]) == ("1122123456", f"{78:0{network.stan_digits}d}")
    assert (fields[38], fields[39]) == ("000345", APPROVALS[terminal.dialect.version])
    for number in (2, 3, 4, 12, 14, 22, 32, 37, 41, 42, 43):
        assert fields[number] == before[number]
    assert not fields.keys() & {35, 36, 45, 52, 53, 55, 64}
    assert advice.match_key == outbound.match_key
    assert advice.summary.is_(Trait.MONEY) and advice.summary.refers == b""


@pytest.mark.parametrize(("cause", "reason"), [(Cause.UNAVAILABLE, "1003"), (Cause.TIMEOUT, "1002")])
def test_stand_in_tells_why(cause: Cause, reason: str) -> None:
    codec = codec_of("iso93-ascii", stand_in_fields={"unavailable": {"58": "123"}})
    original = codec.original(message(codec))
    fields = fields_of(codec, codec.stand_in_advice(original, codec.approve(original, 1), cause, 2, UTC))
    assert (fields[25], fields[24], fields.get(58)) == (reason, "200", "123" if cause is Cause.UNAVAILABLE else None)


def test_an_approval_code_is_never_zero() -> None:
    codec = codec_of("iso2003-ascii")
    original = codec.original(message(codec))
    for stan, code in ((1, "000001"), (999_999, "999999"), (1_000_000, "000001"), (2_000_000_000, "002000")):
        fields = codec.decode(codec.answer(original, codec.approve(original, stan))).body.fields
        assert fields[38] == code != "000000"


def test_only_a_request_is_decided_by_stand_in() -> None:
    codec = codec_of()
    original = codec.original(message(codec, "0220"))
    with pytest.raises(MessageError):
        codec.stand_in_advice(original, codec.approve(original, 1), Cause.UNAVAILABLE, 2, UTC)


def test_stand_in_for_another_version_is_refused() -> None:
    terminal, network = codec_of(), codec_of("iso93-ascii")
    original = terminal.original(message(terminal))
    with pytest.raises(MessageError, match="1987"):
        network.stand_in_advice(original, terminal.approve(original, 1), Cause.UNAVAILABLE, 2, UTC)
    with pytest.raises(MessageError, match="1987"):
        network.reversal(original, b"", 2, UTC, Cause.TIMEOUT)


@pytest.mark.parametrize("name", shipped_dialects())
def test_every_own_message_is_one_the_dialect_can_read(name: str) -> None:
    codec = codec_of(name)
    original = codec.original(message(codec))
    outcome = codec.approve(original, 1)
    for cause in Cause:
        for outbound in (
            codec.reversal(original, b"", 2, UTC, cause),
            codec.stand_in_advice(original, outcome, cause, 3, UTC),
        ):
            assert outbound is not None
            assert codec.decode(outbound.payload).match_key == outbound.match_key
    assert codec.refuse(original, Reason.STAND_IN).decision is Decision.DECLINED


WRONG: list[tuple[str, dict[str, object]]] = [
    ("DE39", {"reversal_fields": {"timeout": {"39": "911"}}}),
    ("DE48", {"stand_in_fields": {"timeout": {"48": "x" * 1000}}}),
    ("reversal_mti", {"reversal_mti": "0220"}),
    ("reversal_mti", {"reversal_mti": "0422"}),
    ("reversal_mti", {"reversal_mti": "0421"}),
    ("reversal_mti", {"reversal_mti": "0410"}),
]


@pytest.mark.parametrize(("what", "options"), WRONG)
def test_templates_that_cannot_be_sent_are_refused(what: str, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=what):
        codec_of(**options)  # type: ignore[arg-type]


def test_causes_are_read_strictly() -> None:
    with pytest.raises(msgspec.ValidationError):
        codec_of(reversal_fields={"weather": {"39": "68"}})
