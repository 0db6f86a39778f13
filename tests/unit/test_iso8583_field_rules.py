"""Field rules of a link: what goes out is changed as configured, and nothing else is."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iso8583_samples import PAN, purchase_mti, sample

from messages.iso8583 import Iso8583Codec, Iso8583Options, shipped_dialects
from messages.iso8583.stamps import Moment, is_date, stamp
from messages.message import Cause, Message, MessageError, NetworkFunction, Reason

UTC = 1795350896.0  # 2026-11-22 12:34:56, day 326


def rule(field: str, action: str, **given: object) -> dict[str, object]:
    return {"field": field, "action": action, **given}


def codec_of(name: str, *rules: dict[str, object], **options: object) -> Iso8583Codec:
    return Iso8583Codec(msgspec.convert({"dialect": name, "field": list(rules), **options}, Iso8583Options))


def request(codec: Iso8583Codec, mti: str = "", without: tuple[int, ...] = (), **changes: str) -> Message:
    version = codec.dialect.version
    fields = {**sample(version), **{int(name[2:]): value for name, value in changes.items()}}
    fields = {number: value for number, value in fields.items() if number not in without}
    return codec.decode(codec.dialect.encode(mti or purchase_mti(version), fields))


def sent(codec: Iso8583Codec, message: Message, **options: object) -> dict[int, str]:
    outbound = codec.forward(message, 77, codec, **{"utc": UTC, **options})  # type: ignore[arg-type]
    return codec.dialect.decode(outbound.payload).fields


def answered(codec: Iso8583Codec, payload: bytes, **changes: str) -> Message:
    body = codec.dialect.decode(payload)
    fields = {n: v for n, v in body.fields.items() if n not in (14, 18, 22, 23, 25, 28, 35, 43, 45, 52, 53, 55)}
    fields |= {int(name[2:]): value for name, value in changes.items()}
    return codec.decode(codec.dialect.encode(body.mti[:2] + "10", fields))


def changed(
    *rules: dict[str, object], mti: str = "", without: tuple[int, ...] = (), **fields: str
) -> dict[int, str | None]:
    """The fields that differ between what came and what is forwarded under these rules."""
    codec = codec_of("iso87-ascii", *rules)
    message = request(codec, mti, without, **fields)
    before, after = message.body.fields, sent(codec, message)
    return {n: after.get(n) for n in sorted({*before, *after} - {11}) if before.get(n) != after.get(n)}


# --- actions


def test_set_puts_a_constant_whether_the_field_is_there_or_not() -> None:
    assert changed(rule("32", "set", value="999"), rule("33", "set", value="888")) == {32: "999", 33: "888"}


def test_add_and_if_absent_leave_what_is_there() -> None:
    assert changed(rule("32", "add", value="999"), rule("33", "add", value="888")) == {33: "888"}
    assert changed(rule("32", "set", value="999", if_absent=True)) == {}


def test_a_constant_is_filled_up_as_the_field_wants() -> None:
    assert changed(rule("42", "set", value="SHOP"), rule("24", "add", value="7")) == {24: "007", 42: "SHOP".ljust(15)}


def test_drop_takes_fields_away() -> None:
    assert changed(rule("28", "drop"), rule("43", "drop"), rule("60", "drop")) == {28: None, 43: None}


def test_copy_takes_a_field_or_a_part_of_one() -> None:
    assert changed(rule("33", "copy", **{"from": "32"})) == {33: "123456"}
    given = rule("25", "copy", **{"from": "3.from_account"})
    assert changed(given, de3="013000") == {25: "30"}
    assert changed(rule("33", "copy", **{"from": "100"})) == {}
    assert changed(rule("32", "copy", **{"from": "24"}, if_absent=True), de24="123") == {}


def test_map_changes_known_values_and_keeps_the_others() -> None:
    given = rule("18", "map", values={"5411": "5999", "6011": "6010"})
    assert changed(given) == {18: "5999"}
    assert changed(given, de18="1234") == {}
    assert changed(given, without=(18,)) == {}


def test_map_can_insist_on_known_values() -> None:
    codec = codec_of("iso87-ascii", rule("18", "map", values={"6011": "6010"}, default="error"))
    with pytest.raises(MessageError, match="DE18") as caught:
        codec.forward(request(codec), 77, codec)
    assert "5411" not in str(caught.value)


def test_rules_act_one_after_the_other_and_conditions_see_what_came() -> None:
    rules = [rule("3", "set", value="200000"), rule("33", "copy", **{"from": "3"}), rule("25", "set", value="59")]
    rules[2]["processing_codes"] = ["00"]
    assert changed(*rules) == {3: "200000", 25: "59", 33: "200000"}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"mti": ["02"]}, True),
        ({"mti": ["01", "0220"]}, False),
        ({"processing_codes": ["00", "01"]}, True),
        ({"processing_codes": ["20"]}, False),
        ({"when": ["request"]}, True),
        ({"when": ["advice", "reversal"]}, False),
        ({"when": ["answer"]}, False),
    ],
)
def test_conditions_choose_the_messages(condition: dict[str, object], holds: bool) -> None:
    assert changed(rule("33", "add", value="8", **condition)) == ({33: "8"} if holds else {})


def test_advices_and_reversals_of_terminals_are_told_apart() -> None:
    rules = [rule("33", "add", value="2", when=["advice"]), rule("33", "add", value="4", when=["reversal"])]
    kept = {35: None, 52: None}  # no advice is kept with them
    assert changed(*rules, mti="0220") == {33: "2", **kept}
    assert changed(*rules, mti="0400") == changed(*rules, mti="0420") == {33: "4", **kept}
    assert changed(*rules, mti="0200") == {}


# --- values of the switch's own


def test_the_switch_sets_times_and_reference() -> None:
    names = ("7", "12", "13", "15", "37")
    rules = [rule(name, "set", **({"offset_minutes": 720} if name in ("12", "13", "15") else {})) for name in names]
    without = (7, 12, 13, 15, 37)
    expected = {7: "1122123456", 12: "003456", 13: "1123", 15: "1123", 37: "632612000077"}
    assert changed(*rules, without=without) == expected
    assert changed(*reversed(rules), without=without) == expected


def test_the_switch_sets_them_in_1993_with_their_own_widths() -> None:
    codec = codec_of("iso93-binary", *[rule(name, "set") for name in ("7", "12", "15", "37")])
    fields = sent(codec, request(codec, de12="200101000000"))
    assert [fields[n] for n in (7, 12, 15, 37)] == ["1122123456", "261122123456", "261122", "632612000077"]


def test_the_business_date_of_the_link_goes_before_the_calendar() -> None:
    codec = codec_of("iso87-ascii", rule("15", "set"))
    assert sent(codec, request(codec), date="1125")[15] == "1125"


def test_without_a_time_fields_of_time_stay() -> None:
    codec = codec_of("iso87-ascii", rule("7", "set"), rule("37", "set"))
    message = request(codec)
    assert sent(codec, message, utc=0.0) == {**message.body.fields, 11: "000077"}


def test_the_reference_is_made_of_the_transmission_time_as_sent() -> None:
    codec = codec_of("iso87-ascii", rule("37", "set"))
    assert sent(codec, request(codec, de7="1231235959"))[37] == "636523000077"
    assert sent(codec, request(codec, de7="0101000000"))[37] == "700100000077"  # next year's: its clock is ahead
    assert sent(codec, request(codec, de7="1231235959"), utc=1798761601.0)[37] == "636523000077"  # of 2026, in 2027
    assert sent(codec, request(codec, de7="1399999999"))[37] == "632612000077"  # no time: ours


class Original(msgspec.Struct):
    stan: str = "000055"
    transmission: str = "1121235900"
    local_time: str = "005900"
    date: str = "1120"


def test_a_reversal_has_what_its_original_was_sent_with() -> None:
    dialect = codec_of("iso87-ascii").dialect
    moment = Moment(UTC, 77, "1125", Original())
    made = {number: stamp(number, dialect, 60)({}, moment) for number in (7, 12, 13, 15, 37)}
    assert made == {7: "1122123456", 12: "005900", 13: "1122", 15: "1120", 37: "632523000055"}
    blank = Moment(UTC, 77, "1125", Original("", "", "", ""))
    made = {number: stamp(number, dialect, 60)({}, blank) for number in (12, 13, 15, 37)}
    assert made == {12: "133456", 13: "1122", 15: "1125", 37: "632612000077"}


# --- keys and answers


def test_the_match_key_is_made_of_what_was_sent() -> None:
    codec = codec_of("iso87-ascii", rule("7", "set"), rule("37", "set"), rule("41", "map", values={"TERM0001": "T9"}))
    message = request(codec)
    outbound = codec.forward(message, 77, codec, utc=UTC + 60)
    assert answered(codec, outbound.payload, de39="00").match_key == outbound.match_key
    assert outbound.match_key != codec_of("iso87-ascii").forward(message, 77, codec).match_key


def test_the_terminal_gets_its_own_values_back() -> None:
    terminal = codec_of("iso87-binary")
    rules = [rule(name, "set") for name in ("7", "12", "13", "37")]
    rules += [
        rule("32", "set", value="999999"),
        rule("49", "map", values={"978": "840"}),
        rule("41", "set", value="GATE"),
    ]
    network = codec_of("iso87-ascii", *rules)
    message = request(terminal)
    outbound = network.forward(message, 77, terminal, utc=UTC + 3_600)
    issuer = answered(network, outbound.payload, de39="00", de15="1123", de38="A1B2C3")
    assert issuer.outcome is not None
    fields = terminal.decode(terminal.answer(terminal.original(message), issuer.outcome)).body.fields
    for number in (2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49):
        assert fields[number] == message.body.fields[number]
    assert (fields[15], fields[38], fields[39]) == ("1123", "A1B2C3", "00")


def test_a_reversal_by_the_switch_goes_by_the_rules_of_its_target() -> None:
    codec = codec_of(
        "iso87-ascii",
        rule("32", "set", value="999"),
        rule("18", "drop"),
        rule("60", "add", value="R", when=["reversal"]),
    )
    sent = codec.forward(request(codec), 77, codec, utc=UTC).reference
    outbound = codec.reversal(codec.original(request(codec)), sent, 78, UTC, Cause.TIMEOUT)
    assert outbound is not None
    fields = codec.dialect.decode(outbound.payload).fields
    assert (fields[32], fields[60], 18 in fields) == ("999", "R", False)


def test_answers_have_rules_of_their_own() -> None:
    given = [
        rule("12", "set", when=["answer"], offset_minutes=60),
        rule("44", "copy", when=["answer"], **{"from": "38"}),
        rule("39", "map", when=["answer"], values={"05": "57"}),
        rule("2", "drop", when=["answer"]),
    ]
    codec = codec_of("iso87-ascii", *given)
    message = request(codec)
    issuer = answered(codec, codec.forward(message, 77, codec).payload, de38="A1B2C3", de39="05")
    assert issuer.outcome is not None
    fields = codec.dialect.decode(codec.answer(codec.original(message), issuer.outcome, utc=UTC)).fields
    assert (fields[12], fields[44], fields[39], 2 in fields) == ("133456", "A1B2C3", "57", False)
    assert sent(codec, message) == {**message.body.fields, 11: "000077"}


def test_an_answer_is_never_lost_to_a_rule() -> None:
    codec = codec_of("iso87-ascii", rule("24", "copy", when=["answer"], **{"from": "41"}))
    original = codec.original(request(codec, de24="123"))
    fields = codec.dialect.decode(codec.answer(original, codec.refuse(original, Reason.TIMEOUT))).fields
    assert fields[24] == "123"


def test_a_copy_that_does_not_fit_is_told_with_its_field() -> None:
    codec = codec_of("iso87-ascii", rule("24", "copy", **{"from": "41"}))
    with pytest.raises(MessageError, match="DE24"):
        codec.forward(request(codec), 77, codec)


def test_network_management_has_rules_only_where_they_say_so() -> None:
    for when, found in ((["network"], "888"), (["request"], None)):
        codec = codec_of("iso87-ascii", rule("33", "add", value="888", when=when))
        outbound = codec.network_request(NetworkFunction.ECHO, 5, UTC)
        assert outbound is not None
        assert codec.dialect.decode(outbound.payload).fields.get(33) == found


# --- what cannot work

NONSENSE = {
    "no field": [rule("65", "set", value="1"), rule("129", "drop"), rule("x", "drop")],
    "'999' is no field": [rule("33", "copy", **{"from": "999"})],
    "not for rules": [rule("11", "set", value="1"), rule("4", "set", value="1"), rule("2", "set", value="4")],
    "amount": [rule("4", "drop")],
    "only be mapped": [rule("39", "set", value="00"), rule("39", "drop", when=["answer"])],
    "longer than": [rule("49", "set", value="EURO"), rule("49", "map", values={"EURO": "978"})],
    "longer than 3": [rule("49", "map", values={"978": "EURO"})],
    "give a value": [rule("33", "add"), rule("37", "set", when=["answer"])],
    "none that the switch gives": [rule("33", "set"), rule("14", "set")],
    "matched": [rule("37", "drop"), rule("7", "drop", mti=["01"])],
    "approval": [rule("39", "map", when=["answer"], values={"05": "00"}), rule("39", "map", values={"00": "05"})],
    "sensitive": [rule("48", "copy", **{"from": "35"}), rule("52", "map", values={"0" * 16: "1" * 16})],
    "subfield": [rule("33", "copy", **{"from": "3.nothing"})],
    "leading digits": [rule("33", "add", value="1", mti=["0x"]), rule("33", "add", value="1", processing_codes=["a"])],
    "must reach": [rule("18", "map", values={"1": "2"}, default="error", when=["answer"])],
    "give `values`": [rule("18", "map")],
    "within a day": [rule("12", "set", offset_minutes=1440)],
    "`when`": [rule("33", "add", value="1", when=[])],
}  # fmt: skip


@pytest.mark.parametrize(("text", "given"), [(text, each) for text, rules in NONSENSE.items() for each in rules])
def test_what_cannot_work_is_refused_with_its_rule(text: str, given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        codec_of("iso87-ascii", given)
    assert str(caught.value).startswith(f"field rule {given['action']} of field '{given['field']}'")


def test_de13_of_1993_is_no_local_date() -> None:
    with pytest.raises(ValueError, match="DE13"):
        codec_of("iso93-ascii", rule("13", "set"))


def test_rules_travel_through_the_log() -> None:
    options = codec_of("iso87-ascii", rule("33", "copy", **{"from": "3.transaction"})).options
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(options), type=Iso8583Options) == options


# --- any rules

FREE = ("14", "18", "19", "22", "23", "25", "26", "32", "33", "42", "43", "60", "102")
VALUES = {"an": "A1", "ans": "A b/1", "ansb": "A b", "n": "12", "b": "0A"}


@st.composite
def some_rules(draw: st.DrawFn, codec: Iso8583Codec) -> list[dict[str, object]]:
    def value(name: str) -> str:
        notation = codec.dialect.fields[int(name)].notation
        if notation.type == "b" and not notation.indicator:
            return "0A" * notation.length
        return (
            VALUES[notation.type][: notation.length] + draw(st.sampled_from(["", "1"]))[: max(0, notation.length - 5)]
        )

    rules = []
    for name in draw(st.lists(st.sampled_from(FREE), max_size=5)):
        action = draw(st.sampled_from(["set", "add", "drop", "copy", "map"]))
        given = rule(name, action)
        if action in ("set", "add"):
            given["value"] = value(name)
        elif action == "copy":
            given["from"] = draw(st.sampled_from(FREE))
        elif action == "map":
            given["values"] = {value(name): value(name)}
        given["mti"] = draw(st.sampled_from([[], ["0", "1"], ["01"], ["02", "12"]]))
        rules.append(given)
    return rules


@pytest.mark.parametrize("target", shipped_dialects())
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_the_rules_untouched_fields_pass_byte_for_byte(target: str, data: st.DataObject) -> None:
    plain = codec_of(target)
    rules = data.draw(some_rules(plain))
    codec = codec_of(target, *rules)
    absent = data.draw(st.sets(st.sampled_from([int(name) for name in FREE])))
    message = request(plain, without=tuple(absent))
    try:
        outbound = codec.forward(message, 77, plain, utc=UTC)
    except MessageError as error:
        assert error.field[2:] in [given["field"] for given in rules if given["action"] == "copy"]
        return
    after = codec.dialect.decode(outbound.payload)
    touched = {11, *(int(str(given["field"])) for given in rules)}
    expected = {number: part for number, part in message.body.raw.items() if number not in touched}
    assert {number: part for number, part in after.raw.items() if number not in touched} == expected
    assert codec.decode(outbound.payload).match_key == outbound.match_key
    assert PAN not in repr(codec.options)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("0302", True), ("0229", True), ("1231", True), ("260302", True), ("20260302", True), ("9999", False), ("0230", False),
        ("0000", False), ("270229", False), ("", False), ("302", False), ("03o2", False), ("20261301", False),
    ],
)  # fmt: skip
def test_what_may_be_a_date(text: str, is_one: bool) -> None:
    assert is_date(text) is is_one
