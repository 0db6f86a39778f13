"""Presence rules: a message without what its link wants is decoded, and says what is wrong with it."""

import msgspec
import pytest
from iso8583_samples import PAN, purchase_mti, sample

from messages.iso8583 import Iso8583Codec, Iso8583Options
from messages.message import Message, MessageError, Reason

UTC = 1795350896.0


def codec_of(*rules: dict[str, object], name: str = "iso87-ascii", **options: object) -> Iso8583Codec:
    return Iso8583Codec(msgspec.convert({"dialect": name, "presence": list(rules), **options}, Iso8583Options))


def message(codec: Iso8583Codec, mti: str = "", without: tuple[int, ...] = (), **changes: str) -> Message:
    version = codec.dialect.version
    fields = {**sample(version), **{int(name[2:]): value for name, value in changes.items()}}
    fields = {number: value for number, value in fields.items() if number not in without}
    return codec.decode(codec.dialect.encode(mti or purchase_mti(version), fields))


MANDATORY = {"mti": ["02"], "mandatory": ["2", "41", "42"]}
CHIP = {"field": "22", "values": ["05x", "07x"]}


def test_without_rules_nothing_is_wrong() -> None:
    codec = codec_of()
    assert codec.decode(codec.dialect.encode("0200", {11: "1"})).flaw == ""


def test_a_missing_field_is_told_by_its_number() -> None:
    codec = codec_of(MANDATORY)
    assert message(codec).flaw == ""
    assert message(codec, without=(41,)).flaw == "DE41 missing"
    assert message(codec, without=(42, 41)).flaw == "DE41 missing"


def test_an_empty_field_is_missing() -> None:
    codec = codec_of({"mandatory": ["32", "41"]})
    assert message(codec, de41=" " * 8).flaw == "DE41 missing"
    assert message(codec, de32="").flaw == "DE32 missing"


def test_a_field_that_may_not_be_there_is_told() -> None:
    codec = codec_of({"forbidden": ["60", "52"]})
    assert message(codec).flaw == "DE52 not allowed"
    assert message(codec, without=(52,)).flaw == ""


@pytest.mark.parametrize(
    ("mti", "flawed"), [("0200", True), ("0201", True), ("0220", True), ("0100", False), ("0420", False)]
)
def test_rules_hold_for_the_types_they_name(mti: str, flawed: bool) -> None:
    assert bool(message(codec_of(MANDATORY), mti, (41,)).flaw) is flawed


@pytest.mark.parametrize("named", ["0200", "0201"])
def test_a_repeat_is_held_to_the_rules_of_what_it_repeats(named: str) -> None:
    codec = codec_of({"mti": [named], "mandatory": ["41"]})
    assert [message(codec, mti, (41,)).flaw for mti in ("0200", "0201")] == ["DE41 missing"] * 2


def test_rules_hold_for_the_processing_codes_they_name() -> None:
    codec = codec_of({"processing_codes": ["01", "3"], "mandatory": ["60"]})
    assert [bool(message(codec, de3=code).flaw) for code in ("000000", "010000", "300000")] == [False, True, True]
    assert message(codec, without=(3,)).flaw == ""


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        (CHIP, {"051": True, "071": True, "021": False}),
        ({"field": "23"}, {"051": True}),
        ({"field": "60"}, {"051": False}),
        ({"field": "60", "absent": True}, {"051": True}),
        ({"field": "23", "absent": True}, {"051": False}),
        ({"field": "60", "values": ["x"]}, {"051": False}),
    ],
)
def test_conditions_on_other_fields(when: dict[str, object], holds: dict[str, bool]) -> None:
    codec = codec_of({"conditional": [{"when": when, "mandatory": ["55"]}]})
    for mode, expected in holds.items():
        assert message(codec, without=(55,), de22=mode).flaw == ("DE55 missing" if expected else "")


def test_a_condition_may_forbid() -> None:
    codec = codec_of({"conditional": [{"when": {"field": "22", "values": ["012"]}, "forbidden": ["35"]}]})
    assert message(codec, de22="012").flaw == "DE35 not allowed"
    assert message(codec).flaw == ""


def test_answers_and_network_management_are_not_held_to_rules() -> None:
    codec = codec_of({"mandatory": ["60"]})
    assert message(codec, "0210", de39="00").flaw == ""
    assert message(codec, "0800").flaw == ""


def test_a_flawed_message_is_whole_otherwise() -> None:
    flawed, plain = message(codec_of(MANDATORY), without=(41,)), message(codec_of(), without=(41,))
    assert msgspec.structs.replace(flawed, flaw="", body=None) == msgspec.structs.replace(plain, body=None)
    assert flawed.body.raw == plain.body.raw


