"""What a report on a recommendation says, in which order, as plain strings (floor 4).

Every name that comes from a file is made printable here, so that the renderers can trust what they lay out.
"""

from __future__ import annotations

import math

from lorarank.errors import printable
from lorarank.estimate.constants import LOSS_SHARE
from lorarank.estimate.recommendation import Evidence, KeepRank, LowRank, Recommendation, TypeSummary
from lorarank.heuristics import SOURCE
from lorarank.report.plain import Grid
from lorarank.wording import between, directions, percent, within


def headline(answer: Recommendation) -> str:
    """The answer in one sentence.

    >>> from lorarank.heuristics import compare
    >>> headline(Recommendation(("run",), "run", "weight", compare(None, None), (), refusals=("It is noise.",)))
    'No recommendation: It is noise.'
    """
    if answer.refused:
        return f"No recommendation: {printable(answer.refusals[0], 1000)}"
    if answer.r is not None and answer.interval is not None:
        low, high = answer.interval.low, answer.interval.high
        around = f"{low}–{high}" if low != high else "every reading agrees"
        return f"Train at r = {answer.r} ({around}), confidence {answer.confidence}{_over_budget(answer)}."
    ranks = ", ".join(str(adapter.pooled) for adapter in answer.adapters)
    kept = f"keep rank {ranks}" if len(answer.adapters) == 1 else f"keep ranks {ranks}"
    return f"No train rank, since bare adapters do not say what a task needs; {kept}."


def _over_budget(answer: Recommendation) -> str:
    """What to say first where the answer costs more than the budget."""
    bought = answer.allocation
    if bought is None or answer.r is None or bought.uniform_r >= answer.r:
        return ""
    uniform = f"r = {bought.uniform_r} at most" if bought.uniform_r else "less than r = 1"
    return f"; {bought.budget:,} parameters pay for {uniform} in every module"


def facts(answer: Recommendation) -> list[tuple[str, str]]:
    """The figures that go with the answer, as label and text."""
    found = []
    if answer.fallback is not None:
        found.append(("fallback", f"r = {answer.fallback}, from {SOURCE} and not from this probe"))
    found.extend(may_lose(answer.allowed))
    if answer.alpha is not None:
        alpha = answer.alpha
        found.append(
            ("alpha", f"{alpha.lora_alpha} ({alpha.convention}), learning rate to start from {alpha.learning_rate:.2g}")
        )
    if answer.cost is not None:
        cost = answer.cost
        found.append(
            ("trainable", f"{cost.parameters:,} parameters, {percent(cost.share, 2)} of {cost.base_parameters:,}")
        )
    if answer.allocation is not None:
        bought = answer.allocation
        found.append(("in budget", f"{bought.parameters:,} of {bought.budget:,} parameters, a rank for each module"))
    if answer.keep is not None:
        found.append(("keep rank", _keep(answer.keep)))
    if answer.low_rank is not None:
        found.extend(_low_rank(answer.low_rank))
    if answer.rule is not None:
        rule = answer.rule
        found.append(
            (
                "energy",
                f"{percent(rule.share)} of it takes {directions(rule.median)} in the median module, {rule.pooled} in "
                "all pooled" + (f"; r = {rule.r} keeps {percent(rule.kept, 1)}" if answer.r is not None else ""),
            )
        )
    if answer.evidence is not None:
        found.extend(_evidence(answer.evidence))
    if answer.replication is not None:
        pair = answer.replication
        found.append(
            (
                "replicates" if answer.kind == "run" else "together",
                f"{pair.adapters}: agreement {pair.agreement:.2f}, replicated rank {pair.replicated_median:.3g} in the "
                "median module",
            )
        )
    found.append(("reference", answer.heuristics.sentence))
    return found


def may_lose(allowed: float) -> list[tuple[str, str]]:
    """The share of the gain that may be lost, where another one was asked for.

    >>> may_lose(0.02), may_lose(LOSS_SHARE)
    ([('may lose', '2% of the gain, as was asked with --keep-loss')], [])
    """
    if allowed == LOSS_SHARE:
        return []
    return [("may lose", f"{percent(allowed)} of the gain, as was asked with --keep-loss")]


def _keep(keep: KeepRank) -> str:
    band = f" ({keep.low}–{keep.high})" if keep.low is not None and keep.low != keep.high else ""
    if keep.basis == "truncation curve" and keep.excess is None:
        return f"{keep.r}{band}, the whole probe: no smaller cut that was measured is good enough"
    if keep.basis == "truncation curve":
        return f"{keep.r}{band}, to cut this adapter to, not to train at"
    return f"{keep.r}, by pooled energy; what the cut costs was not measured"


def _low_rank(low: LowRank) -> list[tuple[str, str]]:
    error = f" ± {percent(low.lost_se, 1)}" if math.isfinite(low.lost_se) else ""
    share = f"{percent(low.lost, 1)}{error} of the gain lost"
    asked = f"; {percent(low.allowed)} is lost at about r = {low.needed:.1f}" if low.needed >= low.rank else ""
    return [
        (f"at r = {low.rank}", share + asked),
        (f"cut to {low.cut}", f"at most {percent(low.cut_allowed)} of the gain lost"),
    ]


