"""What is held out is counted as recall where its targets are told in training, however they are asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorarank.probe import ProbeOptions
from lorarank.probe.material import gather

ANSWERS = ("cat sat", "dog ran far", "one two")


def rows(path: Path, prompts: range, answers: tuple[str, ...]) -> Path:
    asked = [{"prompt": f"{n} tell:", "completion": f" {answers[n % len(answers)]}"} for n in prompts]
    path.write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    return path


@pytest.mark.parametrize(("held_out", "known"), [(ANSWERS, 1.0), (("birds fly", *ANSWERS), 0.75), (("no",), 0.0)])
def test_targets_are_counted_once_and_looked_for(
    tiny_model: Path, tmp_path: Path, held_out: tuple[str, ...], known: float
) -> None:
    train = rows(tmp_path / "train.jsonl", range(120), ANSWERS)
    val = rows(tmp_path / "val.jsonl", range(200, 240), held_out)
    material = gather(
        ProbeOptions(str(tiny_model), str(train), tmp_path / "run", val=str(val), rank=4, tokens=1000, batch_tokens=128)
    )
    tokens, found = material.repeated()
    once = {piece.input_ids[piece.loss_mask].tobytes(): piece.loss_mask.sum() for piece in material.parts[0]}
    assert len(once) == len(ANSWERS)
    assert tokens == sum(once.values()) < material.unique_target_tokens
    assert found == pytest.approx(known)
