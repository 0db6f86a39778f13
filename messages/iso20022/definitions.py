"""The notation of message definitions (schemas/*.toml, described in types.toml) and the XSD rendered from it."""

import functools
import re
import tomllib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from lxml import etree

XS = "http://www.w3.org/2001/XMLSchema"

_OCCURRENCES = {"": ("1", "1"), "?": ("0", "1"), "*": ("0", "unbounded"), "+": ("1", "unbounded")}
_FACETS = {"digits": "totalDigits", "fraction": "fractionDigits", "min": "minInclusive"}
_KINDS = ("simple", "any", "amount", "choice", "sequence")
_SHARED = "types"

_Types = dict[str, tuple[str, Any]]


class DefinitionError(Exception):
    """A definition file that does not follow the notation: a defect of the product or of a changed file."""


@functools.cache
def shipped() -> tuple[str, ...]:
    """The message types that have a definition here, sorted: ("head.001.001.01", ...)."""
    names = (entry.name.removesuffix(".toml") for entry in (files(__package__) / "schemas").iterdir())
    return tuple(sorted(name for name in names if name != _SHARED))


def render(message: str) -> bytes:
    """The XSD of a shipped message type: its root element and every type reachable from it. UTF-8."""
    definition = _read(message)
    types = _types(_read(_SHARED)) | _types(definition)
    namespace = definition["namespace"]
    schema = etree.Element(
        f"{{{XS}}}schema",
        {"targetNamespace": namespace, "elementFormDefault": "qualified"},
        nsmap={"xs": XS, "t": namespace},
    )
    root, root_type = definition["root"].split()
    _add(schema, "element", name=root, type=f"t:{root_type}")
    waiting, done = [root_type], {root_type}
    while waiting:
        name = waiting.pop()
        if name not in types:
            raise DefinitionError(f"{message}: type {name} is not defined")
        kind, content = types[name]
        _RENDERERS[kind](schema, name, content)
        used = [text.split()[0] for text in content.values()] if isinstance(content, dict) else []
        waiting += [each for each in dict.fromkeys(used) if each not in done]
        done.update(used)
    return etree.tostring(schema, encoding="UTF-8")


def _add(parent: etree._Element, tag: str, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{XS}}}{tag}", attributes)


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((files(__package__) / "schemas" / f"{name}.toml").read_text("utf-8"))


def _types(definition: dict[str, Any]) -> _Types:
    return {name: (kind, content) for kind in _KINDS for name, content in definition.get(kind, {}).items()}


def _simple(schema: etree._Element, name: str, text: str) -> None:
    facts, _, pattern = " ".join(text.split()).partition(" matches ")
    facts, _, codes = facts.partition(" one of ")
    base, *facets = facts.split()
    restriction = _add(_add(schema, "simpleType", name=name), "restriction", base=f"xs:{base}")
    words = iter(facets)
    for word in words:
        if word in _FACETS:
            _add(restriction, _FACETS[word], value=next(words))
        elif length := re.fullmatch(r"(\d+)\.\.(\d+)", word):
            _add(restriction, "minLength", value=length[1])
            _add(restriction, "maxLength", value=length[2])
        else:
            raise DefinitionError(f"{name}: {word} is no facet")
    for code in codes.split():
        _add(restriction, "enumeration", value=code)
    if pattern:
        _add(restriction, "pattern", value=pattern)


def _any(schema: etree._Element, name: str, namespace: str) -> None:
    sequence = _add(_add(schema, "complexType", name=name), "sequence")
    _add(sequence, "any", namespace=namespace, processContents="lax")


def _amount(schema: etree._Element, name: str, lines: dict[str, str]) -> None:
    content = _add(_add(schema, "complexType", name=name), "simpleContent")
    extension = _add(content, "extension", base=f"t:{lines['value']}")
    for attribute, kind in lines.items():
        if attribute != "value":
            _add(extension, "attribute", name=attribute, type=f"t:{kind}", use="required")


def _elements(group: str, schema: etree._Element, name: str, lines: dict[str, str]) -> None:
    body = _add(_add(schema, "complexType", name=name), group)
    for element, text in lines.items():
        kind, _, occurrence = text.partition(" ")
        least, most = _OCCURRENCES.get(occurrence) or occurrence.split("..")
        _add(body, "element", name=element, type=f"t:{kind}", minOccurs=least, maxOccurs=most or "unbounded")


_RENDERERS: dict[str, Callable[[etree._Element, str, Any], None]] = {
    "simple": _simple,
    "any": _any,
    "amount": _amount,
    "choice": functools.partial(_elements, "choice"),
    "sequence": functools.partial(_elements, "sequence"),
}
