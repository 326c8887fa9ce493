"""The README shows what was really printed and measured, and its Python runs."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNS = ROOT / "data" / "evidence" / "first-runs"
FIRST_RUNS = (RUNS / "README.md").read_text(encoding="utf-8")


def test_the_output_shown_is_the_one_kept() -> None:
    """A long one in two blocks, the second folded away, with an empty line between them."""
    shown: dict[str, list[str]] = {}
    for path, text in re.findall(r"<!-- (\S+\.txt) -->\n```text\n(.*?)```", README, flags=re.DOTALL):
        shown.setdefault(path, []).append(text)
    assert len(shown) >= 8
    for path, texts in shown.items():
        assert "\n".join(texts) == (ROOT / path).read_text(encoding="utf-8")


def test_the_table_of_first_runs_is_what_the_runs_recorded() -> None:
    rows = re.findall(r"^\| \[(\S+)\]\(\S+\) \| (.*) \|$", FIRST_RUNS, flags=re.MULTILINE)
    assert {name for name, _ in rows} == {path.name for path in RUNS.iterdir() if path.is_dir()}
    for name, cells in rows:
        assert cells.split(" | ") == first_run_cells(RUNS / name)


def test_the_short_sweeps_beside_them_are_the_recorded_ones() -> None:
    text = FIRST_RUNS.partition("## Short sweeps")[2]
    suffices = {}
    for task, cells in re.findall(r"^\| (\w+) \| [\d.]+ \| (.*) \|$", text, flags=re.MULTILINE):
        *shares, said = cells.split(" | ")
        reached = dict(zip((1, 2, 4, 8, 16), map(float, shares), strict=True))
        suffices[task] = min(r for r, share in reached.items() if share >= 0.99)
        assert str(suffices[task]) == said
    found = re.search(r"found r = (\d+) enough on BANKING77, (\d+) on E2E NLG and (\d+) on GSM8K", FIRST_RUNS)
    assert found is not None
    assert [int(r) for r in found.groups()] == [suffices[task] for task in ("banking77", "e2e_nlg", "gsm8k")]


def first_run_cells(folder: Path) -> list[str]:
    """The cells of a first run's row, from its recorded files."""
    manifest = json.loads((folder / "manifest.json").read_text())
    answer = json.loads((folder / "recommendation.json").read_text())
    gain, training = manifest["heldout"]["gains"][0], manifest["training"]
    low, high = answer["interval"]["low"], answer["interval"]["high"]
    return [
        f"{gain['mean']:.3f} ± {gain['se']:.3f}",
        f"{training['learning_rate']:.1e}",
        f"{answer['rule']['median']:g}",
        f"**{answer['r']}** ({low}–{high}), {answer['confidence']}",
        f"{answer['keep']['r']}",
        f"{answer['heuristics']['row']['low']}–{answer['heuristics']['row']['high']}",
    ]


def test_the_table_of_the_real_cut_is_what_was_measured() -> None:
    block = re.search(r"<!-- resize -->\n(.*?)<!-- /resize -->", README, flags=re.DOTALL)
    assert block is not None
    found = json.loads((ROOT / "data" / "evidence" / "resize.json").read_text())["against_the_whole_adapter"]
    rows = dict(re.findall(r"^\| (.*?) \| (\S+ \| .*) \|$", block[1], flags=re.MULTILINE))
    del rows["against the whole adapter"]
    assert rows.keys() == found.keys()
    for name, cells in rows.items():
        cut = found[name]
        assert cells.split(" | ") == [
            f"{cut['parameters']:,}" if "parameters" in cut else "–",
            f"{100 * cut['energy_dropped']:.1f}%" if "energy_dropped" in cut else "–",
            f"{cut['kl_nats_per_token']:.5f}",
            f"{100 * cut['same_top_token']:.1f}%",
        ]


def test_the_stated_loss_is_that_of_the_files() -> None:
    found = json.loads((ROOT / "data" / "evidence" / "keep-loss.json").read_text())
    assert len(found["points"]) >= 4
    assert found["largest_difference_in_share_of_gain"] < 0.001
    rows = re.findall(
        r"^\| (\d+) \| (.*) \|$", README.partition("<!-- keep-loss -->")[2].partition("<!--")[0], flags=re.M
    )
    assert [int(k) for k, _ in rows] == [point["k"] for point in found["points"]]
    for (_, cells), point in zip(rows, found["points"], strict=True):
        cuts = [
            point[how][metric] for how in ("uniform", "same_parameters_per_module") for metric in ("weight", "loss")
        ]
        assert cells.split(" | ") == [f"{point['parameters']:,}", *(f"{100 * cut['heldout']:.2f}%" for cut in cuts)]
    shown = re.search(r"([\d.]+) ± [\d.]+% of the gain lost at k = (\d+)", README)
    assert shown is not None
    (point,) = (point for point in found["points"] if point["k"] == int(shown[2]))
    assert f"{100 * point['stated_share_of_gain']:.2f}" == shown[1]


