"""conf/switch.toml can be used as it stands, and so can everything in it that is commented out."""

import re
from pathlib import Path

import pytest

from switch.config import load
from switch.ops.switchctl import check

EXAMPLE = Path(__file__).parents[2] / "conf" / "switch.toml"
OPTION = re.compile(r"# ([a-z_]+ = |\[)")


def test_the_example_is_a_configuration() -> None:
    config = load(EXAMPLE)
    assert {link.name for link in config.link} == {"terminals", "issuer", "banks", "creditor"}


def test_what_is_commented_out_is_right_as_well(tmp_path: Path) -> None:
    lines, section = [], ""
    for line in EXAMPLE.read_text().splitlines():
        section = line.split("#")[0].strip() if line.startswith("[") else section
        lines.append(line[2:] if OPTION.match(line) and section != "[etcd]" else line)
    path = tmp_path / "switch.toml"
    path.write_text("\n".join(lines))
    config, plain = load(path), load(EXAMPLE)
    (rule,) = config.stand_in
    assert rule.targets == ["issuer"] and config.route[0].rate_max > 0
    issuer, before = config.link[1], plain.link[1]
    assert (issuer.advice_window, before.advice_window) == (4, 1) and issuer.breaker_timeouts > 0
    assert config.link[0].redeliver and config.link[0].iso8583 is not None and config.link[0].iso8583.presence


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://switch@db:fivefour/switch", "not a URL of SQLAlchemy"),
        ("sqlite:relative.db", "not a URL of SQLAlchemy"),
    ],
)
def test_a_journal_that_cannot_be_is_told_before_a_node_starts(tmp_path: Path, url: str, said: str) -> None:
    text = EXAMPLE.read_text()
    given = re.sub(r"^#? ?url = .*$", f'url = "{url}"', text, flags=re.MULTILINE)
    given = re.sub(r"^#? ?\[journal\]", "[journal]", given, flags=re.MULTILINE)
    given = re.sub(r"^#? ?journal_waiting_max = .*$", "journal_waiting_max = 1000", given, flags=re.MULTILINE)
    path = tmp_path / "switch.toml"
    path.write_text(given)
    assert load(path).journal.url == url
    with pytest.raises(SystemExit, match=rf"switch.toml: \[journal\] url: {said}$"):
        check(path)
