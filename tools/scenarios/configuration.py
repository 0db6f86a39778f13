"""The configuration that a scenario starts from, how its own tables are laid over it, and its timers at another speed."""

import copy
from typing import Any

_CARDS = {"framing": "2-byte-be", "frame_max_bytes": 4096, "iso8583": {"dialect": "iso87-ascii"}}
_HOST = {
    "connect": [], "connections": 1, "timeout_ms": 15_000, "advice_retry_ms": 10_000, "echo_interval_ms": 30_000,
    "network_timeout_ms": 10_000,
}  # fmt: skip
_TERMINALS = {"listen": {}, "half_close_ms": 30_000}
_1993 = {"iso8583": {"dialect": "iso93-ascii"}}
_2003 = {"iso8583": {"dialect": "iso2003-ascii"}}
_TRANSFERS = {"framing": "8-ascii", "frame_max_bytes": 131_072, "iso20022": {}}
_ROUTE = {"name": "cards", "source": ["pos"], "targets": ["net"]}

# terminals `pos` and their issuer `net`; banks `bank` and the bank that is credited, `hub`
BASES: dict[str, dict[str, Any]] = {
    "cards": {
        "link": [{"name": "pos", **_TERMINALS, **_CARDS}, {"name": "net", **_HOST, **_CARDS}],
        "route": [_ROUTE],
    },
    "cards-1993": {
        "link": [{"name": "pos", **_TERMINALS, **_CARDS, **_1993}, {"name": "net", **_HOST, **_CARDS, **_1993}],
        "route": [_ROUTE],
    },
    "cards-2003": {
        "link": [{"name": "pos", **_TERMINALS, **_CARDS, **_2003}, {"name": "net", **_HOST, **_CARDS, **_2003}],
        "route": [_ROUTE],
    },
    "concentrator": {  # packed digits and a TPDU on the one side, ASCII on the other
        "link": [
            {"name": "pos", **_TERMINALS, **_CARDS, "header": "tpdu", "iso8583": {"dialect": "iso87-binary"}},
            {"name": "net", **_HOST, **_CARDS},
        ],
        "route": [_ROUTE],
    },
    "two-issuers": {  # `net` first, `alt` where that is not possible
        "link": [
            {"name": "pos", **_TERMINALS, **_CARDS},
            {"name": "net", **_HOST, **_CARDS},
            {"name": "alt", **_HOST, **_CARDS},
        ],
        "route": [{**_ROUTE, "targets": ["net", "alt"]}],
    },
    "transfers": {
        "link": [{"name": "bank", **_TERMINALS, **_TRANSFERS}, {"name": "hub", **_HOST, **_TRANSFERS}],
        "route": [{"name": "transfers", "source": ["bank"], "targets": ["hub"]}],
    },
}  # fmt: skip
_NOT_SCALED = ("heartbeat_ms", "reconnect_min_ms", "reconnect_max_ms", "outbox_age_max_ms")


def configuration(base: str, given: dict[str, Any]) -> dict[str, Any]:
    """Links, routes, stand-in and limits: the base's, with a scenario's tables over them.

    A link is changed by its name; one of a new name says which it is `like`. Routes and stand-in, where given, replace all.
    """
    table = copy.deepcopy(BASES[base])
    changed(table, given)
    return table


def changed(table: dict[str, Any], given: dict[str, Any]) -> None:
    """Lay a scenario's tables over these. Raises ValueError for a link that is like no other."""
    links = {link["name"]: link for link in table["link"]}
    for link in given.get("link", []):
        like, name = link.get("like", ""), link.get("name", "")
        if name not in links:
            if like not in links:
                raise ValueError(f"link {name!r} is none of {', '.join(links)}, nor like one of them")
            links[name] = copy.deepcopy(links[like])
            table["link"].append(links[name])
        _lay({key: value for key, value in link.items() if key != "like"}, links[name])
    for name in ("route", "stand_in"):
        if name in given:
            table[name] = given[name]
    _lay(given.get("limits", {}), table.setdefault("limits", {}))


def _lay(over: dict[str, Any], under: dict[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(under.get(key), dict):
            _lay(value, under[key])
        else:
            under[key] = value


def faster(table: Any, factor: float) -> Any:
    """The same with its timers, in milliseconds, shortened by this factor."""
    if isinstance(table, list):
        return [faster(each, factor) for each in table]
    if not isinstance(table, dict):
        return table
    return {
        key: max(int(value / factor), 1)
        if key.endswith("_ms") and key not in _NOT_SCALED and isinstance(value, int) and value
        else faster(value, factor)
        for key, value in table.items()
    }
