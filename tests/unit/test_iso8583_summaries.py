"""What the engine sees of a request or advice: profile, traits, amount, identity and what it refers to."""

import msgspec
import pytest
from iso8583_samples import PAN, purchase_mti, sample

from messages.iso8583 import Iso8583Codec, Iso8583Options, shipped_dialects
from messages.message import Kind, Message, Summary, Trait

HELD = Trait.MONEY | Trait.TIMEOUT_REVERSAL
OURS = HELD | Trait.STAND_IN


def codec_of(name: str = "iso87-ascii", **options: object) -> Iso8583Codec:
    return Iso8583Codec(msgspec.convert({"dialect": name, **options}, Iso8583Options))


def message(codec: Iso8583Codec, mti: str = "", changes: dict[int, str | None] | None = None) -> Message:
    """The sample purchase without its PIN, with changes; None takes a field away."""
    version = codec.dialect.version
    fields = {**sample(version), 52: None, **(changes or {})}
    values = {number: value for number, value in fields.items() if value is not None}
    return codec.decode(codec.dialect.encode(mti or purchase_mti(version), values))


def summary(codec: Iso8583Codec, mti: str = "", changes: dict[int, str | None] | None = None) -> Summary:
    return message(codec, mti, changes).summary


PROFILES = {
    ("0200", "000000"): ("purchase", OURS),
    ("0200", "010000"): ("cash", OURS),
    ("0100", "000000"): ("preauth", OURS),
    ("0100", "010000"): ("cash", OURS),
    ("0200", "090000"): ("cashback", OURS),
    ("0200", "200000"): ("refund", OURS),
    ("0200", "210000"): ("deposit", HELD),
    ("0200", "260000"): ("original_credit", HELD),
    ("0200", "400000"): ("transfer", HELD),
    ("0200", "300000"): ("balance", 0),
    ("0100", "310000"): ("balance", 0),
    ("0200", "920000"): ("pin_change", 0),
    ("0200", "780000"): ("other", HELD),
    ("0220", "000000"): ("purchase", Trait.MONEY),
    ("0120", "000000"): ("preauth", Trait.MONEY),
    ("0202", "000000"): ("completion", Trait.MONEY),
    ("0420", "000000"): ("reversal", Trait.REVERSAL),
    ("0400", "000000"): ("reversal", Trait.REVERSAL),
    ("0422", "000000"): ("chargeback", 0),
    ("0300", "000000"): ("file_action", 0),
    ("0520", "000000"): ("reconciliation", 0),
    ("0620", "000000"): ("administrative", 0),
    ("0720", "000000"): ("fee", Trait.MONEY),
}


@pytest.mark.parametrize(("mti", "code"), PROFILES)
def test_class_and_processing_code_give_the_profile(mti: str, code: str) -> None:
    found = summary(codec_of(), mti, {3: code})
    assert (found.profile, found.traits) == PROFILES[mti, code]


@pytest.mark.parametrize("mti", ["0200", "0100"])
def test_without_a_processing_code_it_may_be_money(mti: str) -> None:
    assert summary(codec_of(), mti, {3: None}).profile == "other"


def test_only_requests_and_advices_have_a_summary() -> None:
    codec = codec_of()
    for mti in ("0210", "0430", "0800", "0810", "0240"):
        assert summary(codec, mti, {39: "00"}) == Summary()


@pytest.mark.parametrize("name", shipped_dialects())
def test_amount_and_currency_are_seen_in_every_version(name: str) -> None:
    found = message(codec_of(name))
    assert (found.summary.amount, found.summary.currency) == (12345, "978")
    assert (found.attributes.amount, found.attributes.currency) == (12345, "978")


@pytest.mark.parametrize("name", shipped_dialects())
def test_a_pin_is_a_trait_and_nothing_of_the_card_is_in_a_summary(name: str) -> None:
    codec = codec_of(name)
    found = summary(codec, "", {52: "0123456789ABCDEF"})
    assert found.is_(Trait.PIN)
    assert not summary(codec).is_(Trait.PIN)
    assert PAN[:8].encode() not in msgspec.msgpack.encode(found)


