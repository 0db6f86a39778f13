"""What a member of etcd says of itself, whatever that is, comes to warnings: an examination ends no node."""

import pytest

from switch.mirror.fitness import quota_warning, settings_warnings, snapshot_count_warning, version_warning

STARTED = b'{"cmdline":["etcd","--snapshot-count=5000"]}'
QUOTA = b"etcd_server_quota_backend_bytes 2.147483648e+09\n"


def test_a_fit_member_gives_no_warning() -> None:
    assert version_warning("3.5.28") is None and settings_warnings("3.5.28", STARTED, QUOTA) == []


@pytest.mark.parametrize("version", ["", "main", "3.5", "1" * 5000 + ".1.1", "3.5." + "1" * 5000])
def test_a_version_that_is_none_is_a_short_warning(version: str) -> None:
    told = version_warning(version)
    assert told is not None and "not known" in told and len(told) < 100


@pytest.mark.parametrize("figure", ["nan", "inf", "1e999", "-5", "many", "1" * 5000])
def test_a_quota_that_is_no_number_is_not_said(figure: str) -> None:
    told = quota_warning(f"etcd_server_quota_backend_bytes {figure}\n")
    assert told is not None and "does not say" in told


def test_a_snapshot_count_of_any_length_is_too_many() -> None:
    assert snapshot_count_warning("3.6.9", ["etcd", "--snapshot-count", "9" * 5000]) is not None


@pytest.mark.parametrize(
    "variables", [b"<html>", b"", b"[]", b'{"cmdline":["\xff"]}', b'{"memstats":' + b"[" * 5000, b'{"cmdline":7}']
)
def test_variables_that_are_none_are_a_value_error(variables: bytes) -> None:
    with pytest.raises(ValueError, match="not the variables of etcd"):
        settings_warnings("3.5.28", variables, QUOTA)
