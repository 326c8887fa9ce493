"""Dossiers of small sources with planted spectra, names that no page may take for more than text, a strict reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import lorarank
from lorarank import json_files, runs
from lorarank.dossier import Dossier, gather
from lorarank.estimate import EstimateOptions
from lorarank.fine_tune import compare_models
from lorarank.result import Result
from lorarank.sweep import SWEEP, Sweep
from lorarank.sweep import read as read_sweep
from lorarank.sweep.outcome import Trained, outcome

Make = Callable[..., Path]

HOSTILE = (
    "<script>document.title='owned'</script>.q_proj",
    "layers.0.<img src=x onerror=\"document.title='owned'\">.k_proj",
    "layers.1.\"' autofocus onfocus=document.title='owned' x=\".v_proj",
    "layers.0.</script></pre></table><!--.o_proj",
    "layers.1.\u202egpj.exe\x1b[31m\u2066.up_proj",
    "layers.0.&lt;b&gt;$policy${data}|`]]>.down_proj",
)
"""Module names of an adapter that means harm."""


@pytest.fixture
def of_run(make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dossier:
    make_run(replicates=(0, 0))
    monkeypatch.chdir(tmp_path)
    return gather("run", EstimateOptions(task="reasoning", budget=1500))


@pytest.fixture
def of_adapter(make_adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dossier:
    make_adapter()
    monkeypatch.chdir(tmp_path)
    return gather("adapter")


@pytest.fixture
def of_several(make_adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dossier:
    make_adapter("first")
    make_adapter("second", seed=1)
    monkeypatch.chdir(tmp_path)
    return gather(["first", "second"])


@pytest.fixture
def of_hostile(make_run: Make) -> Dossier:
    modules = dict.fromkeys(HOSTILE, (48, 64, (4.0, 2.0)))
    return gather(make_run(modules, name="run-<i>&amp;"))


@pytest.fixture
def make_sweep(tmp_path: Path) -> Callable[..., Path]:
    """``make_sweep(losses)``: the folder of a sweep with these losses by rank."""

    def make(losses: dict[int, float] | None = None, name: str = "sweep") -> Path:
        losses = {1: 1.2, 2: 1.04, 4: 1.003, 8: 1.0} if losses is None else losses
        points = [
            Trained(r, 1e-3, seed, (loss + 0.001 * seed, loss + 0.1, loss + 0.2), 1.0, 9.0)
            for r, loss in losses.items()
            for seed in (0, 1)
        ]
        found = outcome((2.0, 2.1, 2.2), (1, 1, 1), points, 100)
        folder = tmp_path / name
        folder.mkdir()
        command = ("lorarank", "sweep", "base", "--data", "train.jsonl", "-o", name)
        swept = Sweep(
            json_files.SCHEMA, "0.1.0", {"python": "3.11"}, command, "2026-01-01T00:00:00Z", "base", "train.jsonl", 3,
            300, 61_440, 120, 512, 32, 2, 8, 491_520, 72.0, None, found,
        )  # fmt: skip
        json_files.write_json(folder / SWEEP, swept)
        return folder

    return make


@pytest.fixture
def of_sweep(make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dossier:
    make_sweep()
    monkeypatch.chdir(tmp_path)
    return gather("sweep")


EMPTY = {"meta", "input", "br", "link"}


@dataclass
class Node:
    """An element: its name, attributes, children, and the text directly inside."""

    name: str
    attributes: dict[str, str]
    children: list[Node] = field(default_factory=list)
    own: str = ""

    def all(self, *names: str, **attributes: str) -> list[Node]:
        """Elements below with one of these names and these attributes."""
        found = []
        for child in self.children:
            right = all(child.attributes.get(key) == value for key, value in attributes.items())
            if (not names or child.name in names) and right:
                found.append(child)
            found += child.all(*names, **attributes)
        return found

    @property
    def text(self) -> str:
        """All text below, children after what is directly inside."""
        return self.own + "".join(child.text for child in self.children)


class Reader(HTMLParser):
    """Builds the tree."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> says an attribute twice"
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in EMPTY:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> where <{self.open[-1].name}> is open"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].own += data


@pytest.fixture
def tree() -> Callable[[str], Node]:
    """``tree(page)``: the page's root, read strictly: every element closed where it was opened."""

    def read(page: str) -> Node:
        reader = Reader()
        reader.feed(page)
        reader.close()
        assert reader.open == [reader.root]
        return reader.root

    return read


@pytest.fixture
def sources(
    make_run: Make, make_adapter: Make, make_sweep: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The current folder, with small sources of every kind: run, run with a companion, first and second adapter, sweep,
    model, tuned, log."""
    make_run(replicates=(0, 0))
    make_run(name="companion", companion=(0.05, 0.01))
    make_adapter("first")
    make_adapter("second", seed=1)
    make_sweep()
    random = np.random.default_rng(0)
    tensors = {f"model.layers.{n}.self_attn.q_proj.weight": random.standard_normal((24, 16)) for n in range(2)}
    for name in ("model", "tuned"):
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
        tensors = {key: value + random.standard_normal((24, 1)) for key, value in tensors.items()}
    steps = range(10, 1001, 10)
    history = [{"step": step, "loss": 1 + 1.5 * (1 + 0.03 * step) ** -0.5} for step in steps]
    history += [{"step": step, "eval_loss": 1.05 + 1.5 * (1 + 0.03 * step) ** -0.5} for step in steps[4::5]]
    state = {"log_history": sorted(history, key=lambda entry: entry["step"]), "global_step": 1000}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def results(sources: Path) -> dict[str, Result]:
    """A result of every class, by the name of its class."""
    made = [
        lorarank.audit(["first", "second", "nowhere"], fail_if="modules > 3"),
        lorarank.audit("first").audits[0],
        lorarank.compare("first", "second"),
        lorarank.diagnose("trainer_state.json", rank=8),
        lorarank.export("run", "trl", per_module=True),
        lorarank.extract("model", "tuned", Path("extracted"), 2),
        compare_models("model", "tuned"),
        lorarank.heuristics("style", "model"),
        lorarank.inspect("model", target="q_proj"),
        lorarank.estimate("run", task="reasoning", budget=1500),
        lorarank.resize("run", "small", rank=2),
        runs.read(Path("companion")),
        read_sweep(Path("sweep")),
    ]
    return {type(one).__name__: one for one in made}
