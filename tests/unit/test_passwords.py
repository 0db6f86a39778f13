"""Password files: their first line; one that is none is an operator's mistake, which ends no node that serves."""

import asyncio
from pathlib import Path

import pytest

from switch.config import Journal
from switch.mirror.client import Client
from switch.mirror.errors import MirrorError
from switch.mirror.settings import EtcdSettings


def test_the_first_line_is_the_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret words\nand a note\n")
    assert Journal(password_file=str(tmp_path / "password")).password() == "secret words"
    assert Journal().password() == ""


@pytest.mark.parametrize("content", [b"", b"\n", b"\nsecret\n", b"secr\xff\n"])
def test_a_file_without_one_is_told_as_one_that_cannot_be_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    for settings in (Journal(password_file=str(path)), EtcdSettings(endpoints=(), password_file=str(path))):
        with pytest.raises(OSError, match=str(path)) as caught:
            settings.password()
        assert "secr" not in str(caught.value)


def test_a_password_of_etcd_that_cannot_be_read_ends_a_node_at_its_start_and_not_later(tmp_path: Path) -> None:
    """It may be missing for a moment while it is replaced, just when a token has run out."""

    async def authenticate() -> None:
        given = EtcdSettings(endpoints=("http://127.0.0.1:1",), user="switch", password_file=str(tmp_path / "password"))
        client = Client(given)
        try:
            with pytest.raises(MirrorError, match="no password"):
                await client.authenticate()
            client.cluster_id = 7
            await client.authenticate()
        finally:
            await client.close()

    asyncio.run(authenticate())
