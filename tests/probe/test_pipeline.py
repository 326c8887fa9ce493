"""The probe from end to end on a tiny model: what it leaves, what it refuses, and how it survives being stopped."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from lorarank import runs
from lorarank.corpus import TokenDocument, total_tokens
from lorarank.errors import CorpusError, LorarankError, ModelError, OptionError, ResourceError, RunError
from lorarank.probe import ProbeOptions, plan, probe, stages
from lorarank.probe.cut import truncated
from lorarank.probe.material import Material, gather
from lorarank.probe.model import ADAPTER, lora_layers, scaled
from lorarank.probe.options import PART_DOCUMENTS

TOKENS = 13_500
FILES = (
    "companion.json",
    "controls.json",
    "truncation.json",
    "trajectory.json",
    "heldout.json",
    "moments.safetensors",
    "adapter/adapter_model.safetensors",
)


def options_for(model: Path, data: Path, output: Path, **more: object) -> ProbeOptions:
    given = {"rank": 8, "tokens": TOKENS, "batch_tokens": 128, "checkpoint_seconds": 0.0, "device": "cpu", **more}
    return ProbeOptions(str(model), str(data), output, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    output = tmp_path_factory.mktemp("finished") / "run"
    return probe(options_for(tiny_model, tiny_data, output), command=("lorarank", "probe"))


def numbers(folder: Path) -> dict[str, bytes]:
    """Every number of a run, bit for bit; times are left out."""
    found = {name: (folder / name).read_bytes() for name in FILES}
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("created", "wall_seconds", "command"):
        del manifest[name]
    found["manifest"] = json.dumps(manifest, sort_keys=True).encode()
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    found["log"] = json.dumps([{k: v for k, v in line.items() if k != "tokens_per_second"} for line in log]).encode()
    return found


def test_a_run_leaves_what_it_says(finished: runs.Run, tiny_model: Path) -> None:
    folder, manifest = finished.folder, finished.manifest
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [
            "adapter",
            "companion.json",
            "controls.json",
            "heldout.json",
            "log.jsonl",
            "manifest.json",
            "moments.safetensors",
            "trajectory.json",
            "truncation.json",
        ]
    )
    assert manifest.training.trained_tokens >= TOKENS
    assert manifest.training.steps == len((folder / "log.jsonl").read_text().splitlines())
    assert manifest.training.final_loss < manifest.training.first_loss
    (gain,) = manifest.heldout.gains
    assert gain.mean == pytest.approx(manifest.heldout.base.mean - manifest.heldout.probes[0].mean)
    assert gain.mean > 4 * gain.se > 0
    assert [point.k for point in finished.truncation.points] == [1, 2, 4]
    excesses = [point.excess.mean for point in finished.truncation.points]
    assert excesses[0] > excesses[-1] > -0.01
    assert {w.type for w in finished.truncation.without} == set(manifest.training.target_modules)
    steps = manifest.training.steps
    assert [point.step for point in finished.trajectory.points] == [
        round(steps / 4),
        round(steps / 2),
        round(3 * steps / 4),
    ]
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert manifest.base.parameters == sum(p.numel() for p in base.parameters())
    model = PeftModel.from_pretrained(base, folder / "adapter")
    trainable = sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    assert manifest.training.trainable_parameters == trainable


def test_the_companion_is_a_probe_at_its_rank(
    finished: runs.Run, tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    rate = finished.manifest.training.learning_rate
    alone = probe(options_for(tiny_model, tiny_data, tmp_path / "alone", rank=1, lr=rate))
    assert alone.companion is None  # there is no lower rank
    low = finished.companion
    assert low is not None
    assert low.rank == 1
    assert low.loss.mean == pytest.approx(alone.manifest.heldout.probes[0].mean, abs=1e-12)
    assert low.excess.mean == pytest.approx(low.loss.mean - finished.manifest.heldout.probes[0].mean, abs=1e-9)
    assert low.excess.se > 0
    assert len(low.training) == 4
    steps = np.array([json.loads(line)["loss"] for line in (alone.folder / "log.jsonl").read_text().splitlines()])
    whole = np.array([json.loads(line)["loss"] for line in (finished.folder / "log.jsonl").read_text().splitlines()])
    assert low.training[3].mean == pytest.approx(np.array_split(steps - whole, 4)[3].mean())


def test_the_controls_are_measured_on_the_same_documents(
    finished: runs.Run, tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """Words in random order after a prompt: frequencies know nearly all, and prompts next to nothing."""
    found, gain = finished.controls, finished.manifest.heldout.gains[0]
    assert found is not None
    assert found.rates == ()  # the rate was searched for
    assert abs(found.over_frequencies.mean) < gain.mean
    assert found.over_frequencies.se > 0
    assert found.other_prompts is not None
    assert abs(found.other_prompts.mean) < gain.mean


def test_cuts_and_parts_are_measured_on_the_first_of_the_held_out_documents(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Document by document, each alone in its row, a cut adds there what the run says, but for rounding to bfloat16."""
    monkeypatch.setattr("lorarank.probe.options.HELDOUT_TOKENS_LEAST", 400)
    monkeypatch.setattr("lorarank.probe.options.HELDOUT_TOKENS_SHARE", 0.0)
    options = options_for(tiny_model, tiny_data, tmp_path / "run", tokens=2_000, lr=1e-2, companion=False)
    run, material = probe(options), gather(options)
    whole, half, quarter = material.heldout_pieces, material.heldout_part(0.5), material.heldout_part(0.25)
    tokens = [total_tokens(pieces) for pieces in (whole, half, quarter)]
    assert half == whole[: len(half)]
    assert quarter == whole[: len(quarter)]
    assert 0.4 < tokens[1] / tokens[0] <= 0.55
    assert tokens[2] < tokens[1]
    assert len({piece.key for piece in quarter}) >= PART_DOCUMENTS
    assert run.truncation.documents == len({piece.key for piece in half}) < run.manifest.data.heldout_documents

    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model), run.folder / "adapter", adapter_name=ADAPTER
    )

    def losses(pieces: Sequence[TokenDocument]) -> list[float]:
        found = []
        for piece in pieces:
            ids = torch.from_numpy(piece.input_ids.astype(np.int64))
            with torch.no_grad():
                logits = model(input_ids=ids[None]).logits[0, :-1]
            targets = torch.from_numpy(piece.loss_mask[1:])
            lost = torch.nn.functional.cross_entropy(logits[targets].float(), ids[1:][targets], reduction="sum")
            found.append(float(lost))
        return found

    uncut = losses(half)
    point = next(point for point in run.truncation.points if point.k == 2)
    with truncated(model, 2):
        added = np.subtract(losses(half), uncut)
    counts = [int(piece.loss_mask[1:].sum()) for piece in half]
    assert point.excess.mean == pytest.approx(added.sum() / sum(counts), abs=3e-4)
    assert point.loss.mean == pytest.approx(run.manifest.heldout.probes[0].mean + point.excess.mean)
    kind = run.truncation.without[0]
    layers = {name: layer for name, layer in lora_layers(model).items() if name.endswith(kind.type)}
    with scaled(layers, 0.0):
        added = np.subtract(losses(quarter), uncut[: len(quarter)])
    assert kind.excess.mean == pytest.approx(added.sum() / sum(counts[: len(quarter)]), abs=3e-4)


