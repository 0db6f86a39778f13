"""The books of the simulated hosts: doubles stand, undoing is idempotent, a restart goes on with what was synced."""

from pathlib import Path

from tools.ledger import FILE, Ledger, Undone, account_token, read_ledger

KEY = ("123456789012", "T0000001")


def test_a_second_posting_of_the_same_key_stands_beside_the_first(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.post(KEY, "000001", "a", 1000, "978")
    ledger.post(KEY, "000002", "a", 1000, "978")
    ledger.close()
    assert [entry.reference for entry in read_ledger(tmp_path / FILE)] == ["000001", "000002"]
    assert ledger.balances["a"] == 2000


def test_undoing_takes_back_only_the_posting_with_its_reference(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.post(KEY, "000001", "a", 1000, "978")
    ledger.post(KEY, "000002", "a", 500, "978")
    assert ledger.undo(KEY, "000002") is Undone.APPLIED
    assert ledger.balances["a"] == 1000
    ledger.close()


def test_undoing_again_changes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.post(KEY, "000001", "a", 1000, "978")
    assert ledger.undo(KEY, "000001") is Undone.APPLIED
    assert ledger.undo(KEY, "000001") is Undone.REPEATED
    assert ledger.balances["a"] == 0
    ledger.close()
    assert len(read_ledger(tmp_path / FILE)) == 2


def test_undoing_what_never_came_is_remembered(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.undo(KEY, "000001") is Undone.NOTHING
    assert ledger.undone(KEY, "000001")
    assert not ledger.undone(KEY, "000002")
    ledger.close()


def test_a_restart_goes_on_with_balances_and_numbers(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.post(KEY, "000001", "a", 1000, "978")
    ledger.post(("2", "T"), "000002", "a", 500, "978")
    ledger.undo(KEY, "000001")
    ledger.close()
    again = Ledger(tmp_path)
    assert again.balances["a"] == 500
    assert again.undo(KEY, "000001") is Undone.REPEATED
    assert again.posted(("2", "T"))
    again.post(("3", "T"), "000003", "a", 1, "978")
    again.close()
    assert [entry.number for entry in read_ledger(tmp_path / FILE)] == [1, 2, 3, 4]


def test_a_half_written_line_of_a_killed_process_is_dropped(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.post(KEY, "000001", "a", 1000, "978")
    ledger.close()
    with open(tmp_path / FILE, "ab") as file:
        file.write(b'{"op":"posting","number":2,"ti')
    again = Ledger(tmp_path)
    again.post(("2", "T"), "000002", "a", 500, "978")
    again.close()
    assert [entry.key for entry in read_ledger(tmp_path / FILE)] == [KEY, ("2", "T")]


def test_nothing_is_in_the_file_before_sync(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.post(KEY, "000001", "a", 1000, "978")
    assert read_ledger(tmp_path / FILE) == []
    ledger.sync()
    assert len(read_ledger(tmp_path / FILE)) == 1
    ledger.close()


def test_an_account_token_does_not_hold_the_pan() -> None:
    pan = "4100001200000005"
    assert pan[-4:] not in account_token(pan)
    assert account_token(pan) == account_token(pan)
    assert account_token(pan) != account_token("4100001200000013")
