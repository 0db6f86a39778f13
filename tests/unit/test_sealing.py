"""Values are sealed under named keys from a file that only its owner can read."""

import base64
import os
from pathlib import Path

import pytest

from switch.mirror.errors import Unsealable
from switch.mirror.sealing import KeyFileError, Sealer, create_key_file

PATH = b"/switch/p/log/a/0000000001/0000000000000001"
PAN = b"4111111111111111"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    create_key_file(tmp_path / "keys", "k1")
    return tmp_path / "keys"


def write(path: Path, *lines: str) -> None:
    path.write_text("".join(line + "\n" for line in lines))
    path.chmod(0o600)


def test_what_is_sealed_can_be_opened_and_shows_nothing_of_its_content(key_file: Path) -> None:
    sealer = Sealer(key_file)
    value = sealer.seal(PATH, PAN)
    assert PAN not in value
    assert sealer.open(PATH, value) == PAN


def test_the_same_content_is_sealed_differently_each_time(key_file: Path) -> None:
    sealer = Sealer(key_file)
    assert sealer.seal(PATH, PAN) != sealer.seal(PATH, PAN)
    assert sealer.sealed == 2


def test_a_value_that_was_moved_to_another_path_cannot_be_opened(key_file: Path) -> None:
    sealer = Sealer(key_file)
    with pytest.raises(Unsealable, match="altered"):
        sealer.open(PATH + b"0", sealer.seal(PATH, PAN))


def test_no_altered_byte_goes_unnoticed(key_file: Path) -> None:
    sealer = Sealer(key_file)
    value = sealer.seal(PATH, PAN)
    for position in range(len(value)):
        altered = bytearray(value)
        altered[position] ^= 1
        with pytest.raises(Unsealable):
            sealer.open(PATH, bytes(altered))


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x01\x02k1", b"\x01\xffk1"])
def test_a_cut_value_is_refused(key_file: Path, value: bytes) -> None:
    with pytest.raises(Unsealable):
        Sealer(key_file).open(PATH, value)


def test_after_rotation_old_values_open_and_new_ones_carry_the_new_key(key_file: Path) -> None:
    sealer = Sealer(key_file)
    old = sealer.seal(PATH, PAN)
    write(key_file, f"k2 {base64.b64encode(os.urandom(32)).decode()}  # since May", "", key_file.read_text())
    sealer.reload()
    assert sealer.key_id == "k2"
    assert sealer.open(PATH, old) == PAN
    assert sealer.open(PATH, sealer.seal(PATH, PAN)) == PAN


def test_who_meets_a_key_that_came_into_the_file_later_reads_the_file_again(key_file: Path) -> None:
    running = Sealer(key_file)
    write(key_file, "k2 " + "22" * 32, key_file.read_text())
    restarted = Sealer(key_file)
    assert running.open(PATH, restarted.seal(PATH, PAN)) == PAN
    assert (running.key_id, restarted.key_id) == ("k1", "k2")
    assert restarted.open(PATH, running.seal(PATH, PAN)) == PAN


def test_a_value_under_an_unknown_key_names_that_key(key_file: Path, tmp_path: Path) -> None:
    create_key_file(tmp_path / "other", "k9")
    value = Sealer(tmp_path / "other").seal(PATH, PAN)
    with pytest.raises(Unsealable, match="k9"):
        Sealer(key_file).open(PATH, value)


def test_a_key_file_that_others_can_read_is_refused(key_file: Path) -> None:
    key_file.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        Sealer(key_file)


@pytest.mark.parametrize(
    "text", ["", "# nothing", "k1", "k1 abcd", "k1 " + "zz" * 32, "k1 " + "00" * 33, "x" * 33 + " " + "00" * 32]
)
def test_an_unfit_key_file_is_refused_and_the_former_keys_stay(key_file: Path, text: str) -> None:
    sealer = Sealer(key_file)
    value = sealer.seal(PATH, PAN)
    write(key_file, text)
    with pytest.raises(KeyFileError) as refusal:
        sealer.reload()
    assert "zz" not in str(refusal.value)
    assert sealer.open(PATH, value) == PAN


def test_a_key_file_that_is_no_text_is_refused(key_file: Path) -> None:
    key_file.write_bytes(b"# key of M\xfcnchen\nk1 " + b"00" * 32)
    with pytest.raises(KeyFileError, match="the byte at 10 is not UTF-8"):
        Sealer(key_file)


def test_an_id_given_twice_is_refused(key_file: Path) -> None:
    write(key_file, "k1 " + "00" * 32, "k1 " + "11" * 32)
    with pytest.raises(KeyFileError, match="twice"):
        Sealer(key_file)


def test_an_existing_key_file_is_never_replaced(key_file: Path) -> None:
    with pytest.raises(FileExistsError):
        create_key_file(key_file)