@pytest.mark.parametrize("name", ["truncation.json", "manifest.json", "recommendation.json", "recommendation.txt"])
def test_every_first_run_is_complete(name: str) -> None:
    folders = [path for path in RUNS.iterdir() if path.is_dir()]
    assert len(folders) >= 3
    assert all((folder / name).is_file() for folder in folders)


def test_the_exports_shown_hold_the_recommendation() -> None:
    answer = json.loads((RUNS.parent / "report" / "recommendation.json").read_text())["config"]
    yaml = pytest.importorskip("yaml")
    shown = yaml.safe_load((ROOT / "data" / "evidence" / "export" / "gsm8k-axolotl.txt").read_text())
    assert (shown["lora_r"], shown["lora_alpha"]) == (answer["r"], answer["lora_alpha"])
    assert shown["lora_target_modules"] == answer["target_modules"]
    script = (ROOT / "data" / "evidence" / "export" / "gsm8k-trl-qlora.txt").read_text()
    assert f"r={answer['r']},\n    lora_alpha={answer['lora_alpha']}," in script
    ast.parse(script)


def test_the_recommendation_arrived_where_it_was_taken() -> None:
    answer = json.loads((RUNS.parent / "report" / "recommendation.json").read_text())["config"]
    found = json.loads((RUNS.parent / "take-it-there.json").read_text())
    loaded = found["trl"]["loaded_by_peft"]
    assert (loaded["ranks"], loaded["modules"], loaded["lora_alpha"]) == ([answer["r"]], 210, answer["lora_alpha"])
    assert loaded["target_modules"] == answer["target_modules"]
    assert (found["trl"]["estimate"]["kind"], found["trl"]["estimate"]["train_rank"]) == ("adapters", None)
    for tool, rank in (("axolotl", "lora_r"), ("llamafactory", "lora_rank")):
        for way in ("plain", "qlora"):
            read = found[tool][way]["read"]
            assert found[tool][way]["unknown_keys"] == []
            assert (read[rank], read["lora_alpha"]) == (answer["r"], answer["lora_alpha"])
    told = README.partition("<!-- take-it-there -->")[2].partition("<!--")[0]
    losses = found["trl"]["losses"]
    assert (
        f"the loss from {losses[0]} to {losses[-1]}; PEFT loads what it saved, 210 modules of r = {answer['r']}" in told
    )
    for tool, name in (("axolotl", "axolotl"), ("llamafactory", "LLaMA-Factory")):
        assert f"{name} {found[tool]['plain']['version']}" in told


def test_the_cost_of_the_callback_is_the_measured_one() -> None:
    found = json.loads((RUNS.parent / "bench-callback.json").read_text())
    assert f"it took {100 * found['median_share_of_a_step']:.1f}% of a step" in README
    ratios = [one["wall_ratio"] for one in found["rounds"]]
    assert f"({min(ratios):.2f} to {max(ratios):.2f} times in three rounds)" in README


def test_the_speed_and_memory_of_an_audit_are_the_measured_ones() -> None:
    found = json.loads((RUNS.parent / "bench-audit.json").read_text())
    ours = found["over_ours"]
    rounds = ours["gradience"]["middle_half"]
    half, brain, single = (found["one_large_module"][dtype] for dtype in ("F16", "BF16", "F32"))
    for words in (
        f"gradience 0.11 takes {ours['gradience']['seconds']:.1f} times as long (the aim was 10; half of the rounds "
        f"lie between {rounds[0]:.1f} and {rounds[1]:.1f})",
        f"sft-cli 0.2.2 {ours['sft']['seconds']:.1f} times",
        f"at most 2 times as long, it takes {found['ours_over_upcast']['seconds']:.1f} times as long, and "
        f"{found['ours_over_load']['seconds']:.1f} times beside safetensors' own loading",
        f"the least that numpy can do, it takes {found['ours_over_floor']['seconds']:.1f} times as long: by that the "
        "aim is missed",
        f"takes {found['one_4096_module']['ratio']:,} times as long",
        f"peaks {found['sparse_4_gigabytes']['over_imports_megabytes']:.0f} MB above the interpreter",
        f"by {half['over_imports_megabytes']:.0f} MB in float16 and "
        f"{brain['over_imports_megabytes']:.0f} MB in bfloat16 ({brain['stored_megabytes']:.0f} MB stored)",
        f"by {single['over_imports_megabytes']:.0f} MB in float32 ({single['stored_megabytes']:.0f} MB)",
        f"one core does {found['throughput']['jobs_1']['a_second']:.0f} a second, "
        f"two do {found['throughput']['jobs_2']['a_second']:.0f}",
    ):
        assert words in README
    assert found["one_4096_module"]["ratio"] >= 1000
    assert found["sparse_4_gigabytes"]["over_imports_megabytes"] <= 50