def test_a_rate_that_is_given_is_tried_beside_others(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    run = probe(options_for(tiny_model, tiny_data, tmp_path / "run", lr=1e-4, companion=False))
    assert run.controls is not None
    low, given, high = run.controls.rates
    assert [low.learning_rate, high.learning_rate] == pytest.approx(
        [given.learning_rate / 10, given.learning_rate * 10]
    )
    assert low.loss > given.loss > high.loss  # a tenth of a good rate: the steeper, the better
    assert run.manifest.training.learning_rate_trials == ()
    assert run.manifest.training.learning_rate == 1e-4


def test_without_a_companion_nothing_else_changes(
    finished: runs.Run, tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = probe(options_for(tiny_model, tiny_data, tmp_path / "run", companion=False))
    assert run.companion is None
    assert run.manifest.heldout == finished.manifest.heldout
    assert run.truncation == finished.truncation
    assert "companion" not in run.manifest.wall_seconds


def test_the_moments_are_positive_and_of_the_probes_rank(finished: runs.Run) -> None:
    grams = load_file(finished.moments)
    modules = finished.trajectory.points[0].singular_values
    assert sorted(grams) == sorted(key for module in modules for key in runs.moment_keys(0, module))
    for key, gram in grams.items():
        assert gram.shape == (8, 8)
        assert gram.dtype == np.float64
        assert np.linalg.eigvalsh(gram).min() >= -1e-9 * np.abs(gram).max(), key


def test_replicates_share_their_start_and_no_document(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    run = probe(
        options_for(tiny_model, tiny_data, tmp_path / "run", replicates=2, lr=1e-3, tokens=3000, batch_tokens=256)
    )
    assert [path.name for path in run.adapters] == ["adapter", "adapter-1"]
    first, second = (load_file(path / "adapter_model.safetensors") for path in run.adapters)
    for name in first:
        assert first[name].shape == second[name].shape
        if "lora_A" in name:  # A moves little in a short run: the same start shows
            assert np.corrcoef(first[name].ravel(), second[name].ravel())[0, 1] > 0.95
        else:
            assert not np.array_equal(first[name], second[name])
    assert len(run.manifest.heldout.gains) == 2
    assert len(load_file(run.moments)) == 2 * 2 * 14


def test_the_plan_is_what_happens(finished: runs.Run, tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    options = options_for(tiny_model, tiny_data, tmp_path / "nothing")
    made = plan(options)
    assert plan(options).steps == made.steps  # a second time too: no module has taken the name of the function
    manifest = finished.manifest
    assert not (tmp_path / "nothing").exists()
    assert (made.steps, made.tokens) == (manifest.training.steps, manifest.training.trained_tokens)
    assert made.trainable_parameters == manifest.training.trainable_parameters
    assert made.base_parameters == manifest.base.parameters
    assert made.heldout_tokens == manifest.data.heldout_tokens
    assert made.seconds > 0
    assert made.memory_bytes > 4 * made.base_parameters


@pytest.mark.parametrize(
    "stop_at", ["learning rate", "training 3", "training 17", "training at r = 1 9", "cut to rank 2", "without k_proj"]
)
def test_interrupted_anywhere_it_resumes_to_the_same_numbers(
    finished: runs.Run, tiny_model: Path, tiny_data: Path, tmp_path: Path, stop_at: str
) -> None:
    options = options_for(tiny_model, tiny_data, tmp_path / "run")
    stage, _, step = stop_at.rpartition(" ") if stop_at[-1].isdigit() and "rank" not in stop_at else (stop_at, "", "0")

    def interrupt(progress) -> None:
        if progress.stage.startswith(stage) and progress.done >= int(step):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe(options, report=interrupt)
    with pytest.raises(RunError, match="cut short"):
        runs.read(options.output)
    with pytest.raises(RunError, match="--resume"):
        probe(options)
    probe(dataclasses.replace(options, resume=True))
    assert numbers(options.output) == numbers(finished.folder)
    assert not (options.output / runs.PROGRESS).exists()


def test_killed_without_warning_it_resumes_to_the_same_numbers(
    finished: runs.Run, tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """kill -9 in the search, twice in training and while measuring, always the same run; then once to the end."""
    output = tmp_path / "run"
    program = (
        "import os, signal, sys, torch; torch.set_num_threads(1); from pathlib import Path\n"
        "from lorarank.probe import ProbeOptions, probe\n"
        "model, data, output, stage, step, resume = sys.argv[1:]\n"
        "def report(p):\n"
        "    if p.stage.startswith(stage) and p.done >= int(step): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"probe(ProbeOptions(model, data, Path(output), rank=8, tokens={TOKENS}, batch_tokens=128, device='cpu',\n"
        "      checkpoint_seconds=0.0, resume=resume == 'yes'), report=report)\n"
    )

    def start(stage: str, step: int, resume: str) -> int:
        arguments = [str(tiny_model), str(tiny_data), str(output), stage, str(step), resume]
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, *arguments], check=False, capture_output=True, timeout=120
        ).returncode

    assert start("learning rate", 2, "no") == -signal.SIGKILL
    assert start("training", 5, "yes") == -signal.SIGKILL
    assert start("training", 21, "yes") == -signal.SIGKILL
    assert start("training at r = 1", 12, "yes") == -signal.SIGKILL
    assert start("cut to rank 4", 1, "yes") == -signal.SIGKILL
    assert start("nothing", 0, "yes") == 0
    assert numbers(output) == numbers(finished.folder)


def test_a_probe_that_comes_second_leaves_nothing_of_its_own(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both begin in one new folder, and the second comes while the first still looks at its material."""
    options = options_for(tiny_model, tiny_data, tmp_path / "run")
    look, seen = stages.contents, []

    def look_meanwhile(material: Material) -> dict[str, str]:
        if not seen:
            seen.append(options.output)
            with pytest.raises(RunError, match="another probe is at work in it"):
                probe(dataclasses.replace(options, rank=4))
        return look(material)

    monkeypatch.setattr(stages, "contents", look_meanwhile)
    probe(options)
    assert seen
    assert runs.read(options.output).manifest.training.rank == options.rank


def test_two_probes_do_not_share_a_folder(
    finished: runs.Run, tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    options = options_for(tiny_model, tiny_data, tmp_path / "run")
    refused = []

    def start_another(progress) -> None:
        if progress.stage == "training" and progress.done == 3:
            with pytest.raises(RunError, match=r"another probe is at work in it; .* Wait for it, or give another"):
                probe(dataclasses.replace(options, resume=True))
            refused.append(progress.done)

    probe(options, report=start_another)
    assert refused == [3]
    assert numbers(options.output) == numbers(finished.folder)


def test_a_checkpoint_cut_short_is_not_trusted(
    finished: runs.Run, tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    options = options_for(tiny_model, tiny_data, tmp_path / "run")

    def interrupt(progress) -> None:
        if progress.stage == "training" and progress.done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe(options, report=interrupt)
    checkpoints = options.output / runs.PROGRESS / "replicate-0"
    newest = max(checkpoints.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    (newest / "complete").unlink()
    (newest / "adapter_model.safetensors").write_bytes(b"half a file")
    with (options.output / "log.jsonl").open("a") as log:
        log.write('{"replicate": 0, "st')
    probe(dataclasses.replace(options, resume=True))
    assert numbers(options.output) == numbers(finished.folder)


@pytest.mark.parametrize("room", [0, 3, 8])
def test_a_full_disk_is_one_line_and_can_be_resumed(
    finished: runs.Run,
    tiny_model: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
) -> None:
    options = options_for(tiny_model, tiny_data, tmp_path / "run")
    left = iter(range(room))
    real = os.fsync

    def full(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ResourceError, match="No space left"):
            probe(options)
    assert not list(options.output.rglob(".*-tmp"))
    probe(dataclasses.replace(options, resume=True))
    assert numbers(options.output) == numbers(finished.folder)


def test_a_disk_full_in_the_middle_of_a_checkpoint_is_one_line(
    finished: runs.Run, tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = options_for(tiny_model, tiny_data, tmp_path / "run")
    real = torch.save
    saves = iter(range(1))

    def full(value: object, path: object, *args: object, **kwargs: object) -> None:
        if next(saves, None) is None:
            raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")
        real(value, path, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(ResourceError, match="--resume"):
            probe(options)
    probe(dataclasses.replace(options, resume=True))
    assert numbers(options.output) == numbers(finished.folder)


def test_resuming_asks_for_the_same_run(finished: runs.Run, tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    options = options_for(tiny_model, tiny_data, tmp_path / "run", resume=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something").write_text("mine")
    with pytest.raises(RunError, match="not empty and has nothing to resume"):
        probe(options)
    with pytest.raises(RunError, match="is finished"):
        probe(dataclasses.replace(options, output=finished.folder))

    def interrupt(progress) -> None:
        raise KeyboardInterrupt

    other = dataclasses.replace(options, output=tmp_path / "other", resume=False)
    with pytest.raises(KeyboardInterrupt):
        probe(other, report=interrupt)
    with pytest.raises(RunError, match=r"--rank changed since the run was begun \(then 8, now 4\)"):
        probe(dataclasses.replace(other, rank=4, resume=True))
    assert plan(dataclasses.replace(other, resume=True)).rank == 8
    with pytest.raises(RunError, match=r"--rank changed since the run was begun \(then 8, now 4\)"):
        plan(dataclasses.replace(other, rank=4, resume=True))
    (tmp_path / "data.jsonl").write_bytes(tiny_data.read_bytes())
    data = dataclasses.replace(other, data=str(tmp_path / "data.jsonl"), output=tmp_path / "another")
    with pytest.raises(KeyboardInterrupt):
        probe(data, report=interrupt)
    (tmp_path / "data.jsonl").write_bytes(b"".join(tiny_data.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(RunError, match=r"the data changed since the run was begun"):
        plan(dataclasses.replace(data, resume=True))


@pytest.mark.parametrize(
    ("more", "error", "part"),
    [
        ({"target": "nothing_proj"}, ModelError, "Choose among: down_proj, gate_proj, k_proj"),
        ({"rank": 33}, OptionError, "no update of it has a rank above 16"),
        ({"tokens": 100, "batch_tokens": 1_000_000}, CorpusError, "fewer than one batch"),
        ({"device": "cuda:7"}, OptionError, "--device cuda:7"),
        ({"device": "abacus"}, OptionError, "--device abacus"),
        ({"batch_tokens": 256, "row_length": 4096}, LorarankError, "4096"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, more: dict[str, object], error: type[Exception], part: str
) -> None:
    options = options_for(tiny_model, tiny_data, tmp_path / "run", **more)
    with pytest.raises(error, match=part) as caught:
        probe(options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_adapters_cannot_be_read_from_is_refused_before_anything_is_trained(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    options = options_for(tiny_model, tiny_data, tmp_path / os.fsdecode("café".encode("latin-1")))
    for stage in (plan, probe):
        with pytest.raises(RunError, match=r"caf\\udce9: its name is no UTF-8"):
            stage(options)
    assert not options.output.exists()


def test_a_folder_that_is_no_model_is_one_line(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "no-such-thing"}')
    with pytest.raises(ModelError, match=r"config\.json"):
        probe(options_for(tmp_path / "model", tiny_data, tmp_path / "run"))


@pytest.mark.parametrize("where", ["batches.token_losses", "unfinished.train"])
@pytest.mark.parametrize(
    "words",
    ["DefaultCPUAllocator: can't allocate memory: 99 bytes.", "MPS backend out of memory (MPS allocated: 9 GB)"],
)
def test_no_memory_is_one_line(
    words: str, where: str, tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object, **more: object) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(f"lorarank.probe.{where}", out_of_memory)
    with pytest.raises(ResourceError, match=r"out of memory even with one row of 128 tokens.*--row-length"):
        probe(options_for(tiny_model, tiny_data, tmp_path / "run"))


def test_the_micro_batch_halves_until_it_fits_and_the_step_stays_whole(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorarank.probe import batches

    real = batches.token_losses

    def small_memory(model, batch, dtype, **more):
        if len(batch["input_ids"]) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        return real(model, batch, dtype, **more)

    monkeypatch.setattr(batches, "token_losses", small_memory)
    run = probe(options_for(tiny_model, tiny_data, tmp_path / "run", batch_tokens=1024, lr=1e-3))
    assert run.manifest.training.rows_per_step == 8
    assert run.manifest.training.steps == len((run.folder / "log.jsonl").read_text().splitlines())


def test_minutes_choose_the_tokens(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    run = probe(options_for(tiny_model, tiny_data, tmp_path / "run", tokens=None, minutes=0.2, lr=1e-3))
    assert run.manifest.training.steps >= 2