def test_a_link_has_its_own_profiles() -> None:
    options = {
        "pin_change": {"codes": ["78"]},
        "preauth": {"traits": ["money"]},
        "top_up": {"codes": ["257"], "traits": ["money", "stand_in"]},
    }
    codec = codec_of(profiles=options)
    assert summary(codec, "0200", {3: "780000"}).profile == "pin_change"
    assert summary(codec, "0100").traits == Trait.MONEY
    assert summary(codec, "0200", {3: "570000"}).traits == Trait.MONEY | Trait.STAND_IN
    assert summary(codec, "0100", {3: "570000"}).profile == "payment"


WRONG = {
    "a new profile without traits": {"top_up": {"codes": ["57"]}},
    "a code of a class without codes": {"cash": {"codes": ["457"]}},
    "a reversal of what no code names": {"completion": {"source_reversal": False}},
    "a code of one digit": {"cash": {"codes": ["1"]}},
}


@pytest.mark.parametrize("what", WRONG)
def test_profiles_that_make_no_sense_are_refused(what: str) -> None:
    with pytest.raises(ValueError, match="profiles"):
        codec_of(profiles=WRONG[what])


@pytest.mark.parametrize("name", ["iso87-ascii", "iso93-ascii", "iso2003-ascii"])
def test_what_a_link_may_not_reverse_is_told_by_class_and_processing_code(name: str) -> None:
    codec = codec_of(name, profiles={"deposit": {"source_reversal": False}, "preauth": {"source_reversal": False}})
    digit = codec.dialect.version[2:3]  # of 1987, 1993, 2003
    version = {"8": "0", "9": "1", "0": "2"}[digit]

    def forbidden(code: str, original: str, mti: str = "420") -> bool:
        fields = naming(codec, {"mti": version + original}) if original else {}
        return summary(codec, version + mti, {**fields, 3: code}).is_(Trait.FORBIDDEN)

    assert forbidden("210000", "200") and forbidden("210000", "200", "421") and forbidden("210000", "")
    assert forbidden("000000", "100") and not forbidden("000000", "200") and not forbidden("000000", "")
    assert not forbidden("210000", "200", "220")  # no reversal
    assert not summary(codec_of(name), version + "420", {3: "210000"}).is_(Trait.FORBIDDEN)


# --- originals

REPLACED = "000000005000" + "0" * 12 + "C00000000" + "C00000000"


def naming(codec: Iso8583Codec, changes: dict[str, str] | None = None) -> dict[int, str | None]:
    """DE90 or DE56 that names the sample purchase."""
    version = codec.dialect.version
    fields = sample(version)
    values = {"mti": purchase_mti(version), "stan": fields[11], "acquirer_id": fields[32]}
    values |= {"transmission": fields[7]} if version == "1987" else {"local_time": fields[12]}
    number = 90 if version == "1987" else 56
    return {number: codec.dialect.join_subfields(number, {**values, **(changes or {})})}


def later(codec: Iso8583Codec) -> dict[int, str | None]:
    """The fields that a message of its own has otherwise than the purchase that it is about."""
    return {7: "1122124000", 11: "654321"} if codec.dialect.version == "1987" else {11: "654321"}


@pytest.mark.parametrize("function", ["220", "420", "400"])
@pytest.mark.parametrize("name", shipped_dialects())
def test_an_advice_refers_to_what_its_original_data_name(name: str, function: str) -> None:
    codec = codec_of(name)
    original = summary(codec)
    mti = purchase_mti(codec.dialect.version)[0] + function
    found = summary(codec, mti, {**later(codec), **naming(codec)})
    assert original.identity and found.refers == original.identity
    assert found.identity not in (b"", original.identity)
    other = summary(codec, mti, {**later(codec), **naming(codec, {"stan": "77"})})
    assert other.refers not in (b"", original.identity)