def test_what_the_constant_costs_is_what_was_measured() -> None:
    found = json.loads((RUNS.parent / "bakeoff.json").read_text())
    rule = found["predictors"][0]
    (constant,) = (one for one in found["predictors"] if one["name"] == "always 16")
    rank, parameters = (constant[name] / rule[name] for name in ("mean_rank", "mean_parameters"))
    assert f"at {rank:.1f} times the rank on average, {parameters:.1f} times the parameters in all" in README
    assert f"in all, and up to {16 // min(rule['ranks'].values())} times on one pair" in README
    assert f"without all pairs like it on {found['families_left_out']['within_octave']:.0%}" in README
    assert f"The bake-off: {len(found['predictors'])} predictors of the rank that suffices" in README
    planted = sum(name.startswith("planted-") for name in found["pairs"])
    facts = sum("facts" in name or name.startswith("recall-") for name in found["pairs"])
    demo = sum(name.startswith(("demo-", "long-", "recall-")) for name in found["pairs"])
    real = len(found["pairs"]) - planted - demo
    assert (planted, demo - facts, facts, real) == (18, 17, 11, 9)
    assert f"{len(found['pairs'])} pairs of a sweep and a probe" in README
    assert f"{planted + demo} with the embedded demo model (seventeen tasks, eleven sets of facts" in README
    assert "eighteen texts of planted teachers) and nine with a pretrained one" in README


def test_what_is_said_of_later_tasks_is_what_was_answered() -> None:
    found = json.loads((RUNS.parent / "answers.json").read_text())
    later, letters = found["later"], found["answers"]["demo-letters"]
    assert (later["answered"], round(later["within_octave"] * later["answered"])) == (10, 9)
    assert "and on nine of the ten tasks that were added after it was fixed" in README
    assert "right on nine (answers.json)" in (ROOT / "lorarank" / "topics" / "evidence.md").read_text(encoding="utf-8")
    says, truth = letters["r"], letters["r_sufficient"][0]
    assert f"on `letters`, where {truth} suffices, it says {says}: a hair above 4, rounded up" in README


def test_the_readme_is_in_the_order_of_a_first_reading() -> None:
    titles = re.findall(r"^## (.*)$", README, flags=re.MULTILINE)
    order = ["Two commands", "The same in Python", "What the number means", "Commands", "How it works", "Contributing"]
    places = [next(i for i, title in enumerate(titles) if title.startswith(words)) for words in order]
    assert places == sorted(places)
    assert places[:3] == [0, 1, 2]


def test_no_folder_of_a_machine_is_in_the_evidence() -> None:
    written = (".json", ".jsonl", ".txt", ".md", ".html", ".sarif", ".csv")
    texts = [path for path in RUNS.parent.rglob("*") if path.suffix in written]
    assert len(texts) > 50
    for path in texts:
        found = re.findall(r"(?<![\w.])/(?:home|root|work|tmp|Users)/", path.read_text(encoding="utf-8"))
        assert not found, path


def test_what_is_said_of_the_fine_tune_is_what_was_printed() -> None:
    printed = (ROOT / "data" / "evidence" / "audits" / "fine-tune.txt").read_text(encoding="utf-8")
    noise = re.search(r"storing it as bfloat16 makes about ([\d.]+)% of the change", printed)
    rank = re.search(r"take \d+, \d+, (\d+) in the median matrix", printed)
    assert noise
    assert rank
    assert f"in bfloat16 that is {noise[1]} % of it, and 99 % of the change takes {rank[1]} directions" in README
