"""The report on a probe run (floor 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lorarank.dossier import Dossier, Update
from lorarank.errors import printable
from lorarank.estimate import reasons
from lorarank.estimate.recommendation import Recommendation
from lorarank.numerics.ladder import round_up
from lorarank.report import recommended
from lorarank.report import recommended_content as content
from lorarank.report.chapters import measured, shared
from lorarank.report.chapters.blocks import (
    Answer,
    Block,
    Chapter,
    Code,
    Facts,
    Fold,
    Paragraph,
    Picture,
    Sentences,
    Table,
    Tabs,
)
from lorarank.report.drawing import charts
from lorarank.report.page import Page
from lorarank.report.plain import Grid, laid_out
from lorarank.report.series import gain_lost
from lorarank.runs import Run
from lorarank.wording import percent, within

WIDTH = 100
"""Columns of the report as text."""


def parts(found: Dossier, command: Sequence[str]) -> shared.Parts:
    """All chapters, the answer first."""
    answer, run = found.answer, found.run
    assert answer is not None  # noqa: S101 (a dossier of kind "run" has both)
    assert run is not None  # noqa: S101
    marked = [] if answer.r is None else [(answer.r, f"r = {answer.r}")]
    kinds = content.type_grid(answer)
    chapters = (
        _answer(answer),
        _low_rank(answer),
        _truncation(answer, run),
        shared.where_it_is(found.updates, [] if kinds is None else [Table(kinds)]),
        shared.spectra(found.updates),
        shared.cost(found.updates, marked, "answer", run.manifest.base.parameters),
        _replication(answer, run, found.updates),
        shared.reference(found),
        _reasons(answer),
        measured.chapter(run),
        _modules(answer),
        _exports(answer, command),
    )
    data = recommended.to_json(answer, command=command, per_module=True)
    return shared.Parts(tuple(chapter for chapter in chapters if chapter is not None), data, recommended.rows(answer))


def _answer(answer: Recommendation) -> Chapter:
    badges: list[tuple[str, str]] = []
    blocks: list[Block] = []
    if answer.r is not None and answer.interval is not None:
        low, high = answer.interval.low, answer.interval.high
        badges = [("interval", f"{low}–{high}" if low != high else str(low)), ("confidence", str(answer.confidence))]
        keep = answer.keep.r if answer.keep is not None else None
        told = "The ladder of ranks: the band is the interval, the ring the answer, a dot above for every reading."
        blocks.append(Picture(charts.rank_line("ladder", answer.r, answer.interval, keep), told))
    if answer.keep is not None:
        badges.append(("keep rank", str(answer.keep.r)))
    blocks.append(Facts(tuple(content.facts(answer))))
    lines = tuple(printable(line, 2000) for line in answer.doubts)
    if lines:
        blocks.append(Sentences(lines, "What lowers the confidence"))
    first = Answer(content.headline(answer), answer.r is not None, tuple(badges))
    return Chapter("answer", "The answer", (first, *blocks))


def _low_rank(answer: Recommendation) -> Chapter | None:
    """What the companion loses, and the law that leads from it to the rank."""
    found = answer.low_rank
    if found is None or answer.r is None:
        return None
    text = (
        f"The same probe, trained once more at r = {found.rank} on the same rows at the same rate, and the share of "
        f"the gain that it loses on held-out text: {percent(found.lost, 1)} ± {percent(found.lost_se, 1)}. "
        f"{reasons.by_law(found)} The probe cut to r = {found.cut}, and not trained on, loses at most "
        f"{percent(found.cut_allowed)}. The geometric mean of the two, no less than 1 each, is {found.between:.1f}, "
        f"rounded up to the ladder r = {round_up(found.between)}."
    )
    band = "The band is what 95 % of the errors and the powers of r that were measured leave open."
    caption = "The point is measured, the line is the law, the ring the rank to train at."
    text = " ".join((text, *reasons.about_prompts(found), band))
    blocks: list[Block] = [Paragraph(text), Picture(charts.low_rank("low", found, answer.r), caption)]
    longer = reasons.about_outlook(answer.outlook)
    if longer:
        blocks.append(Sentences(tuple(longer), "After a longer run"))
    return Chapter("low-rank", "What a low rank loses", tuple(blocks))


def _truncation(answer: Recommendation, run: Run) -> Chapter | None:
    """The curve with its bands, and its numbers."""
    if answer.keep is None or answer.keep.basis != "truncation curve":
        return None
    gain, curve, keep = run.manifest.heldout.gains[0].mean, run.truncation, answer.keep.r
    text = (
        "The trained probe with every module cut to its best approximation of rank k, and the share of its gain that "
        f"is lost on {curve.documents:,} of the held-out documents; the bands are one and two standard errors. The "
        f"smallest k that loses at most {percent(answer.allowed)} is the keep rank, {keep}: what this adapter can be "
        "cut to. It is not the rank to train at: training at r bends a few directions to the task, and a cut does not."
    )
    captions = [(False, "The whole curve")]
    if max(share for _, share, _ in gain_lost(curve, gain)) > charts.NEAR * answer.allowed:
        captions.append((True, "The same near the limit"))
    pictures = tuple(
        Picture(charts.truncation(f"curve-{near:d}", curve, gain, keep, answer.allowed, near=near), caption)
        for near, caption in captions
    )
    rows = tuple(
        (
            str(point.k),
            f"{point.loss.mean:.4f}",
            f"{point.excess.mean:+.4f} ± {point.excess.se:.4f}" if math.isfinite(point.excess.se) else "",
            percent(point.excess.mean / gain, 2),
            percent(1 - point.excess.mean / gain, 1),
        )
        for point in curve.points
    )
    headings = ("k", "loss", "beyond the whole", "of the gain lost", "kept")
    grid = Grid(f"Cuts of the probe, metric {curve.metric}", headings, (True,) * 5, rows)
    marked = next((index for index, point in enumerate(curve.points) if point.k == keep), None)
    numbers = Fold("The numbers", (Table(grid, marked=marked, mark="keep rank"),))
    return Chapter("truncation", "What a cut loses", (Paragraph(text), *pictures, numbers))


def _replication(answer: Recommendation, run: Run, updates: Sequence[Update]) -> Chapter:
    pair = answer.replication
    if pair is None:
        count = run.manifest.training.replicates
        why = "There is one probe and no replicate" if count == 1 else "The replicates could not be compared"
        text = f"{why}: that its energy is signal rests on the gain alone. lorarank probe --replicates 2 adds another."
        return Chapter("replication", "Replication", (Paragraph(text),))
    facts = [
        ("replicates", str(pair.adapters)),
        ("agreement", f"{pair.agreement:.3f}, energy-weighted: 1 is the same update, 0 nothing in common"),
        (
            "replicated",
            f"{pair.replicated_median:g} directions in the median module, {pair.replicated_mean:.1f} on average",
        ),
    ]
    gains = run.manifest.heldout.gains
    facts += [
        (f"gain {i}", f"{one.mean:.3f}{within(one.se, 3)} nats per token") for i, one in enumerate(gains, start=1)
    ]
    text = "It measures signal against noise at the probe's size, not the rank a task needs."
    grid = content.adapter_grid(answer)
    tables: list[Block] = [] if grid is None else [Table(grid)]
    tables += [shared.agreement_map(update, "Agreement by layer and module type") for update in updates]
    return Chapter("replication", "Replication", (Paragraph(text), Facts(tuple(facts)), *tables))


def _reasons(answer: Recommendation) -> Chapter:
    found = [Sentences(lines, title) for title, lines in content.sections(answer)]
    if answer.refusals:
        first = tuple(printable(line, 2000) for line in answer.refusals)
        found = [
            Sentences(first, "Why there is no recommendation"),
            *(s for s in found if not s.title.startswith("Further")),
        ]
    return Chapter("reasons", "Every reason", tuple(found))


def _modules(answer: Recommendation) -> Chapter | None:
    if not answer.modules:
        return None
    grid = content.module_grid(answer)
    text = "Energy is the module's share of Σσ²; rank is its energy rank; the other columns are its other measures."
    return Chapter("modules", "Modules", (Paragraph(text), Table(grid, search="module")))


def _exports(answer: Recommendation, command: Sequence[str]) -> Chapter:
    items = [Code("Table", "text", laid_out(Page(WIDTH), recommended.lay, answer).rstrip("\n"))]
    if answer.config is not None:
        items.append(
            Code("PEFT config", "python", f"from peft import LoraConfig\n\n{recommended.lora_config(answer.config)}")
        )
    items.append(Code("JSON", "json", recommended.to_json(answer, command=command).rstrip("\n")))
    text = "The report as text, what to paste into PEFT, and everything but the modules for programs."
    if answer.config is None:
        text = (
            "The report as text, and everything but the modules for programs. Without a rank there is no configuration."
        )
    return Chapter("exports", "To use it elsewhere", (Paragraph(text), Tabs("Formats", tuple(items))))
