"""The help topics: all there, short, found by name, and their numbers are those of the evidence."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lorarank import runs
from lorarank.audit import CODES
from lorarank.cli import COMMANDS, main
from lorarank.errors import OptionError
from lorarank.estimate import constants
from lorarank.heuristics import ALPHA_CONVENTIONS
from lorarank.report import topic
from lorarank.topics import TOPICS, read

ROOT = Path(__file__).resolve().parent.parent
EVIDENCE = ROOT / "data" / "evidence"
LONGEST = 60
"""Lines of a topic: a screen or two."""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def evidence(name: str) -> Any:
    return json.loads((EVIDENCE / name).read_text(encoding="utf-8"))


def test_every_topic_is_listed_and_has_its_file() -> None:
    shown = run("help")
    assert shown.exit_code == 0
    for name, sentence in TOPICS.items():
        assert name in shown.output
        assert sentence in shown.output
    assert {path.stem for path in (ROOT / "lorarank" / "topics").glob("*.md")} == set(TOPICS)


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_is_short_and_points_to_topics(name: str) -> None:
    text = read(name)
    assert text.startswith("# ")
    assert len(text.splitlines()) <= LONGEST
    last = text.rstrip().splitlines()[-1]
    assert last.startswith("See also: ")
    named = last.removeprefix("See also: ").rstrip(".").split(", ")
    assert set(named) <= set(TOPICS) - {name}


@pytest.mark.parametrize("name", TOPICS)
def test_piped_it_is_the_text_and_in_a_terminal_it_is_laid_out(name: str) -> None:
    assert run("help", name).output == read(name)
    laid = topic.render(read(name), width=72, colour=True)
    plain = re.sub(r"\x1b\[[\d;]*m", "", laid)
    assert "```" not in plain
    assert max(map(len, plain.splitlines())) <= 72


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("alfa", "alpha"),
        ("choosing rank", "choosing-r"),
        ("keep", "train-and-keep"),
        ("Q-LoRA", "qlora"),
        ("rank", "choosing-r or train-and-keep"),
        ("modules", "targets"),
    ],
)
def test_the_nearest_topic_is_named(typed: str, meant: str) -> None:
    with pytest.raises(OptionError, match=f"Did you mean {meant}?"):
        read(typed)
    found = run("help", *typed.split())
    assert (found.exit_code, len(found.stderr.splitlines())) == (2, 1)


def test_nothing_is_named_where_nothing_is_near() -> None:
    with pytest.raises(OptionError) as caught:
        read("xyzzy\x1b[31m")
    assert "Did you mean" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_words_find_a_topic_as_its_name_does() -> None:
    assert run("help", "choosing", "r").output == run("help", "choosing-r").output


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "help"])
def test_the_name_of_a_command_shows_its_help(name: str) -> None:
    assert run("help", name).output == run(name, "--help").output


def longer() -> str:
    """How far answers hold for longer runs."""
    found = evidence("longer-runs.json")["summary"]
    two, four, eight = (found["times"][times] for times in "248")
    right = [f"{one['within_a_doubling']} of {one['answers']}" for one in (two, four, eight)]
    held = [one["in_the_interval"] for one in (two, four, eight)]
    caught, *others = (found["moves"][moves] for moves in ("down", "up", "stays"))
    more, runs = (sum(one[key] for one in others) for key in ("more", "answers"))
    return (
        f"were within a doubling of the short probe's on {right[0]}, {right[1]} and {right[2]}, and in its interval on "
        f"{held[0]}, {held[1]} and {held[2]}. Twice the tokens asked for more in {caught['more']} of "
        f"{caught['answers']} runs whose low rank caught up as training ended, and in {more} of {runs} others"
    )


def statements() -> dict[str, list[str]]:
    """Topic → what it has to say, from the evidence."""
    scores = {one["name"]: one for one in evidence("bakeoff.json")["predictors"]}
    names = (
        "companion at 1, power 1, and truncation 2%, the mean, heeding prompts and recall",
        "energy 0.9, q50 by energy, weight",
        "always 8",
        "always 16",
    )
    low, plain, eight, sixteen = (scores[name] for name in names)
    ranks = [pair["r_sufficient"] for pair in evidence("bakeoff.json")["pairs"].values()]
    moved = evidence("invariance.json")["summary"]
    losses = {point["k"]: point["stated_share_of_gain"] for point in evidence("keep-loss.json")["points"]}
    types = {one["type"]: one for one in evidence("first-runs/gsm8k/recommendation.json")["types"]}
    fuzz, speed = evidence("fuzz.json"), evidence("bench-audit.json")
    llama = (EVIDENCE / "inspect" / "llama-3.1-8b.txt").read_text(encoding="utf-8")
    cost = {row[0]: row[1] for row in re.findall(r"^  (qv|attention|all-linear) +\d+ +([\d,]+) ", llama, re.MULTILINE)}
    first_runs = []
    for folder in sorted(path for path in (EVIDENCE / "first-runs").iterdir() if path.is_dir()):
        answer = json.loads((folder / "recommendation.json").read_text(encoding="utf-8"))
        first_runs.append(f"| {folder.name} | {answer['r']} | {answer['keep']['r']} |")

    def lost(kind: str) -> str:
        return f"{100 * types[kind]['excess']:.1f} ± {100 * types[kind]['excess_se']:.1f}%"

    return {
        "choosing-r": [
            f"r = 16 lost {sixteen['mean_regret']:.2%} of the gain, the answer {low['mean_regret']:.2%}, "
            f"at {low['mean_parameters'] / sixteen['mean_parameters']:.0%} of the parameters",
        ],
        "alpha": [f"`lora_alpha = {one.name}`" for one in ALPHA_CONVENTIONS]
        + [f"at most by a factor of {constants.RATE_CHANGE:g}"],
        "targets": [
            f"{cost['all-linear']} parameters against {cost['attention']}, and {cost['qv']} for `qv`",
            f"down_proj was worth {lost('down_proj')} of the gain and k_proj {lost('k_proj')}",
        ],
        "train-and-keep": [
            *first_runs,
            f"lost {losses[8]:.2%} of its gain when it was cut to 8, {losses[4]:.2%} at 4 and {losses[1]:.2%} at 1",
        ],
        "evidence": [
            f"the sufficient rank on {low['within_octave']:.0%} of them, "
            f"the plain rule on {plain['within_octave']:.0%}, always r = 8 on {eight['within_octave']:.0%}; "
            f"it loses {low['mean_regret']:.2%} of the gain, "
            f"on pretrained models {low['pretrained']['mean_regret']:.2%}",
            f"Measured on {len(ranks)} pairs",
            f"Of {moved['answers'] + moved['refused']} answers",
            f"{moved['refused']} were refused and {moved['within_an_octave']} stayed within a doubling",
            longer(),
            f"the sufficient ranks are {min(ranks)} to {max(ranks)}",
            f"took {evidence('bench-probe.json')['median_ratio']:.2f} times",
            f"{evidence('bench-estimate.json')['modules']} modules "
            f"{evidence('bench-estimate.json')['median_seconds']:.2f} s",
        ],
        "security": [
            f"{fuzz['mutations']:,} mutated adapters of {len(fuzz['formats'])} formats",
            f"the slowest took {fuzz['slowest_seconds']} s, and none more than {fuzz['most_megabytes']} MB",
        ],
        "scaling-out": [
            f"{speed['throughput']['jobs_1']['a_second']:.0f} small adapters a second; two cores did "
            f"{speed['throughput']['jobs_2']['a_second']:.0f}",
            f"one of {speed['sparse_4_gigabytes']['gigabytes']:.1f} GB peaked "
            f"{speed['sparse_4_gigabytes']['over_imports_megabytes']:.0f} MB above",
        ],
    }


def test_what_topics_say_is_what_was_measured() -> None:
    for name, sentences in statements().items():
        for sentence in sentences:
            assert sentence in read(name), (name, sentence)


def test_the_codes_are_found_from_troubleshooting_and_the_readme() -> None:
    codes = list(CODES)
    assert f"`lorarank help findings` has the codes {codes[0]} to {codes[-1]}." in read("troubleshooting")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"Findings have codes, {codes[0]} to {codes[-1]}, " in readme
    assert "`lorarank help findings`" in readme
    assert re.findall(r"^\| (LR\d+) \|", read("findings"), flags=re.MULTILINE) == codes


def test_the_files_of_a_run_are_all_named() -> None:
    (told,) = (line for line in read("formats").splitlines() if line.startswith("**A run folder**"))
    files = {value for name, value in vars(runs).items() if name.isupper() and "." in str(value)} - {runs.PROGRESS}
    assert files == set(re.findall(r"`([\w.]+\.\w+)`", told))


DEFINITIONS = {"90 %", "1 %", "`90%`", "`95%`", "`99%`"}
"""Shares that are definitions of ours and no measurements."""


@pytest.mark.parametrize("name", TOPICS)
def test_every_number_with_a_point_or_percent_names_where_it_is_from(name: str) -> None:
    prose = re.sub(r"```.*?```", "", read(name), flags=re.DOTALL)
    for paragraph in re.split(r"\n\n|\n(?=- )", prose):
        rest = re.sub(r"arXiv:\S+|Llama-3\.1|4\.0|\brun on\b", "", paragraph)
        for word in sorted(DEFINITIONS):
            rest = rest.replace(word, "")
        if re.search(r"\d\.\d|\d ?%", rest):
            assert re.search(r"\w\.json|data/evidence/|\.txt|first-runs", paragraph), paragraph
