"""The player itself: a step that does not go as it says is told, with what was expected and came, and without card data."""

from pathlib import Path

import pytest
from engine_runner import EngineWorld, play

from tools.scenarios.play import StepFailed
from tools.scenarios.script import ScriptError, load
from tools.scenarios.templates import PAN, PIN_BLOCK, TRACK_2

HEAD = 'title = "t"\ncovers = ["x"]\n'
PURCHASE = '[[step]]\npos1 = "sends purchase with PIN"\nas = "r1"\n'
FORWARD = '[[step]]\nnet = "receives 0200"\nas = "f1"\n'
ANSWER = '[[step]]\nnet = "answers f1"\n'
DECISION = '[[step]]\npos1 = "receives 0210"\n'


def run(tmp_path: Path, text: str) -> str:
    """The failure of a scenario of these steps; "" when it goes well."""
    file = tmp_path / "one.toml"
    file.write_text(HEAD + text)
    try:
        play(load(file))
    except StepFailed as failure:
        return str(failure)
    return ""


def test_what_is_not_said_is_not_held_against_a_message(tmp_path: Path) -> None:
    assert run(tmp_path, PURCHASE + FORWARD + ANSWER + DECISION) == ""


@pytest.mark.parametrize(
    ("expectation", "told"),
    [
        ('fields = { 39 = "05" }', "DE39: expected 05, got 00"),
        ('fields = { 11 = "not r1.11" }', "DE11: expected not r1.11 (700001), got 700001"),
        ('fields = { 11 = "f1.11" }', "DE11: expected f1.11"),
        ('fields = { 38 = "*" }', "DE38: expected *, and it is absent"),
        ('fields = { 2 = "4000000000000002" }', "DE2: expected 400000******0002, got 411111******1111"),
        ('fields = { 37 = "/9+/" }', "DE37: expected /9+/"),
        ("absent = [39]", "DE39 must be absent"),
        ("only = [39]", "other fields than expected"),
        ('same_bytes = "r1"', "the first that differs is number 2"),
        ('wire = "30323130 ff"', "wire: byte 4 is 37, expected ff"),
        ('wire = "30323130"', "expected 4"),
        ('header = "60"', "header: expected 60"),
    ],
)
def test_what_differs_is_told(tmp_path: Path, expectation: str, told: str) -> None:
    failure = run(tmp_path, PURCHASE + FORWARD + ANSWER + DECISION + expectation)
    assert "step 4: pos1 receives 0210" in failure and told in failure, failure
    assert not any(secret in failure for secret in (PAN, TRACK_2, PIN_BLOCK))


BOUND = "[limits]\njournal_waiting_max = 9\n"


@pytest.mark.parametrize(
    ("books", "rows", "told"),
    [
        ("totals", '{ link = "pos", count = 1, amount = 1000 }, { link = "net" }', ""),
        (
            "totals",
            '{ link = "net" }, { link = "pos", amount = 1001 }',
            "there is no row {'link': 'pos', 'amount': 1001}",
        ),
        ("totals", '{ link = "pos" }', "no row is expected to be {'link': 'net'"),
        ("totals", '{ link = "pos" }, { link = "net" }, { link = "net" }', "there is no row {'link': 'net'}"),
        ("journal", '{ kind = "request", stan = "r1.11", pan = "411111******1111", approval_code = "" }', ""),
        ("journal", '{ kind = "request", stan = "not r1.11" }', "no row is expected to be {'pair'"),
        ("journal", "", "no row is expected to be"),
        ("journal", '{ terminal = "/TERM000[2-9]/" }', "there is no row"),
    ],
)
def test_rows_of_the_books_are_as_many_as_are_said_each_with_what_is_said_of_it(
    books: str, rows: str, told: str, tmp_path: Path
) -> None:
    read = f"[[step]]\n{books} = {{}}\nrows = [{rows}]\n"
    failure = run(tmp_path, BOUND + PURCHASE + FORWARD + ANSWER + DECISION + read)
    assert told in failure and bool(told) == bool(failure), failure


def test_card_data_in_a_row_are_told_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"number": "1", "pan": PAN}]
    monkeypatch.setattr(EngineWorld, "extract", lambda self, books, link, date: rows)
    failure = run(tmp_path, PURCHASE + FORWARD + ANSWER + DECISION + "[[step]]\njournal = {}\nrows = [{}]\n")
    assert "pan: card data" in failure and PAN not in failure


