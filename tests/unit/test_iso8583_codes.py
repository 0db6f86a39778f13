"""DE39: what approves in each class, how an advice is accepted, and what its answer means."""

import pytest
from iso8583_samples import APPROVALS, purchase_mti
from test_iso8583_summaries import codec_of, message

from messages.iso8583 import Iso8583Codec
from messages.message import Decision, NetworkFunction, Outcome, Verdict

NAMES = {"1987": "iso87-binary", "1993": "iso93-ascii", "2003": "iso2003-binary"}


def outcome(codec: Iso8583Codec, mti: str, code: str) -> Outcome:
    """Of an answer with this DE39, "" for none."""
    found = message(codec, mti, {39: code or None, 35: None}).outcome
    assert found is not None
    return found


APPROVED = {
    ("1987", "0210"): "00 08 10 11 16 85 87",
    ("1987", "0110"): "00 85",
    ("1987", "0430"): "00",
    ("1987", "0810"): "00",
    ("1993", "1210"): "000 001 002 003 085",
    ("1993", "1430"): "400 480 000",
    ("1993", "1314"): "300",
    ("1993", "1814"): "800 801",
    ("2003", "2210"): "0000 0002",
    ("2003", "2430"): "4000",
    ("2003", "2314"): "3000",
    ("2003", "2814"): "8000",
}
DECLINED = {
    ("1987", "0210"): "05 51 68 91 94",
    ("1987", "0430"): "10 25 30 91",
    ("1987", "0810"): "05 91",
    ("1993", "1210"): "100 116 400 800 907",
    ("1993", "1430"): "100 904 914 800",
    ("1993", "1814"): "000 909",
    ("2003", "2210"): "1016 4000 9111",
    ("2003", "2430"): "9114 1000",
    ("2003", "2814"): "8001 9109",
}


@pytest.mark.parametrize(("version", "mti"), APPROVED)
def test_each_class_has_its_approvals(version: str, mti: str) -> None:
    codec = codec_of(NAMES[version])
    for code in APPROVED[version, mti].split():
        assert outcome(codec, mti, code).decision is Decision.APPROVED, code


@pytest.mark.parametrize(("version", "mti"), DECLINED)
def test_what_approves_in_one_class_does_not_in_another(version: str, mti: str) -> None:
    codec = codec_of(NAMES[version])
    for code in DECLINED[version, mti].split():
        assert outcome(codec, mti, code).decision is Decision.DECLINED, code


def test_a_links_own_approvals_are_those_of_money() -> None:
    codec = codec_of("iso87-ascii", approved=["7x"])
    assert outcome(codec, "0210", "76").decision is Decision.APPROVED
    assert outcome(codec, "0210", "00").decision is Decision.DECLINED
    assert outcome(codec, "0430", "00").decision is Decision.APPROVED


ACCEPTED = {
    "1987": dict.fromkeys(("120", "220", "420", "400", "202", "520", "620", "720", "320"), "00"),
    "1993": {"120": "000", "220": "000", "420": "400", "324": "300", "520": "500", "620": "600", "720": "700"},
    "2003": {"120": "0000", "220": "0000", "420": "4000", "324": "3000", "620": "6000", "264": "0000"},
}


@pytest.mark.parametrize("version", ACCEPTED)
def test_an_advice_is_accepted_by_the_code_of_its_class(version: str) -> None:
    codec = codec_of(NAMES[version])
    for function, code in ACCEPTED[version].items():
        mti = purchase_mti(version)[0] + function
        advice = message(codec, mti)
        accepted = codec.accept(codec.original(advice))
        assert (accepted.code, accepted.decision) == (code, Decision.APPROVED)
        answer = codec.decode(codec.answer(codec.original(advice), accepted))
        assert answer.outcome is not None
        assert codec.verdict(answer.outcome) is Verdict.DONE
        assert answer.match_key == advice.match_key


def test_a_link_can_have_its_own_code_of_acceptance() -> None:
    codec = codec_of("iso93-ascii", accepted_codes={"4": "480"})
    assert codec.accept(codec.original(message(codec, "1420"))).code == "480"
    assert codec.accept(codec.original(message(codec, "1220"))).code == "000"
    with pytest.raises(ValueError, match="DE39"):
        codec_of("iso93-ascii", accepted_codes={"4": "00"})


VERDICTS = {
    ("1987", "0430"): {"00": "DONE", "": "DONE", "94": "DONE", "91": "RETRY", "96": "RETRY", "25": "NOT_FOUND",
                       "30": "REFUSED", "12": "REFUSED", "05": "REFUSED"},
    ("1987", "0230"): {"00": "DONE", "10": "DONE", "91": "RETRY", "25": "NOT_FOUND", "51": "REFUSED"},
    ("1993", "1430"): {"400": "DONE", "480": "DONE", "000": "DONE", "900": "DONE", "913": "DONE", "907": "RETRY",
                       "909": "RETRY", "911": "RETRY", "914": "NOT_FOUND", "904": "REFUSED", "902": "REFUSED"},
    ("2003", "2430"): {"4000": "DONE", "9000": "DONE", "9113": "DONE", "9107": "RETRY", "9109": "RETRY",
                       "9111": "RETRY", "9114": "NOT_FOUND", "9100": "REFUSED", "1000": "REFUSED"},
}  # fmt: skip