@pytest.mark.parametrize("name", ["iso87-ascii", "iso93-binary", "iso2003-ascii"])
def test_a_completion_of_an_approval_is_one(name: str) -> None:
    codec = codec_of(name)
    mti = purchase_mti(codec.dialect.version)[0] + "220"
    assert summary(codec, mti, {**later(codec), **naming(codec)}).profile == "completion"
    assert summary(codec, mti, later(codec)).profile == "purchase"


def test_a_completion_of_1993_is_known_by_its_function_too() -> None:
    found = summary(codec_of("iso93-ascii"), "1220", {24: "201"})
    assert (found.profile, found.refers) == ("completion", b"")


@pytest.mark.parametrize("mti", ["0420", "0400", "0202", "0102"])
def test_without_original_data_a_reversal_or_confirmation_has_the_fields_of_its_original(mti: str) -> None:
    codec = codec_of()
    original, found = summary(codec), summary(codec, mti)
    assert found.refers == original.identity
    assert found.identity not in (b"", original.identity)


@pytest.mark.parametrize("mti", ["0100", "0200", "0120", "0220", "0422", "0620"])
def test_without_original_data_the_rest_refers_to_nothing(mti: str) -> None:
    assert summary(codec_of(), mti).refers == b""


def test_a_repeat_has_the_identity_of_what_it_repeats() -> None:
    codec = codec_of()
    for mti in ("0200", "0220", "0420"):
        assert summary(codec, mti) == summary(codec, mti[:3] + "1")


def test_a_link_can_name_originals_by_other_fields() -> None:
    codec = codec_of(original=["11", "32", "37"])
    original = summary(codec)
    found = summary(codec, "0420", {**later(codec), **naming(codec)})
    assert found.refers == original.identity
    assert summary(codec, "", {7: "1122130000"}).identity == original.identity
    with pytest.raises(ValueError, match="original"):
        codec_of(original=["11"])


def test_a_stan_alone_is_no_identity() -> None:
    codec = codec_of()
    payload = codec.dialect.encode("0420", {3: "000000", 11: "000001"})
    found = codec.decode(payload).summary
    assert (found.identity, found.refers) == (b"", b"")


def test_original_data_that_cannot_be_divided_name_nothing() -> None:
    codec = codec_of("iso93-ascii")
    assert summary(codec, "1420", {56: "12"}).refers == summary(codec).identity


PARTIAL: dict[str, tuple[str, dict[int, str | None], int]] = {
    "1987": ("iso87-ascii", {95: REPLACED}, 5000),
    "1993": ("iso93-ascii", {24: "401", 4: "000000005000"}, 5000),
    "2003": ("iso2003-ascii", {24: "401", 4: "9782000000005000"}, 5000),
}


@pytest.mark.parametrize("version", PARTIAL)
def test_a_partial_reversal_is_told_with_what_it_leaves(version: str) -> None:
    name, changes, left = PARTIAL[version]
    codec = codec_of(name)
    mti = purchase_mti(version)[0] + "420"
    found = summary(codec, mti, {**naming(codec), **changes})
    assert (found.traits, found.amount) == (Trait.REVERSAL | Trait.PARTIAL, left)
    assert summary(codec, mti, naming(codec)).traits == Trait.REVERSAL


def test_replacement_amounts_of_zero_leave_nothing() -> None:
    zero = "0" * 24 + "C00000000" * 2
    assert summary(codec_of(), "0420", {95: zero}).traits == Trait.REVERSAL


def test_a_cutover_tells_its_date() -> None:
    for name, function, date in (("iso87-ascii", {70: "201"}, "1123"), ("iso93-ascii", {24: "821"}, "261123")):
        codec = codec_of(name)
        fields = {7: "1122000000", 11: "000001", 15: date, **function}
        asked = codec.decode(codec.dialect.encode(("0" if 70 in function else "1") + "800", fields))
        assert (asked.kind, asked.date) == (Kind.NETWORK_REQUEST, date)
        assert codec.decode(codec.network_answer(asked)).body.fields[15] == date
    assert message(codec_of(), "", {15: "1123"}).date == ""
