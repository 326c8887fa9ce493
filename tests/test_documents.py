"""Every shell and Python block of the README and of the help topics, run as it stands.

Each block runs offline in a folder of its own where the names it uses exist: a tiny model called MODEL, a few rows of
the demo's data, a run, adapters. Training is made short by one constant, the default number of tokens. What cannot run
here stands in :data:`PARSED_ONLY`, with the reason, and is checked as far as it goes without running.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from lorarank import runs
from lorarank.cli import main
from lorarank.topics import TOPICS

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("transformers")

Make = Callable[..., Path]
ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "data" / "demo"
DOCUMENTS = {"README.md": ROOT / "README.md"} | {
    f"help {topic}": ROOT / "lorarank" / "topics" / f"{topic}.md" for topic in TOPICS
}
LANGUAGES = {"sh", "console", "python", "text", "yaml"}
TOKENS = 1024
"""Training tokens where a block does not say how many; 131,072 otherwise."""

PARSED_ONLY = {
    "scripts/demo": "makes an environment",
    "scripts/test": "runs this",
    "pip install 'lorarank[probe]'": "installs",
    "pip install 'lorarank[probe,4bit]'": "installs",
    "accelerate launch -m lorarank probe MODEL --data train.jsonl -o run": "several GPUs",
    "lorarank probe MODEL --data train.jsonl -o run --load-in-4bit": "minutes without a GPU",
    "lorarank probe MODEL --data train.jsonl -o unfinished --resume": "wants a probe that was stopped",
    "lorarank probe MODEL --data train.jsonl -o run --minutes 30": "half an hour, and more data",
    "lorarank sweep MODEL --data train.jsonl -o sweep --ray auto": "a cluster",
    "lorarank audit 'adapters/**' --ray auto -o results.parquet": "a cluster",
}
"""Commands that are only parsed, and why."""

UNET = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"

TRAINS = ("probe", "sweep")
"""Commands whose result is trained once and then copied, and after which an estimate may be a refusal: so short a
training may have learned nothing."""


class Block(NamedTuple):
    """A fenced block: where it is, its language, and its text."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    texts = {name: path.read_text(encoding="utf-8") for name, path in DOCUMENTS.items()}
    return [
        Block(name, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for name, text in texts.items()
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
        if not languages or match[1] in languages
    ]


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command; continued lines are joined, comments and a prompt left out."""
    for line in block.text.replace("\\\n", " ").splitlines():
        for part in line.removeprefix("$ ").split(" && "):
            if words := shlex.split(part, comments=True):
                yield words


def test_every_block_has_a_language_that_is_looked_after() -> None:
    found = blocks()
    assert {block.language for block in found} <= LANGUAGES
    assert {block.document for block in found if block.language == "sh"} == set(DOCUMENTS)


def test_the_list_of_what_is_only_parsed_is_short_and_current() -> None:
    shown = {tuple(words) for block in blocks("sh", "console") for words in commands(block)}
    assert {tuple(shlex.split(line)) for line in PARSED_ONLY} <= shown
    assert len(PARSED_ONLY) <= 10


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of one layer with the demo's tokenizer, as wide as the largest rank that is shown."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("model")
    shutil.copytree(DEMO / "model", folder, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    given = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    narrow = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 1, "head_dim": 64}
    config = LlamaConfig(**given | narrow | {"num_attention_heads": 2, "num_key_value_heads": 2})
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trained() -> dict[str, Path]:
    """What a training command of this session left, by its words: the same words are not run again."""
    return {}


@pytest.fixture
def shelf(tmp_path: Path, tiny_model: Path, make_run: Make, make_adapter: Make) -> Callable[[str], Path]:
    """``shelf(text)``: a folder with everything that a block may name, but for what it writes itself."""

    def rows(name: str, count: int) -> str:
        return "".join((DEMO / name).read_text(encoding="utf-8").splitlines(keepends=True)[:count])

    def fill(text: str) -> Path:
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "MODEL").symlink_to(tiny_model)
        (folder / "train.jsonl").write_text(rows("train.jsonl", 60), encoding="utf-8")
        (folder / "val.jsonl").write_text(rows("val.jsonl", 12), encoding="utf-8")
        shutil.move(make_run(), folder / "run")
        curve = folder / "run" / runs.TRUNCATION  # as a probe leaves it
        curve.write_text(curve.read_text(encoding="utf-8").replace('"loss",', '"weight",', 1), encoding="utf-8")
        for seed, name in enumerate(("my-lora", "adapter", "unet-lora", "A", "B", "adapters/a", "adapters/b")):
            modules = {UNET: (32, 32, (4.0, 1.0))} if name == "unet-lora" else None
            shutil.move(make_adapter(f"made/{name}", modules, seed=seed), folder / name)
        training(folder / "output", make_adapter)
        shutil.copytree(ROOT / "data" / "evidence" / "pairs" / "demo-guilds", folder / "sweep")
        random = np.random.default_rng(0)
        for name in ("BASE", "TUNED"):
            weights = {"model.layers.0.mlp.up_proj.weight": random.standard_normal((32, 16)).astype(np.float32)}
            (folder / name).mkdir()
            save_file(weights, folder / name / "model.safetensors")
        (folder / "results.jsonl").write_text('{"source": "adapters/a", "status": "ok", "keep": 4}\n')
        for name in re.findall(r"""(?:-o |output(?:_dir)?=")([\w.-]+)""", text):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return folder

    return fill


def training(folder: Path, make_adapter: Make) -> None:
    """The output folder of somebody's trainer: two checkpoints, and losses in the state of the later one."""
    for step in (20, 40):
        shutil.move(make_adapter(f"made/{step}", seed=step), folder / f"checkpoint-{step}")
    losses = [{"step": step, "epoch": step / 10, "loss": 1 + 2 / step} for step in range(1, 41)]
    losses += [{"step": step, "epoch": step / 10, "eval_loss": 1.1 + 2 / step} for step in range(4, 41, 4)]
    state = {"global_step": 40, "log_history": sorted(losses, key=lambda line: line["step"])}
    (folder / "checkpoint-40" / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("lorarank.probe.options.DEFAULT_TOKENS", TOKENS)


@pytest.mark.parametrize("block", blocks("sh", "console"), ids=str)
def test_shell(
    block: Block, shelf: Callable[[str], Path], trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf(block.text))
    parsed_only = [shlex.split(line) for line in PARSED_ONLY]
    has_trained = False
    for words in commands(block):
        if words in parsed_only:
            parse(words)
            continue
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            monkeypatch.setenv(*words.pop(0).split("=", 1))
        assert words[0] == "lorarank", f"{shlex.join(words)}: run it, or add it to PARSED_ONLY with the reason"
        done = run(words, trained)
        allowed = (0, 3) if has_trained else (0,)
        assert done[0] in allowed, f"{shlex.join(words)} exited with {done[0]}:\n{done[1]}"
        has_trained |= words[1] in TRAINS


def run(words: list[str], trained: dict[str, Path]) -> tuple[int, str]:
    """Exit code and what was printed; a training command is run once in a session for all documents."""
    output = words[words.index("-o") + 1] if "-o" in words else ""
    keeps = words[1] in TRAINS and "--dry-run" not in words
    if keeps and shlex.join(words) in trained:
        shutil.copytree(trained[shlex.join(words)], output)
        return 0, ""
    result = CliRunner().invoke(main, words[1:])
    if keeps and result.exit_code == 0:
        trained[shlex.join(words)] = Path(output).resolve()
    if result.exit_code == 0 and output and "--dry-run" not in words:
        assert Path(output).exists()
    return result.exit_code, result.output


def parse(words: list[str]) -> None:
    """As far as a command can be checked without running it."""
    if words[0].startswith("scripts/"):
        assert os.access(ROOT / words[0], os.X_OK)
    elif words[:2] == ["pip", "install"]:
        extras = re.fullmatch(r"lorarank(?:\[([\w,]+)\])?", words[2])
        assert extras is not None
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert all(re.search(rf"^{re.escape(extra)} = \[", project, re.MULTILINE) for extra in extras[1].split(","))
    else:
        words = words[words.index("lorarank") + 1 :]
        found = main.get_command(click.Context(main), words[0])
        assert found is not None
        found.make_context(words[0], words[1:]).close()


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python(block: Block, shelf: Callable[[str], Path], tmp_path: Path) -> None:
    """In an interpreter of its own, where warnings of other people's packages are not ours to raise."""
    if "from trl " in block.text:
        pytest.importorskip("trl")
    short = f"import lorarank.probe.options\nlorarank.probe.options.DEFAULT_TOKENS = {TOKENS}\n"
    script = tmp_path / "block.py"
    script.write_text((short if "probe" in block.text else "") + block.text, encoding="utf-8")
    found: Any = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        cwd=shelf(block.text),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert found.returncode == 0, found.stderr[-3000:]
