"""Write the JSON Schemas of what ``--format json`` prints: lorarank/schemas/NAME-VERSION.json, from the result classes.

    python scripts/make_schemas.py

The version is the ``schema`` key of the output. A new key keeps it, and appears in the schema of that version; a key
that goes, is renamed, or changes its type or meaning raises it, and the schema of the old version stays where it is.
Schemas allow keys they do not know, so that a reader of this version reads what later ones add.
(https://json-schema.org/draft/2020-12)
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorarank import first_guess, json_files
from lorarank.audit import adapter, several
from lorarank.compare import result as compared
from lorarank.diagnose import result as diagnosed
from lorarank.estimate import recommendation
from lorarank.export import document
from lorarank.export.settings import Settings
from lorarank.fine_tune import updates
from lorarank.fine_tune.extract import SCHEMA as EXTRACTED
from lorarank.fine_tune.extract import Extraction
from lorarank.inspect import result as inspected
from lorarank.resize import result as resized
from lorarank.runs import Companion, Manifest, Truncation
from lorarank.sweep import Sweep

FOLDER = Path(__file__).resolve().parent.parent / "lorarank" / "schemas"
COMMAND = {"type": "array", "items": {"type": "string"}, "description": "what was run; empty from Python"}
TEXT, MAYBE_TEXT, COUNT = {"type": "string"}, {"type": ["string", "null"]}, {"type": "integer"}


@dataclasses.dataclass(frozen=True)
class Printed:
    """What a command prints: the fields of a class, with what the report adds to some classes and leaves out of others.

    ``added`` maps class names to further properties, ``asked`` to fields that are there with --per-module alone.
    """

    kind: type
    version: int
    added: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    asked: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


BYTES = {f"{name}_bytes": COUNT for name in ("adapter", "gradient", "optimizer", "training", "half_file")}
TAGGED = {"schema": COUNT, "lorarank": TEXT, "command": COMMAND}


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": f"#/$defs/{kind.__name__}"}


PRINTED = {
    "audit": Printed(
        several.AuditReport,
        adapter.SCHEMA,
        {"AuditReport": TAGGED},
        {"Audit": ("modules",), "Evolution": ("modules",)},
    ),
    "compare": Printed(compared.Compared, compared.SCHEMA, {"Compared": {"command": COMMAND, "tools": TEXT}}),
    "diagnose": Printed(diagnosed.Diagnosis, diagnosed.SCHEMA, {"Diagnosis": {"command": COMMAND}}),
    "estimate": Printed(
        recommendation.Recommendation,
        recommendation.SCHEMA,
        {
            "Recommendation": {
                "command": COMMAND,
                "refused": {"type": "boolean"},
                "snippet": {"type": ["string", "null"]},
            }
        },
        {"Recommendation": ("modules",)},
    ),
    "export": Printed(document.Exported, document.SCHEMA, {"Exported": {"command": COMMAND, "text": TEXT}}),
    "extract": Printed(Extraction, EXTRACTED, {"Extraction": {"command": COMMAND}}),
    "fine-tune": Printed(
        updates.FineTune, updates.SCHEMA, {"FineTune": {"command": COMMAND}}, {"MatrixUpdate": ("singular_values",)}
    ),
    "heuristics": Printed(
        first_guess.FirstGuess,
        first_guess.SCHEMA,
        {"FirstGuess": {"command": COMMAND, "source": TEXT, "measured": {"const": False}}},
    ),
    "inspect": Printed(inspected.Inspection, inspected.SCHEMA, {"Inspection": {"command": COMMAND}, "Cost": BYTES}),
    "probe": Printed(
        Manifest,
        json_files.SCHEMA,
        {
            "Manifest": {
                "folder": TEXT,
                "truncation": _reference(Truncation),
                "companion": {"anyOf": [_reference(Companion), {"type": "null"}]},
            }
        },
    ),
    "resize": Printed(resized.Resized, resized.SCHEMA),
    "sweep": Printed(Sweep, json_files.SCHEMA),
}
"""Name of a schema → what it describes. ``resize`` is that of ``convert`` too, ``fine-tune`` of ``audit --base``."""

LEFT_OUT = {"Exported": ("document",)}
"""Fields that no JSON has: of an export the document is ``text``."""

FURTHER = {"probe": (Truncation, Companion), "export": (Settings,)}
"""Classes that only added properties speak of."""


def schema_of(name: str) -> dict[str, Any]:
    """The whole schema of an output."""
    one = PRINTED[name]
    found: dict[str, Any] = {}
    for kind in (one.kind, *FURTHER.get(name, ())):
        _define(kind, one, found)
    top = found[one.kind.__name__]
    top["properties"]["schema"] = {"const": one.version}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:lorarank:schema:{name}:{one.version}",
        "title": f"lorarank {name}, version {one.version}",
        **_reference(one.kind),
        "$defs": found,
    }


def _define(kind: type, one: Printed, found: dict[str, Any]) -> None:
    """A dataclass and what it speaks of, into ``found``."""
    if kind.__name__ in found:
        return
    described = found[kind.__name__] = {"type": "object", "description": (inspect.getdoc(kind) or "").split("\n\n")[0]}
    told, hints = _told(kind), typing.get_type_hints(kind)
    properties: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name not in LEFT_OUT.get(kind.__name__, ()):
            properties[field.name] = _of_type(hints[field.name], one, found)
            if field.name in told:
                properties[field.name]["description"] = told[field.name]
    properties |= {name: dict(inner) for name, inner in one.added.get(kind.__name__, {}).items()}
    described["properties"] = properties
    described["required"] = sorted(properties.keys() - set(one.asked.get(kind.__name__, ())))


def _of_type(hint: Any, one: Printed, found: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type. Floats may be null: JSON has no NaN."""
    plain = {str: "string", int: "integer", bool: "boolean", Path: "string", type(None): "null"}
    if hint in plain:
        return {"type": plain[hint]}
    if hint is float:
        return {"type": ["number", "null"]}
    if hint is Any:
        return {}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        _define(hint, one, found)
        return _reference(hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_of_type(part, one, found) for part in inner]}
    if origin is tuple and inner[1:] == (...,):
        return {"type": "array", "items": _of_type(inner[0], one, found)}
    if origin is tuple:
        items = [_of_type(part, one, found) for part in inner]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of_type(inner[1], one, found)}
    raise TypeError(f"no JSON for {hint!r}")


def _told(kind: type) -> dict[str, str]:
    """What a docstring's list of attributes says of each."""
    body = re.split(r"^Attributes\n-+\n", inspect.getdoc(kind) or "", flags=re.MULTILINE)[1:]
    told: dict[str, str] = {}
    for line in re.sub(r"\n[ \t]+", " ", body[0].partition("\n\n")[0]).splitlines() if body else ():
        names, _, text = line.partition(" : ")
        told |= dict.fromkeys(names.split(", "), text)
    return told


def as_text(name: str) -> str:
    """The schema as it is kept."""
    return json.dumps(schema_of(name), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def path_of(name: str) -> Path:
    """Where it is kept."""
    return FOLDER / f"{name}-{PRINTED[name].version}.json"


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name in PRINTED:
        path_of(name).write_text(as_text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
