"""The compiled schemas of a link: our definitions, added to or replaced by a bank's own .xsd files."""

import functools
import re
from pathlib import Path

from lxml import etree

from messages.iso20022.definitions import XS, render, shipped

_ISO_NAMESPACE = re.compile(r"urn:iso:std:iso:20022:tech:xsd:([a-z]{4}\.\d{3}\.\d{3}\.\d{2})")


class SchemaError(ValueError):
    """A file of `schema_dir` that is no usable XML Schema. Its text names the file."""


def message_type(namespace: str) -> str:
    """The message type that a namespace stands for ("pacs.008.001.08"), or "" for one that is not ISO 20022's."""
    match = _ISO_NAMESPACE.fullmatch(namespace)
    return match[1] if match else ""


class Schema:
    """One target namespace, compiled by libxml2 for the hot path; explain.py compiles `source` again to explain an error."""

    def __init__(self, source: bytes, base: Path | None = None) -> None:
        """Compile an XSD. `base` is the file it came from: its includes are looked up beside it, never on a network.

        Raises lxml.etree.LxmlError or UnicodeDecodeError for what is no schema in UTF-8.
        """
        parser = etree.XMLParser(no_network=True, resolve_entities=False)
        tree = etree.fromstring(source, parser, base_url=str(base or ""))
        self.namespace = tree.get("targetNamespace", "")
        self.type = message_type(self.namespace)
        self.valid = etree.XMLSchema(tree)
        self.elements = frozenset(each.get("name", "") for each in tree.iter(f"{{{XS}}}element"))
        self.source = source.decode("utf-8")
        self.location = str(base.parent) if base else None


class Schemas:
    """Schemas by target namespace."""

    def __init__(self, schemas: list[Schema]) -> None:
        self._by_namespace = {schema.namespace: schema for schema in schemas}

    def get(self, namespace: str) -> Schema | None:
        """The schema of a target namespace, or None."""
        return self._by_namespace.get(namespace)

    def all(self) -> tuple[Schema, ...]:
        return tuple(self._by_namespace.values())

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The target namespaces that can be validated, sorted."""
        return tuple(sorted(self._by_namespace))


@functools.cache
def _shipped_schemas() -> tuple[Schema, ...]:
    return tuple(Schema(render(name)) for name in shipped())


@functools.cache
def load_schemas(schema_dir: str | None = None) -> Schemas:
    """The shipped definitions; each *.xsd file of `schema_dir` adds its target namespace or replaces ours.

    Raises SchemaError for a file that is no schema or has no target namespace. Read once per folder and process.
    """
    schemas = list(_shipped_schemas())
    for path in sorted(Path(schema_dir).glob("*.xsd")) if schema_dir is not None else ():
        try:
            schema = Schema(path.read_bytes(), path)
        except (OSError, UnicodeDecodeError, etree.LxmlError) as error:
            raise SchemaError(f"{path}: {error}") from error
        if not schema.namespace:
            raise SchemaError(f"{path}: no targetNamespace")
        schemas.append(schema)
    return Schemas(schemas)