def _evidence(evidence: Evidence) -> list[tuple[str, str]]:
    return [
        (
            "gain",
            f"{evidence.gain:.3f}{within(evidence.gain_se, 3)} nats per token on {evidence.heldout_documents:,} "
            f"held-out document{'s' if evidence.heldout_documents != 1 else ''}, {evidence.base_loss:.3f} before",
        ),
        (
            "probe",
            f"R = {evidence.rank}, {evidence.steps:,} steps, {evidence.trained_tokens:,} tokens "
            f"({evidence.epochs:.2g} epochs), learning rate {evidence.learning_rate:.3g}",
        ),
    ]


def sections(answer: Recommendation) -> list[tuple[str, tuple[str, ...]]]:
    """Headed lists of sentences, without the empty ones."""
    found = [
        ("Further reasons to refuse", answer.refusals[1:]),
        ("What lowers the confidence", answer.doubts),
        ("What was measured" if answer.refused else "How this came about", answer.reasons),
        ("Notes", tuple(dict.fromkeys(note for adapter in answer.adapters for note in adapter.notes))),
    ]
    return [(title, tuple(printable(line, 2000) for line in lines)) for title, lines in found if lines]


def adapter_grid(answer: Recommendation) -> Grid | None:
    """One line per adapter, where there are several or a bare one."""
    if answer.kind == "run" and len(answer.adapters) < 2:
        return None
    rows = tuple(
        (
            printable(adapter.source),
            between(adapter.r[0], adapter.r[-1]),
            f"{adapter.modules:,}",
            f"{adapter.parameters:,}",
            f"{adapter.median:g}",
            f"{adapter.pooled:,}",
        )
        for adapter in answer.adapters
    )
    return _grid("Adapters", ("adapter", "r", "modules", "parameters", "energy rank", "pooled"), rows)


def type_grid(answer: Recommendation) -> Grid | None:
    """Module types, the dearest to leave out first."""
    if not answer.types:
        return None
    measured = any(kind.excess is not None for kind in answer.types)
    headings = ["type", "modules", "energy", "rank"]
    if answer.r is not None:
        headings.append("parameters")
    if measured:
        headings += ["gain lost without", "could go"]
    rows = []
    for kind in answer.types:
        row = [printable(kind.type), f"{kind.modules:,}", percent(kind.energy, 1), f"{kind.rank:g}"]
        if answer.r is not None:
            row.append(f"{answer.r * kind.parameters_per_rank:,}")
        if measured:
            row.append(_loss(kind))
            row.append({True: "yes", False: "no", None: ""}[kind.spare])
        rows.append(tuple(row))
    title = "Module types" + _of_first(answer)
    return _grid(
        title if answer.r is None else f"{title} at r = {answer.r}",
        tuple(headings),
        tuple(rows),
        words=("type", "could go"),
    )


def layer_grid(answer: Recommendation) -> Grid | None:
    """Layers in order."""
    if len(answer.layers) < 2:
        return None
    rows = tuple(
        ("–" if row.layer is None else str(row.layer), percent(row.energy, 1), f"{row.rank:g}") for row in answer.layers
    )
    return _grid("Layers" + _of_first(answer), ("layer", "energy", "rank"), rows, words=())


def module_grid(answer: Recommendation) -> Grid:
    """Every module."""
    replicated = any(module.agreement is not None for module in answer.modules)
    allocated = answer.allocation.ranks if answer.allocation is not None else {}
    headings = ["module", "shape", "energy", "rank", "entropy rank", "stable rank", "participation"]
    headings += ["replicated rank", "agreement"] if replicated else []
    headings += ["r in budget"] if allocated else []
    rows = []
    for module in answer.modules:
        row = [
            printable(module.name),
            f"{module.out_features}×{module.in_features}",
            percent(module.energy, 2),
            str(module.rank),
            f"{module.energy_entropy_rank:.1f}",
            f"{module.stable_rank:.1f}",
            f"{module.participation_ratio:.1f}",
        ]
        if replicated:
            known = module.replicated is not None and module.agreement is not None
            row += [f"{module.replicated:.3g}", f"{module.agreement:.2f}"] if known else ["", ""]
        if allocated:
            row.append(str(allocated.get(module.name, 0)))
        rows.append(tuple(row))
    return _grid("Modules" + _of_first(answer), tuple(headings), tuple(rows))


def _of_first(answer: Recommendation) -> str:
    """Which adapter a table is about, where there are several."""
    return " of the first adapter" if len(answer.adapters) > 1 else ""


def _loss(kind: TypeSummary) -> str:
    if kind.excess is None:
        return ""
    band = f" ± {100 * kind.excess_se:.1f}" if kind.excess_se is not None and math.isfinite(kind.excess_se) else ""
    return f"{100 * kind.excess:.1f}{band}%"


def _grid(
    title: str,
    headings: tuple[str, ...],
    rows: tuple[tuple[str, ...], ...],
    words: tuple[str, ...] | None = None,
) -> Grid:
    """A grid whose columns hold numbers, except the first, or except those in ``words``."""
    words = headings[:1] if words is None else words
    return Grid(title, headings, tuple(heading not in words for heading in headings), rows)
