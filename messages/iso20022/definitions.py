"""The notation of message definitions (schemas/*.toml, described in types.toml) and the XSD rendered from it."""

import functools
import re
import tomllib
from importlib.resources import files
from typing import Any

from lxml import etree
from lxml.builder import ElementMaker

XS = "http://www.w3.org/2001/XMLSchema"
_xs = ElementMaker(namespace=XS, nsmap={"xs": XS})

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
    root, root_type = definition["root"].split()
    namespace = definition["namespace"]
    schema = etree.Element(
        f"{{{XS}}}schema",
        {"targetNamespace": namespace, "elementFormDefault": "qualified"},
        nsmap={"xs": XS, None: namespace},
    )
    schema.append(_xs.element(name=root, type=root_type))
    waiting, done = [root_type], {root_type}
    while waiting:
        name = waiting.pop()
        if name not in types:
            raise DefinitionError(f"{message}: type {name} is not defined")
        kind, content = types[name]
        schema.append(_RENDERERS[kind](name, content))
        for used in _uses(kind, content):
            if used not in done:
                done.add(used)
                waiting.append(used)
    return etree.tostring(schema, encoding="UTF-8")


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((files(__package__) / "schemas" / f"{name}.toml").read_text("utf-8"))


def _types(definition: dict[str, Any]) -> _Types:
    return {name: (kind, content) for kind in _KINDS for name, content in definition.get(kind, {}).items()}


def _uses(kind: str, content: Any) -> list[str]:
    return [text.split()[0] for text in content.values()] if isinstance(content, dict) else []


def _simple(name: str, text: str) -> etree._Element:
    facts, _, pattern = " ".join(text.split()).partition(" matches ")
    facts, _, codes = facts.partition(" one of ")
    base, *facets = facts.split()
    restriction = _xs.restriction(base=f"xs:{base}")
    words = iter(facets)
    for word in words:
        if word in _FACETS:
            restriction.append(_xs(_FACETS[word], value=next(words)))
        elif length := re.fullmatch(r"(\d+)\.\.(\d+)", word):
            restriction.append(_xs.minLength(value=length[1]))
            restriction.append(_xs.maxLength(value=length[2]))
        else:
            raise DefinitionError(f"{name}: {word} is no facet")
    restriction.extend(_xs.enumeration(value=code) for code in codes.split())
    if pattern:
        restriction.append(_xs.pattern(value=pattern))
    return _xs.simpleType(restriction, name=name)


def _any(name: str, namespace: str) -> etree._Element:
    return _xs.complexType(_xs.sequence(_xs.any(namespace=namespace, processContents="lax")), name=name)


def _amount(name: str, lines: dict[str, str]) -> etree._Element:
    extension = _xs.extension(base=lines["value"])
    for attribute, kind in lines.items():
        if attribute != "value":
            extension.append(_xs.attribute(name=attribute, type=kind, use="required"))
    return _xs.complexType(_xs.simpleContent(extension), name=name)


def _elements(group: str, name: str, lines: dict[str, str]) -> etree._Element:
    body = _xs(group)
    for element, text in lines.items():
        kind, _, occurrence = text.partition(" ")
        least, most = _OCCURRENCES.get(occurrence) or occurrence.split("..")
        body.append(_xs.element(name=element, type=kind, minOccurs=least, maxOccurs=most or "unbounded"))
    return _xs.complexType(body, name=name)


_RENDERERS = {
    "simple": _simple,
    "any": _any,
    "amount": _amount,
    "choice": functools.partial(_elements, "choice"),
    "sequence": functools.partial(_elements, "sequence"),
}