@pytest.mark.parametrize(("name", "code"), [("iso87-ascii", "30"), ("iso93-binary", "904")])
def test_the_refusal_names_the_field_where_the_link_has_a_place_for_it(name: str, code: str) -> None:
    for place, found in (("44", "041"), ("", None)):
        codec = codec_of({"mandatory": ["41"]}, name=name, format_error_field=place)
        request = message(codec, without=(41,))
        original = codec.original(request)
        answer = codec.answer(original, codec.refuse(original, Reason.FORMAT, request.flaw))
        fields = codec.dialect.decode(answer).fields
        assert (fields[39], fields.get(44)) == (code, found)
        fields = codec.dialect.decode(codec.answer(original, codec.refuse(original, Reason.TIMEOUT))).fields
        assert 44 not in fields


NONSENSE: dict[str, list[dict[str, object]]] = {
    "no field": [
        {"mandatory": ["65"]},
        {"forbidden": ["x"]},
        {"conditional": [{"when": {"field": "0"}, "mandatory": ["2"]}]},
    ],
    "both": [{"mandatory": ["2"], "forbidden": ["2"]}],
    "not answers": [{"mti": ["021"], "mandatory": ["2"]}],
    "leading digits": [{"mti": ["0xx"], "mandatory": ["2"]}],
    "give mandatory": [{"mti": ["02"]}],
    "without mandatory": [{"conditional": [{"when": {"field": "2"}}]}],
    "either": [{"conditional": [{"when": {"field": "2", "values": ["1"], "absent": True}, "mandatory": ["3"]}]}],
}


@pytest.mark.parametrize(("text", "given"), [(text, each) for text, rules in NONSENSE.items() for each in rules])
def test_what_cannot_work_is_refused(text: str, given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=text):
        codec_of(given)


@pytest.mark.parametrize("field", ["129", "65", "25", "x"])
def test_a_place_that_cannot_hold_a_field_number_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="format_error_field"):
        codec_of(format_error_field=field)


# --- what is said of an unreadable frame

EXPECTED = {"iso87-ascii": ("0620", 48), "iso87-binary": ("0620", 48), "iso93-ascii": ("1644", 72)}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_unreadable_frame_is_told_without_a_byte_of_it(name: str) -> None:
    codec = codec_of(name=name)
    good = codec.dialect.encode(purchase_mti(codec.dialect.version), sample(codec.dialect.version))
    for cut in range(20, len(good), 7):
        payload = good[:cut]
        with pytest.raises(MessageError) as caught:
            codec.decode(payload)
        outbound = codec.complaint(payload, caught.value, 4321, 9, UTC)
        assert outbound is not None
        body = codec.decode(outbound.payload).body
        mti, place = EXPECTED[name]
        assert (body.mti, body.fields[7], body.fields[11]) == (mti, "1122123456", "000009")
        assert body.fields[place].startswith(f"UNREADABLE {cut} BYTES AT 4321: ")
        assert PAN[:8].encode() not in outbound.payload and caught.value.field in body.fields[place]
        assert {*body.fields} == ({7, 11, 48} if mti == "0620" else {7, 11, 12, 24, 72})


def test_class_6_is_never_answered_with_class_6() -> None:
    error = MessageError("the message ends inside it", "DE48", 20)
    for name, payload in (("iso87-ascii", b"0620xx"), ("iso87-binary", b"\x06\x30"), ("iso93-ascii", b"1644")):
        assert codec_of(name=name).complaint(payload, error, 0, 9, UTC) is None
    for payload in (b"", b"0", b"0200", b"\xff\xff\xff\xff"):
        assert codec_of().complaint(payload, error, 0, 9, UTC) is not None


def test_what_is_said_is_the_links_to_choose() -> None:
    options = {"mti": "0600", "text_field": "60", "fields": {"70": "650", "33": "777"}}
    outbound = codec_of(administrative=options).complaint(b"0200", MessageError("short"), 0, 9, UTC)
    assert outbound is not None
    body = codec_of().decode(outbound.payload).body
    assert (body.mti, body.fields[33], body.fields[70], {*body.fields}) == ("0600", "777", "650", {7, 11, 33, 60, 70})


@pytest.mark.parametrize(
    "options",
    [{"mti": "0200"}, {"mti": "0610"}, {"text_field": "129"}, {"fields": {"x": "1"}}, {"fields": {"49": "EURO"}}],
)
def test_a_complaint_that_cannot_be_sent_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="administrative"):
        codec_of(administrative=options)
