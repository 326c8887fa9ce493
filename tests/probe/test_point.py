"""A sweep from end to end on a tiny model: the same numbers as a probe's training, kept, and gone on with."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from lorarank import runs
from lorarank.cli import main
from lorarank.errors import ModelError, ResourceError, RunError
from lorarank.probe import probe
from lorarank.probe.options import ProbeOptions
from lorarank.probe.point import PointLosses
from lorarank.probe.progress import Progress
from lorarank.sweep import Sweep, SweepOptions, read, sweep

TOKENS = 2_000


def options(model: Path, data: Path, output: Path, **more: object) -> SweepOptions:
    given = {"ranks": (1, 4), "lrs": (3e-3,), "tokens": TOKENS, "batch_tokens": 128, "device": "cpu", **more}
    return SweepOptions(str(model), str(data), output, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return sweep(options(tiny_model, tiny_data, tmp_path_factory.mktemp("sweep"), seeds=2))


def points(folder: Path) -> dict[str, object]:
    """Every number of every point but its seconds."""
    found = {}
    for path in folder.glob("points/*.json"):
        point = json.loads(path.read_text())
        del point["seconds"]
        found[path.name] = point
    return found


def test_a_point_is_what_a_probe_trains(finished: Sweep, tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    run = probe(
        ProbeOptions(
            str(tiny_model),
            str(tiny_data),
            tmp_path / "run",
            rank=4,
            lr=3e-3,
            tokens=TOKENS,
            batch_tokens=128,
            device="cpu",
        )
    )
    assert isinstance(run, runs.Run)
    (one,) = [one for one in finished.outcome.ranks if one.rank == 4]
    assert one.seeds[0] == pytest.approx(run.manifest.heldout.probes[0].mean, abs=1e-12)
    assert finished.outcome.base.mean == pytest.approx(run.manifest.heldout.base.mean, abs=1e-12)
    assert finished.steps == run.manifest.training.steps
    assert one.parameters == run.manifest.training.trainable_parameters


def test_ranks_share_their_data_and_seeds_do_not_share_their_start(finished: Sweep) -> None:
    assert [len(one.seeds) for one in finished.outcome.ranks] == [2, 2]
    assert all(one.seeds[0] != one.seeds[1] for one in finished.outcome.ranks)
    assert finished.points == 4
    assert finished.outcome.gain.mean > 0


def test_the_command_prints_keeps_and_goes_on(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["sweep", str(tiny_model), "--data", str(tiny_data), "-o", str(tmp_path / "s"), "--ranks", "1,2"]
    arguments += ["--lrs", "3e-3", "--tokens", str(TOKENS), "--batch-tokens", "128", "--device", "cpu"]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    assert "suffices" in first.stdout
    assert (tmp_path / "s" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    before, kept = read(tmp_path / "s"), points(tmp_path / "s")
    next((tmp_path / "s" / "points").glob("r002-*.json")).unlink()
    again = CliRunner().invoke(main, arguments)
    assert again.stdout.splitlines()[0] == first.stdout.splitlines()[0]
    assert points(tmp_path / "s") == kept  # bit for bit, the point that was gone included
    assert read(tmp_path / "s").outcome == before.outcome


def test_two_sweeps_do_not_share_a_folder(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    given = options(tiny_model, tiny_data, tmp_path / "s")
    refused = []

    def start_another(progress: Progress) -> None:
        if not refused and progress.stage.startswith("r = 1"):
            refused.append(progress.stage)
            with pytest.raises(RunError, match="another sweep is at work in it"):
                sweep(given)

    assert sweep(given, report=start_another).points == 2
    assert refused


def test_ray_trains_the_same_points_side_by_side(
    finished: Sweep, tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    import ray

    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        found = sweep(options(tiny_model, tiny_data, tmp_path / "s", seeds=2, ray=""))
    finally:
        ray.shutdown()
    for one, other in zip(found.outcome.ranks, finished.outcome.ranks, strict=True):
        assert one.seeds == pytest.approx(other.seeds, abs=1e-6)  # another number of threads rounds differently
    assert found.points == finished.points


def test_a_rank_too_high_is_said_before_anything_is_trained(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["sweep", str(tiny_model), "--data", str(tiny_data), "-o", str(tmp_path / "s"), "--ranks", "1,64"]
    )
    assert result.exit_code == 2
    assert "--ranks 64: " in result.stderr
    assert "give ranks up to 16" in result.stderr.lower()
    assert "--rank " not in result.stderr
    assert not (tmp_path / "s").exists()


def test_ranks_that_nobody_asked_for_go_as_far_as_there_is_room(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    arguments = ["sweep", str(tiny_model), "--data", str(tiny_data), "-o", str(tmp_path / "s"), "--lrs", "3e-3"]
    arguments += ["--tokens", str(TOKENS), "--batch-tokens", "128", "--device", "cpu"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert [one.rank for one in read(tmp_path / "s").outcome.ranks] == [1, 2, 4, 8, 16]
    assert "Left out: r = 32, 64. " in result.stderr
    assert "no update of it has a rank above 16" in result.stderr
    assert "Left out" not in result.stdout


def test_a_cluster_that_does_not_answer_is_one_line_and_soon(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    result = CliRunner().invoke(
        main,
        ["sweep", str(tiny_model), "--data", str(tiny_data), "-o", str(tmp_path / "s"), "--ray", "127.0.0.1:1"],
    )
    assert time.monotonic() - begun < 30
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: --ray 127.0.0.1:1: no cluster answers (")
    assert not (tmp_path / "s").exists()


def test_ray_without_an_address_leaves_the_model_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[SweepOptions] = []

    def refuse(options: SweepOptions, **_: object) -> None:
        asked.append(options)
        raise ModelError(options.model, "enough")

    monkeypatch.setattr("lorarank.sweep.sweep", refuse)
    for model, given in (("base", ["--ray", "base"]), ("base", ["base", "--ray"]), ("base", ["--ray=auto", "base"])):
        CliRunner().invoke(main, ["sweep", *given, "--data", "train.jsonl", "-o", str(tmp_path / "s")])
        assert asked[-1].model == model
    assert [one.ray for one in asked] == ["", "", "auto"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
            "Make room, then give the same command again",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 649088 vs 648976"),
            "the disk is full or not writable",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."), "--row-length"),
        (MemoryError(), "out of memory even with one row"),
    ],
)
def test_no_disk_or_memory_in_the_middle_of_a_point_is_one_line(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("lorarank.probe.point.Bench.base", lambda bench: PointLosses((1.0,), (1,), 0.0, 0, 0, 0.0))
    monkeypatch.setattr("lorarank.probe.point.Bench.point", fail)
    with pytest.raises(ResourceError, match=says) as caught:
        sweep(options(tiny_model, tiny_data, tmp_path / "s"))
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "s" / "points").glob("r000-*.json"))  # what was measured before is kept


def test_any_other_error_in_a_point_stays_what_it_is(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("lorarank.probe.point.Bench.base", fail)
    with pytest.raises(RuntimeError, match=r"^ours$"):
        sweep(options(tiny_model, tiny_data, tmp_path / "s"))


def test_the_batch_that_is_written_is_the_one_that_is_trained(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = PointLosses((1.0, 2.0), (1, 1), 1.0, 9, 900, 1.0)
    monkeypatch.setattr("lorarank.probe.point.Bench.base", lambda bench: losses)
    monkeypatch.setattr("lorarank.probe.point.Bench.point", lambda bench, *_: losses)
    assert sweep(options(tiny_model, tiny_data, tmp_path / "s", batch_tokens=500, row_length=64)).batch_tokens == 448


def test_a_target_that_is_not_there(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Choose among"):
        sweep(options(tiny_model, tiny_data, tmp_path / "s", target="nothing"))
