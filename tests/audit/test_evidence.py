"""What the evidence files say, as the README's words rely on it."""

from __future__ import annotations

import json
from pathlib import Path

EVIDENCE = Path(__file__).parents[2] / "data" / "evidence"


def test_five_real_adapters_agree_with_a_dense_svd_and_with_gradience() -> None:
    dense = json.loads((EVIDENCE / "audits.json").read_text())["dense"]
    assert len(dense) == 5
    for found in dense.values():
        assert found["modules_whose_energy_ranks_differ"] == 0
        assert found["largest_error_of_sigma_over_sigma_1"] < 1e-12
        other = found["gradience"]
        assert other["modules_with_the_same_energy_ranks"] == other["modules_of_the_same_name"] == found["modules"]
        assert other["largest_relative_difference_of_norms"] < 1e-9


def test_every_real_adapter_is_read_or_declined_with_the_right_sentence() -> None:
    rows = json.loads((EVIDENCE / "audits.json").read_text())["adapters"]
    formats = {row["format"] for row in rows if row["status"] == "ok"}
    assert formats == {"peft", "cloneofsimo", "ai-toolkit", "attention-processors", "pairs"}
    assert [row["findings"] for row in rows if row["status"] == "ok" and "keep" not in row] == ["LR002"]  # all zero
    declined = [row["problem"] for row in rows if row["status"] != "ok"]
    assert len(rows) == 32
    assert len(declined) == 4
    assert sum("a LoKr of LyCORIS" in sentence for sentence in declined) == 2
    assert sum("none of its 24 factors has a partner w_b" in sentence for sentence in declined) == 2


def test_no_path_of_a_machine_is_in_it() -> None:
    for path in (EVIDENCE / "audits.json", *(EVIDENCE / "audits").iterdir()):
        assert not [
            line for line in path.read_text(encoding="utf-8").splitlines() if "/home/" in line or "/root/" in line
        ]
