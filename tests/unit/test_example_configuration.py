"""conf/switch.toml can be used as it stands, and so can everything in it that is commented out."""

import re
from pathlib import Path

from switch.config import load

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