@pytest.mark.parametrize(("version", "mti"), VERDICTS)
def test_the_answer_to_an_advice_is_done_refused_or_to_be_tried_again(version: str, mti: str) -> None:
    codec = codec_of(NAMES[version])
    for code, verdict in VERDICTS[version, mti].items():
        assert codec.verdict(outcome(codec, mti, code)) is Verdict[verdict], code


def test_a_link_can_read_the_answers_to_advices_otherwise() -> None:
    codec = codec_of("iso87-ascii", advice_retry_codes=["05"], advice_not_found_codes=["76"], advice_done_codes=["21"])
    told = {"05": "RETRY", "91": "REFUSED", "76": "NOT_FOUND", "25": "REFUSED", "21": "DONE", "00": "DONE"}
    for code, verdict in told.items():
        assert codec.verdict(outcome(codec, "0430", code)) is Verdict[verdict], code


@pytest.mark.parametrize(("version", "codes", "whole"), [
    ("1987", "10 87", "00 08 85"), ("1993", "002 006", "000 004"), ("2003", "0002 0006", "0000 0004"),
])  # fmt: skip
def test_an_approval_of_a_part_is_known(version: str, codes: str, whole: str) -> None:
    codec = codec_of(NAMES[version])
    mti = purchase_mti(version)[0] + "210"
    assert all(codec.partial(outcome(codec, mti, code)) for code in codes.split())
    assert not any(codec.partial(outcome(codec, mti, code)) for code in whole.split())


def test_a_link_has_its_own_codes_of_a_part_and_may_take_none() -> None:
    codec = codec_of("iso87-ascii", partial_codes=["85"], partial=False)
    assert not codec.takes_partial
    assert codec_of().takes_partial
    assert codec.partial(outcome(codec, "0210", "85"))
    assert not codec.partial(outcome(codec, "0210", "10"))
    assert not codec.partial(outcome(codec, "0210", "05"))
    whole = codec_of("iso87-ascii", approved=["00"])
    assert not whole.partial(outcome(whole, "0210", "10"))


def test_a_refusal_is_no_approval_in_any_version() -> None:
    for version, name in NAMES.items():
        codec = codec_of(name)
        assert not set(codec._codes.refused.values()) & {APPROVALS[version]}
        for code in set(codec._codes.refused.values()):
            assert outcome(codec, purchase_mti(version)[0] + "210", code).decision is Decision.DECLINED


# --- network management

FUNCTIONS = {
    "1987": {
        "001": "SIGN_ON", "061": "SIGN_ON", "071": "SIGN_ON", "002": "SIGN_OFF", "072": "SIGN_OFF", "161": "KEY_CHANGE",
        "162": "KEY_CHANGE", "201": "CUTOVER", "202": "CUTOVER", "301": "ECHO", "101": "OTHER",
    },
    "1993": {"801": "SIGN_ON", "802": "SIGN_OFF", "811": "KEY_CHANGE", "821": "CUTOVER", "831": "ECHO", "899": "OTHER"},
    "2003": {"801": "SIGN_ON", "802": "SIGN_OFF", "811": "KEY_CHANGE", "821": "CUTOVER", "831": "ECHO", "805": "OTHER"},
}  # fmt: skip


@pytest.mark.parametrize("version", FUNCTIONS)
def test_network_functions_are_known_and_answered_by_what_they_ask(version: str) -> None:
    codec = codec_of(NAMES[version])
    field, mti = (70, "0800") if version == "1987" else (24, purchase_mti(version)[0] + "804")
    for code, function in FUNCTIONS[version].items():
        asked = codec.decode(codec.dialect.encode(mti, {7: "1122123456", 11: "000001", field: code}))
        assert asked.network_function is NetworkFunction[function], code
        answer = codec.decode(codec.network_answer(asked))
        assert answer.body.fields[field] == code
        assert answer.outcome is not None and answer.outcome.decision is Decision.APPROVED


def test_a_link_has_its_own_codes_of_functions() -> None:
    codec = codec_of("iso87-ascii", network_codes={"270": "echo", "301": "other"})
    echo = codec.network_request(NetworkFunction.ECHO, 1, 0.0)
    assert echo is not None
    asked = codec.decode(echo.payload)
    assert (asked.body.fields[70], asked.network_function) == ("270", NetworkFunction.ECHO)
    assert codec.network_request(NetworkFunction.CUTOVER, 1, 0.0) is None
    silent = codec_of("iso87-ascii", network_codes={"301": "other"})
    assert silent.network_request(NetworkFunction.ECHO, 1, 0.0) is None
    with pytest.raises(ValueError, match="DE70"):
        codec_of("iso87-ascii", network_codes={"2701": "echo"})