def test_numbers_of_the_journal_have_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"number": "1"}, {"number": "3"}]
    monkeypatch.setattr(EngineWorld, "extract", lambda self, books, link, date: rows)
    failure = run(tmp_path, PURCHASE + FORWARD + ANSWER + DECISION + "[[step]]\njournal = {}\nrows = [{}, {}]\n")
    assert "the rows have numbers [1, 3]" in failure


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (PURCHASE, "net: no step expects what came: 0200"),
        (PURCHASE + FORWARD + DECISION, "expected a 0210; nothing came"),
        (PURCHASE + '[[step]]\nnet = "receives nothing"\n', "nothing was to come, but a 0200 did"),
        (PURCHASE + '[[step]]\nnet = "receives 0100"\n', "a 0100 is expected, a 0200 came"),
        (PURCHASE + FORWARD + "[[step]]\nstate = { transactions = 0 }\n", "transactions: expected 0, got 1"),
        (PURCHASE + FORWARD + '[[step]]\nnoted = "transaction.timeout"\n', "noted 0 times"),
        (PURCHASE + FORWARD + '[[step]]\npos1 = "is closed"\n', "has not closed"),
    ],
)
def test_what_does_not_come_or_comes_unasked_is_told(tmp_path: Path, steps: str, told: str) -> None:
    assert told in run(tmp_path, steps)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "give a title, covers and steps"),
        ('base = "nobody"\n' + PURCHASE, "base 'nobody' is not one of"),
        ("more = 1\n" + PURCHASE, "more: not one of"),
        ('[[step]]\nelsewhere = "sends purchase"\n', "'elsewhere' is neither a host (net)"),
        ('[[step]]\npos1 = "dances"\n', "does not begin with one of"),
        ('[[step]]\npos1 = "listens"\n', "only hosts listen"),
        ('[[step]]\npos1 = "sends purchase"\nnet = "receives 0200"\n', "one actor or directive, not pos1, net"),
        ('[[step]]\npos1 = "sends purchase"\nshout = 1\n', "not pos1, shout"),
        (PURCHASE + '[[step]]\nnet = "answers f1"\n', "no step before it has named anything 'f1'"),
        ("[[step]]\noperator = { dance = 1 }\n", "operator: 'dance' is not one of"),
        ("[[step]]\ntotals = { day = 1 }\n", "totals: Object contains unknown field `day`"),
        ('[[step]]\njournal = {}\nrows = [{ stan = "r9.11" }]\n', "no step before it has named anything 'r9'"),
        ('[[link]]\nname = "other"\n' + PURCHASE, "nor like one of them"),
    ],
)
def test_a_file_that_cannot_be_played_is_refused_before_anything_runs(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "one.toml"
    file.write_text(HEAD + text)
    with pytest.raises(ScriptError) as caught:
        load(file)
    assert told in str(caught.value) and "one.toml" in str(caught.value)


def test_a_drawing_shows_who_said_what_when_and_no_card_number(tmp_path: Path) -> None:
    file = tmp_path / "one.toml"
    file.write_text(HEAD + PURCHASE + FORWARD + '[[step]]\nkill = "a"\n' + ANSWER + DECISION)
    lines = play(load(file)).drawing.text().splitlines()
    order = ["- 0200 [r1] DE11=700001", "- 0200 [f1]", "node a dies", "<- 0210 DE39=00", "pos1 <- 0210 DE39=00"]
    assert [next(at for at, line in enumerate(lines) if text in line) for text in order] == [1, 2, 3, 4, 5]
    assert PAN not in "\n".join(lines)


def test_what_was_exchanged_is_shown_without_card_data(tmp_path: Path) -> None:
    file = tmp_path / "one.toml"
    file.write_text(HEAD + PURCHASE + FORWARD + ANSWER + DECISION)
    player = play(load(file))
    shown = [each.told() for each in player.exchanged]
    assert [each["mti"] for each in shown] == ["0200", "0200", "0210", "0210"]
    assert shown[0]["2"] == "411111******1111"
    assert not any(secret in f"{shown} {player.conversations}" for secret in (PAN, TRACK_2, PIN_BLOCK))
