"""The shipped message definitions: equal to the official schemas, and replaceable by a bank's own."""

import csv
from pathlib import Path

import pytest
import xmlschema
from lxml import etree

from messages.iso20022 import Schemas, load_schemas
from messages.iso20022.definitions import render, shipped
from messages.iso20022.schemas import SchemaError

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
OFFICIAL = REFERENCE / "xsd"
REAL = REFERENCE / "mx"

needs_official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official schemas are not part of the project")


def facts_of_simple(kind):
    facets = {name: getattr(facet, "value", None) for name, facet in kind.facets.items() if name is not None}
    patterns = sorted(kind.patterns.regexps) if kind.patterns is not None else []
    return kind.primitive_type.local_name, sorted(kind.enumeration or []), patterns, sorted(
        (name.rpartition("}")[2], str(value)) for name, value in facets.items() if value is not None
    )


def facts_of_particle(particle):
    if isinstance(particle, xmlschema.validators.XsdAnyElement):
        return "any", tuple(particle.namespace), particle.process_contents, particle.occurs
    return particle.local_name, particle.type.local_name, tuple(particle.occurs)


def facts_of_complex(kind):
    attributes = sorted((name, each.type.local_name, each.use) for name, each in kind.attributes.items())
    if kind.has_simple_content():
        return "simple content", facts_of_simple(kind.content), attributes
    return kind.content.model, [facts_of_particle(each) for each in kind.content], attributes


def facts_of_schema(source):
    schema = xmlschema.XMLSchema10(source)
    types = {
        name: facts_of_complex(kind) if kind.is_complex() else facts_of_simple(kind)
        for name, kind in schema.types.items()
    }
    return schema.target_namespace, {name: each.type.local_name for name, each in schema.elements.items()}, types


def real_files():
    if not REAL.is_dir():
        return []
    with (REAL / "MANIFEST.tsv").open() as manifest:
        rows = list(csv.DictReader(manifest, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [
        pytest.param(row, id=row["file"])
        for row in rows
        if row["file"].split("/")[0] in ("pacs.008.001.08", "pacs.002.001.10", "head.001.001.01", "head.001.001.02")
    ]


@needs_official
@pytest.mark.parametrize("message", shipped())
def test_a_definition_has_the_elements_order_occurrences_and_types_of_the_official_schema(message):
    ours = facts_of_schema(render(message).decode())
    official = facts_of_schema((OFFICIAL / f"{message}.xsd").read_text("utf-8"))
    assert ours[:2] == official[:2]
    assert set(ours[2]) == set(official[2])
    for name, facts in official[2].items():
        assert ours[2][name] == facts, name


@needs_official
@pytest.mark.parametrize("row", real_files())
def test_a_real_message_gets_the_verdict_of_the_official_schema(row):
    parser = etree.XMLParser(no_network=True, resolve_entities=False)
    payload = (REAL / row["file"]).read_bytes()
    if b"<!DOCTYPE" in payload:
        pytest.skip("refused before any schema is asked")
    root = etree.fromstring(payload, parser)
    verdicts = []
    for element in root.iter("{*}Document", "{*}AppHdr"):
        ours = load_schemas().get(etree.QName(element).namespace)
        if ours is None:
            continue
        official = etree.XMLSchema(etree.parse(OFFICIAL / f"{ours.type}.xsd"))
        assert ours.valid(element) == official.validate(element)
        verdicts.append(ours.valid(element))
    if row["overall"] == "valid":
        assert verdicts and all(verdicts)


def test_the_five_definitions_of_a_credit_transfer_are_shipped():
    assert shipped() == (
        "head.001.001.01",
        "head.001.001.02",
        "head.001.001.03",
        "pacs.002.001.10",
        "pacs.008.001.08",
    )


def small_schema(namespace):
    return (
        f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="{namespace}">'
        '<xs:element name="Document" type="xs:string"/></xs:schema>'
    )


def test_a_folder_of_schemas_replaces_a_shipped_one_by_its_namespace(tmp_path):
    namespace = "urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"
    (tmp_path / "bank.xsd").write_text(small_schema(namespace))
    document = etree.fromstring(f'<Document xmlns="{namespace}">text</Document>')
    assert load_schemas(str(tmp_path)).get(namespace).valid(document)
    assert not load_schemas().get(namespace).valid(document)


def test_a_folder_of_schemas_adds_a_message_type(tmp_path):
    namespace = "urn:iso:std:iso:20022:tech:xsd:pacs.028.001.03"
    (tmp_path / "pacs.028.xsd").write_text(small_schema(namespace))
    schemas = load_schemas(str(tmp_path))
    assert isinstance(schemas, Schemas)
    assert namespace in schemas.namespaces
    assert len(schemas.namespaces) == len(shipped()) + 1


@pytest.mark.parametrize("text", ["no XML", small_schema(""), '<schema xmlns="urn:other"/>'])
def test_a_file_that_is_no_schema_is_named(tmp_path, text):
    (tmp_path / "broken.xsd").write_text(text)
    with pytest.raises(SchemaError, match=r"broken\.xsd"):
        load_schemas(str(tmp_path))
