"""What ``--format json`` prints is what its published schema says, to the key."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from click.testing import CliRunner

import lorarank
from lorarank import runs
from lorarank.cli import COMMANDS, main
from lorarank.cli.schema import FOLDER, schemas
from lorarank.result import Result

jsonschema = pytest.importorskip("jsonschema")
SCRIPT = Path(lorarank.__file__).parents[1] / "scripts" / "make_schemas.py"

PRINTED = {
    "audit": ["audit first", "audit first second nowhere --per-module", "audit first --fail-if modules>3"],
    "compare": ["compare first second"],
    "diagnose": ["diagnose trainer_state.json --rank 8", "diagnose trainer_state.json --sweep sweep"],
    "estimate": [
        "estimate run --task reasoning --budget 1500 --per-module",
        "estimate first",
        "estimate first second",
        "estimate run --energy 1",
        "estimate companion",
    ],
    "export": ["export run --to trl --per-module", "export first --to vllm", "export run --to torchtune --qlora"],
    "extract": ["extract --base model tuned -o extracted --rank 2"],
    "fine-tune": ["audit --base model tuned", "audit --base model tuned --per-module"],
    "heuristics": ["heuristics", "heuristics --task style --model model", "heuristics --model model --data text.jsonl"],
    "inspect": ["inspect model --target q_proj"],
    "resize": ["resize run -o small --rank 2", "convert first -o other --dtype float16"],
}
"""Schema → commands whose output it describes; those of a probe and of a sweep are below, without training."""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("make_schemas", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["make_schemas"] = module
    found.loader.exec_module(module)
    return module


def strict(schema: Any) -> Any:
    """A schema that takes no key it does not name."""
    if isinstance(schema, list):
        return [strict(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(inner) for key, inner in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        closed["additionalProperties"] = False
    return closed


def check(name: str, printed: Any) -> None:
    schema = json.loads(schemas()[name].read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(strict(schema)).validate(printed)


def test_schemas_are_those_of_the_classes(script: ModuleType, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--rebuild-golden"):
        script.main()
    assert set(schemas()) == set(script.PRINTED) == {*PRINTED, "probe", "sweep"}
    for name in script.PRINTED:
        assert script.path_of(name).read_text(encoding="utf-8") == script.as_text(name), (
            "a result has changed: raise its SCHEMA where a key went or changed; then scripts/make_schemas.py"
        )


def test_every_command_that_prints_json_has_a_schema() -> None:
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        kinds = next((p.type for p in command.params if "--format" in p.opts), None)
        prints = isinstance(kinds, click.Choice) and "json" in kinds.choices
        assert prints == (name in schemas() or name == "convert")
        assert prints == any("--json" in p.opts for p in command.params)


@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize("name", PRINTED)
def test_what_is_printed_is_what_the_schema_says(name: str) -> None:
    Path("text.jsonl").write_text('{"text": "one two three"}\n' * 3, encoding="utf-8")
    for line in PRINTED[name]:
        done = CliRunner().invoke(main, [*line.split(), "--json"])
        assert done.exit_code in (0, 2, 3, 4), (line, done.output)
        printed = json.loads(done.stdout)
        check(name, printed)
        with pytest.raises(jsonschema.ValidationError):
            check(name, printed | {"unheard_of": 1})
        with pytest.raises(jsonschema.ValidationError):
            check(name, printed | {"schema": 2})


@pytest.mark.parametrize("name", ["probe", "sweep"])
def test_what_a_probe_and_a_sweep_print_is_what_their_schemas_say(
    name: str, results: dict[str, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = results["Run" if name == "probe" else "Sweep"]
    monkeypatch.setattr(importlib.import_module(f"lorarank.{name}"), name, lambda *args, **kwargs: found)
    done = CliRunner().invoke(main, [name, "model", "--data", "text.jsonl", "-o", "sweep", "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    check(name, printed)
    assert printed == found.to_dict()
    assert name == "sweep" or printed["companion"]["rank"] == 1


@pytest.mark.usefixtures("sources")
def test_a_run_without_a_companion_says_null() -> None:
    plain = runs.read(Path("run")).to_dict()
    check("probe", plain)
    assert plain["companion"] is None


def test_the_command_prints_them() -> None:
    assert CliRunner().invoke(main, ["schema"]).output.split() == list(schemas())
    printed = json.loads(CliRunner().invoke(main, ["schema", "estimate"]).output)
    assert printed["title"] == "lorarank estimate, version 1"
    assert "the train rank" in printed["$defs"]["Recommendation"]["properties"]["r"]["description"]
    assert CliRunner().invoke(main, ["schema", "estimates"]).exit_code == 2
    assert FOLDER.is_dir()


def test_each_has_an_identity_that_says_its_version() -> None:
    for name, path in schemas().items():
        version = path.stem.removeprefix(f"{name}-")
        assert json.loads(path.read_text(encoding="utf-8"))["$id"] == f"urn:lorarank:schema:{name}:{version}"
