"""The configuration file: what is local to a node (etcd, keys, paths) and the rules that both nodes share. TOML."""

from pathlib import Path
from typing import Annotated

import msgspec

from messages.iso8583.loader import is_changed
from switch.core.rules import Limits, Link, Route, Rules, RulesError, StandIn, check, possible
from switch.core.wires import serviceable, wires
from switch.mirror.settings import EtcdSettings, password_in


class Pair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both nodes of this switch have in common on this host."""

    name: str
    run_directory: str = "/run/switch"  # control and handover sockets, marks, data keys: a tmpfs
    key_file: str  # of the keys that seal entries (sealing.py)
    data_key_minutes: Annotated[float, msgspec.Meta(gt=0)] = 5.0  # of use of a key for data of requests (datakeys.py)
    log_level: str = "info"
    peer_silence_ms: Annotated[float, msgspec.Meta(ge=200)] = 1_000  # then a silent peer is suspect; b waits twice as long
    backlog_max_bytes: int = 8_388_608  # waiting for the log; above it input stays in the kernel


class Ops(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where operators' tools connect."""

    http: dict[str, str] = {}  # node -> host:port of /metrics and /health


class Journal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The database of finished transactions; both nodes can write to it, the lead does."""

    url: str = ""  # SQLAlchemy's: "sqlite:////var/lib/switch/journal.db", "postgresql://switch@host/switch"; {node}
    password_file: str = ""  # its first line is the password: no secret stands in the configuration
    batch_rows: int = 200  # in one commit, at the most
    timeout_s: int = 10  # of connecting, and of a statement

    def url_of(self, node: str) -> str:
        return self.url.replace("{node}", node)

    def password(self) -> str:
        """Raises OSError when its file cannot be read."""
        return password_in(self.password_file)


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A configuration file."""

    pair: Pair
    etcd: EtcdSettings
    ops: Ops = Ops()
    journal: Journal = Journal()
    limits: Limits = Limits()
    link: list[Link] = []
    route: list[Route] = []
    stand_in: list[StandIn] = []

    @property
    def rules(self) -> Rules:
        return Rules(links=self.link, routes=self.route, stand_ins=self.stand_in, limits=self.limits)


class ConfigError(Exception):
    """A configuration file that cannot be used. The text names the file and the place and says what to change."""


def load(path: Path) -> Config:
    """Read and check a configuration file. Raises ConfigError."""
    try:
        config = msgspec.toml.decode(path.read_bytes(), type=Config)
        check(config.rules)
        possible(config.rules)
        if bool(config.journal.url) != bool(config.limits.journal_waiting_max):
            raise RulesError("a journal needs both: the url in [journal], and in [limits] journal_waiting_max above 0")
        if config.journal.url and not config.journal.url.startswith(("sqlite:", "postgresql:", "postgresql+psycopg:")):
            raise RulesError("[journal]: the url begins with sqlite: or postgresql:")
        serviceable(wires(config.rules, {}).values())  # dialects and schemas are files of this machine, and told if missing
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (msgspec.MsgspecError, RulesError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from None
    return config


def load_again(path: Path) -> Config:
    """The same for a process that has loaded one before. Raises ConfigError."""
    config = load(path)
    for link in config.link:
        if link.iso8583 is None:
            continue
        try:
            changed = is_changed(link.iso8583.dialect)
        except ValueError as error:
            raise ConfigError(f"{path}: link {link.name!r}: {error}") from None
        if changed:  # what is recorded names its dialect, and of one name there is one in a process
            raise ConfigError(
                f"{path}: link {link.name!r}: the dialect {link.iso8583.dialect} was changed since this node has loaded it: "
                "give the changed one another name"
            )
    return config
