"""Message type identifiers: the tables of the three versions."""

import pytest

from messages.iso8583.mti import KINDS, advice_mti, answer_mti, is_repeat, kind_of, unmarked
from messages.message import Kind, MessageError

# without the version digit, the same in all
SHARED = {
    Kind.REQUEST: "100 101 104 105 200 201 300 304 500 600",
    Kind.ANSWER: "110 114 210 310 510 610",
    Kind.ADVICE: "120 121 220 221 400 401 420 421 422 520 620 402",
    Kind.ADVICE_ANSWER: "130 230 410 430 432 530 630",
    Kind.NETWORK_REQUEST: "800 801 804 805 820",
    Kind.NETWORK_ANSWER: "810 814 830",
    Kind.NOTIFICATION: "140 240 440 840",
}
# where they differ
OWN = {
    "1987": {Kind.ADVICE: "0102 0103 0202 0203 0122 0123 0222 0223", Kind.ADVICE_ANSWER: "0112 0212 0132 0232"},
    "1993": {Kind.REQUEST: "1102 1103 1202 1203", Kind.ANSWER: "1112 1212", Kind.ADVICE: "1122 1223"},
    "2003": {
        Kind.REQUEST: "2102 2202",
        Kind.ANSWER: "2212",
        Kind.ADVICE: "2160 2260 2364",
        Kind.ADVICE_ANSWER: "2170 2270 2374",
        Kind.NOTIFICATION: "2150 2250 2754",
    },
}
DIGITS = {"1987": "0", "1993": "1", "2003": "2"}


@pytest.mark.parametrize("version", DIGITS)
def test_the_kind_follows_from_class_function_and_origin(version: str) -> None:
    for kind, mtis in SHARED.items():
        assert {kind_of(DIGITS[version] + mti, version) for mti in mtis.split()} == {kind}
    for kind, mtis in OWN[version].items():
        assert {kind_of(mti, version) for mti in mtis.split()} == {kind}


@pytest.mark.parametrize("mti", ["1200", "2200", "0000", "0900", "0250", "0260", "0290", "0208", "02", "020", "٠200"])
def test_an_mti_of_another_version_or_without_a_meaning_is_refused(mti: str) -> None:
    with pytest.raises(MessageError, match="MTI"):
        kind_of(mti, "1987")


ANSWERS = {
    "0100": "0110",
    "0200": "0210",
    "0201": "0210",
    "0202": "0212",
    "0203": "0212",
    "0123": "0132",
    "1421": "1430",
    "1805": "1814",
    "1203": "1212",
    "2260": "2270",
    "0400": "0410",
    "0620": "0630",
}


@pytest.mark.parametrize("mti", ANSWERS)
def test_an_answer_clears_the_mark_of_a_repeat(mti: str) -> None:
    assert answer_mti(mti) == ANSWERS[mti]


@pytest.mark.parametrize("version", DIGITS)
def test_every_message_that_wants_an_answer_has_one_of_the_kind_that_fits(version: str) -> None:
    fits = {
        Kind.REQUEST: Kind.ANSWER,
        Kind.ADVICE: Kind.ADVICE_ANSWER,
        Kind.NETWORK_REQUEST: Kind.NETWORK_ANSWER,
    }
    for mti, kind in KINDS[version].items():
        if kind in fits:
            assert kind_of(answer_mti(mti), version) is fits[kind]
            assert not is_repeat(answer_mti(mti))
            assert kind_of(unmarked(mti), version) is kind


@pytest.mark.parametrize("mti", ["0240", "1440", "2250", "0210", "0230"])
def test_a_notification_and_an_answer_want_none(mti: str) -> None:
    with pytest.raises(MessageError, match="wants no answer"):
        answer_mti(mti)


def test_an_advice_tells_of_a_request_in_its_class() -> None:
    assert [advice_mti(mti) for mti in ("0100", "0201", "1204", "2100")] == ["0120", "0220", "1224", "2120"]
