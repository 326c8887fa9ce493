"""A report on an audit that was kept is the report on its adapters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorarank.dossier import gather
from lorarank.errors import OptionError, RunError
from lorarank.estimate import EstimateOptions
from lorarank.report import chapters, html
from lorarank.report.audit_json import to_json

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def keep(name: str, sources: list[str], *, energy: float | None = None, per_module: bool = True) -> str:
    report = gather(sources, EstimateOptions(energy=energy)).audits
    assert report is not None
    Path(name).write_text(to_json(report, per_module=per_module), encoding="utf-8")
    return name


def test_it_comes_back_whole(make_adapter: Make) -> None:
    def spoil(tensors: dict[str, Any]) -> None:
        next(iter(tensors.values()))[:] = float("nan")

    for name, how in (("good", {}), ("spoilt", {"edit": spoil})):
        make_adapter(name, **how)
        direct = gather(name)
        assert gather(keep(f"{name}.json", [name])) == replace(direct, sources=(f"{name}.json",))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_shell_of_windows_may_have_written_it(encoding: str, make_adapter: Make) -> None:
    """``lorarank audit ... --json > one.json`` in PowerShell."""
    make_adapter("one")
    text = Path(keep("one.json", ["one"])).read_text(encoding="utf-8")
    Path("one.json").write_text(text.replace("\n", "\r\n"), encoding=encoding, newline="")
    assert gather("one.json") == replace(gather("one"), sources=("one.json",))


def test_several_files_stand_side_by_side(make_adapter: Make) -> None:
    make_adapter("first")
    make_adapter("second", seed=1)
    kept = [keep(f"{name}.json", [name]) for name in ("first", "second")]
    assert gather(kept) == replace(gather(["first", "second"]), sources=tuple(kept))
    assert ">second<" in html.render(chapters.document(gather(kept)))


def test_what_cannot_be_read_is_a_line(make_adapter: Make) -> None:
    make_adapter("one")
    short = keep("short.json", ["one"], per_module=False)
    with pytest.raises(RunError, match=r"modules: the key is missing\. Make it again with: lorarank audit"):
        gather(short)
    whole, other = keep("whole.json", ["one"]), keep("other.json", ["one"], energy=0.5)
    with pytest.raises(OptionError, match="cannot stand beside each other"):
        gather([whole, other])
    with pytest.raises(OptionError, match="--energy"):
        gather(whole, EstimateOptions(energy=0.5))
    Path("cut.json").write_text(Path(whole).read_text(encoding="utf-8")[:200], encoding="utf-8")
    with pytest.raises(RunError, match="cannot be read as JSON"):
        gather("cut.json")


@pytest.mark.parametrize(
    ("part", "key", "value", "told"),
    [
        ("whole", "r", [1], "expected a list of 2"),
        ("type", "name", "x", "other types than those of its modules"),
        ("", "energy", [], "not a rank and a reduction for each share"),
        ("", "energy", [0.9], "not a rank and a reduction for each share"),
        ("", "reductions", [], "not a rank and a reduction for each share"),
        ("figures", "energy_ranks", [2.0], "not a rank and a reduction for each share"),
        ("figures", "singular_values", [1.0, 2.0], "do not descend"),
        ("figures", "singular_values", [1.0, -1.0], "do not descend"),
        ("figures", "singular_values", [1e999], "do not descend"),
    ],
)
def test_an_audit_at_odds_with_itself_is_a_line(part: str, key: str, value: Any, told: str, make_adapter: Make) -> None:
    make_adapter("one")
    path = Path(keep("odd.json", ["one"]))
    plain = json.loads(path.read_text(encoding="utf-8"))
    (audit,) = plain["audits"]
    {"": audit, "type": audit["types"][0], "whole": audit["whole"], "figures": audit["modules"][0]["figures"]}[part][
        key
    ] = value
    path.write_text(json.dumps(plain, sort_keys=True), encoding="utf-8")
    with pytest.raises(RunError, match=f"{told}.*Make it again with"):
        gather("odd.json")
