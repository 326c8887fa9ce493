"""The straight way from a run or adapters to a recommendation (floor 2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import lorarank.heuristics as heuristics
from lorarank import adapters, runs
from lorarank.adapters import Adapter
from lorarank.errors import AdapterError, NumericsError, OptionError, RunError
from lorarank.estimate import advice, constants, evidence, readings, reasons, summary
from lorarank.estimate.doubts import confidence, doubts, prompts_used
from lorarank.estimate.options import EstimateOptions
from lorarank.estimate.recommendation import AdapterSummary, EnergyRule, Evidence, LowRank, Recommendation
from lorarank.estimate.refusals import failed_companion, refusals
from lorarank.estimate.rule import module_ranks
from lorarank.runs import Run
from lorarank.sources import CHECKPOINT, Source, as_list, folder_at
from lorarank.spectrum import Spectrum, measure
from lorarank.sweep.folder import refuse_sweeps


def recommend(sources: Source | Sequence[Source], options: EstimateOptions | None = None) -> Recommendation:
    """Recommend a rank from a probe run, or describe bare adapters.

    Parameters
    ----------
    sources : a run folder; or one or more adapters, each a folder, a file or a hub id ``owner/name[@revision]``.
    options : what to ask; defaults where left out.

    Returns
    -------
    Recommendation : from a run an answer with its evidence, or a refusal; from bare adapters a description, since they
        say what was used and not what a task needs.

    Raises
    ------
    SourceError, AdapterError, RunError
        A source that is missing, damaged or unfinished.
    NumericsError
        NaN or infinity in a bare adapter. (In a run they are a refusal.)
    OptionError
        Options that do not go with the sources.
    """
    options = options or EstimateOptions()
    given = as_list(sources)
    if not given:
        raise OptionError("SOURCE", "nothing was given", do="give a run folder or an adapter")
    folders = [folder for source in given if (folder := runs.folder_of(source)) is not None]
    if not folders:
        refuse_sweeps(given)
        return _from_adapters(given, options)
    if len(given) > 1:
        raise OptionError(folders[0], "it is a run, and a run is estimated alone", do="give it without other sources")
    return _from_run(runs.read(folders[0]), options)


def _from_run(run: Run, options: EstimateOptions) -> Recommendation:
    opened = [adapters.open(path) for path in run.adapters]
    if not summary.same_shapes(opened):
        raise RunError(run.folder, "its replicates do not adapt the same modules", do="run the probe again")
    try:
        weight = [measure(adapter) for adapter in opened]
        spectra = weight if options.metric == "weight" else _in_metric(run, opened, options.metric)
    except NumericsError as error:
        return _refused_unread(run, options, error)
    return _answer(run, opened, weight, spectra, options)


def _in_metric(run: Run, opened: Sequence[Adapter], metric: str) -> list[tuple[Spectrum, ...]]:
    return [measure(a, metric=metric, moments=run.moments, replicate=index) for index, a in enumerate(opened)]


def _answer(
    run: Run,
    opened: Sequence[Adapter],
    weight: Sequence[tuple[Spectrum, ...]],
    spectra: Sequence[tuple[Spectrum, ...]],
    options: EstimateOptions,
) -> Recommendation:
    """The first adapter answers; its replicates vouch for it."""
    manifest, modules = run.manifest, spectra[0]
    rule = readings.energy_rule(_values(modules), options.energy)
    ranks = module_ranks(_values(modules), rule.share)
    facts = evidence.gather(run, weight[0], rule.share, options.tokens)
    figures = summary.compare_replicates(opened) if len(opened) > 1 else {}
    replication = summary.replication_of(opened, figures, weight[0]) if figures else None
    low_rank = _low_rank(run, options)
    outlook = None if low_rank is None else readings.outlook(run.companion)
    r = rule.r if low_rank is None else readings.with_recall(low_rank, facts.recall)
    failed = [] if low_rank is None else failed_companion(run)
    refused = refusals(manifest, facts, rule, replication, low_rank, failed)
    # shares of a gain that cannot be trusted would be numbers without meaning
    gain = 0.0 if refused else manifest.heldout.gains[0].mean
    keep = readings.keep_rank(run.truncation, gain, options.keep_loss)
    measured = Recommendation(
        sources=(str(run.folder),),
        kind="run",
        metric=options.metric,
        heuristics=heuristics.compare(None if refused else r, options.task),
        reasons=(
            *reasons.about_evidence(facts, replication, alone=low_rank is None),
            *reasons.about_keep(keep, options.keep_loss),
        ),
        refusals=refused,
        keep=keep,
        allowed=options.keep_loss,
        low_rank=low_rank,
        outlook=outlook,
        rule=rule,
        evidence=facts,
        replication=replication,
        adapters=_described(opened, spectra, rule),
        types=summary.summarise_types(modules, ranks, run.truncation, gain, options.keep_loss),
        layers=summary.summarise_layers(modules, ranks),
        modules=summary.summarise_modules(modules, ranks, figures),
    )
    if refused:
        undivided = reasons.about_budget_refused(options.budget)
        return dataclasses.replace(measured, fallback=constants.FALLBACK, reasons=(*measured.reasons, *undivided))
    answered = _with_rank(measured, r, rule, facts, run, spectra, options)
    return _with_advice(answered, r, run, opened[0], modules, options)


def _low_rank(run: Run, options: EstimateOptions) -> LowRank | None:
    """What the companion and a cut say, unless the plain rule was asked for."""
    if options.energy is not None:
        return None
    return readings.low_rank(
        run.companion,
        run.truncation,
        run.manifest.heldout.gains[0].mean,
        prompts_used=prompts_used(run.other_prompts),
        allowed=options.keep_loss,
    )


def _with_rank(
    measured: Recommendation,
    r: int,
    rule: EnergyRule,
    facts: Evidence,
    run: Run,
    spectra: Sequence[tuple[Spectrum, ...]],
    options: EstimateOptions,
) -> Recommendation:
    """What was measured, with the rank, its interval, how far to believe it, and the sentences about them."""
    low_rank = measured.low_rank
    if low_rank is not None:
        interval = readings.low_rank_interval(low_rank, facts.capacity, r)
    else:
        # spectra part of the way are known in the weight metric alone
        earlier = evidence.spectra_at(run.trajectory, constants.GROWTH_POINT) if options.metric == "weight" else ()
        first, *others = map(_values, spectra)
        interval = readings.interval(rule, first, others, earlier, facts.growth, facts.capacity)
    doubted = doubts(
        run.manifest, facts, r, interval, measured.keep, measured.replication, measured.heuristics, low_rank
    )
    return dataclasses.replace(
        measured,
        r=r,
        interval=interval,
        doubts=doubted,
        confidence=confidence(facts, doubted),
        reasons=(
            *reasons.about_low_rank(low_rank, r),
            *reasons.about_recall(facts.recall, low_rank, r),
            *reasons.about_length(options.tokens, facts.recall, r, low_rank),
            *reasons.about_keep_loss(options.keep_loss, low_rank, r),
            *reasons.about_outlook(measured.outlook),
            *reasons.about_rule(rule, len(spectra[0]), options.metric, alone=low_rank is None),
            *reasons.about_interval(interval, low_rank),
            *measured.reasons,
        ),
    )


def _with_advice(
    answered: Recommendation,
    r: int,
    run: Run,
    adapter: Adapter,
    modules: tuple[Spectrum, ...],
    options: EstimateOptions,
) -> Recommendation:
    """Alpha, cost, budget and configuration for a rank, and the sentences about them."""
    training = run.manifest.training
    alpha = readings.alpha_for(r, training.alpha, training.learning_rate)
    allocation = None
    if options.budget is not None:
        # by what the loss feels: ranks by plain energy cut worse than one rank for all (data/evidence/keep-loss.json)
        felt = measure(adapter, metric="loss", moments=run.moments)
        allocation = advice.allocation_for(felt, options.budget)
    return dataclasses.replace(
        answered,
        alpha=alpha,
        cost=advice.cost_at(r, modules, run.manifest.base.parameters),
        allocation=allocation,
        config=advice.config_for(
            r,
            alpha,
            training.target_modules,
            allocation=allocation,
            fan_in_fan_out=bool(adapter.config.get("fan_in_fan_out", False)),
        ),
        reasons=(
            *answered.reasons,
            *reasons.about_alpha(alpha, training.alpha, training.learning_rate),
            *reasons.about_types(answered.types, options.keep_loss),
            *reasons.about_allocation(allocation),
        ),
    )


def _refused_unread(run: Run, options: EstimateOptions, error: NumericsError) -> Recommendation:
    """The refusal of a run whose adapter holds NaN or infinity: there is no spectrum to say anything else with."""
    facts = evidence.gather(run, (), constants.ENERGY)
    return Recommendation(
        sources=(str(run.folder),),
        kind="run",
        metric=options.metric,
        heuristics=heuristics.compare(None, options.task),
        reasons=tuple(reasons.about_budget_refused(options.budget)),
        refusals=(
            f"The adapter cannot be read as numbers: {error}",
            *refusals(run.manifest, facts, None, None),
        ),
        allowed=options.keep_loss,
        fallback=constants.FALLBACK,
    )


def _from_adapters(sources: Sequence[Source], options: EstimateOptions) -> Recommendation:
    """A description of bare adapters; several of the same modules are also compared with each other."""
    if options.budget is not None:
        raise OptionError("--budget", "ranks to train at need a run", do="probe first, then estimate the run folder")
    if options.tokens is not None:
        what = "an adapter says nothing of a training's length"
        raise OptionError("--tokens", what, do="probe first, then estimate the run folder")
    if options.keep_loss != EstimateOptions.keep_loss:
        what = "an adapter alone does not say what a cut of it loses"
        raise OptionError("--keep-loss", what, do="probe first, then estimate the run folder")
    opened = [adapters.open(source) for source in sources]
    spectra = [measure(adapter, metric=options.metric) for adapter in opened]
    for adapter, measured in zip(opened, spectra, strict=True):
        if not any(module.singular_values.any() for module in measured):
            raise AdapterError(
                adapter.source,
                "its update is zero everywhere (lora_B is all zero)",
                why="nothing was trained",
                do="give another adapter",
            )
    rule = readings.energy_rule(_values(spectra[0]), options.energy)
    ranks = module_ranks(_values(spectra[0]), rule.share)
    figures = summary.compare_replicates(opened) if len(opened) > 1 and summary.same_shapes(opened) else {}
    replication = summary.replication_of(opened, figures, spectra[0]) if figures else None
    keep = readings.pooled_keep_rank(rule, options.metric)
    return Recommendation(
        sources=tuple(str(source) for source in sources),
        kind="adapters",
        metric=options.metric,
        heuristics=heuristics.compare(None, options.task),
        reasons=(
            *reasons.about_bare(len(opened)),
            *reasons.about_keep(keep, options.keep_loss),
            *reasons.about_comparison(len(opened), replication, one_training=_of_one_training(opened)),
        ),
        keep=keep,
        rule=rule,
        replication=replication,
        adapters=_described(opened, spectra, rule),
        types=summary.summarise_types(spectra[0], ranks),
        layers=summary.summarise_layers(spectra[0], ranks),
        modules=summary.summarise_modules(spectra[0], ranks, figures),
    )


def _of_one_training(opened: Sequence[Adapter]) -> bool:
    """Whether they are checkpoints that one trainer left beside each other, ``checkpoint-200`` and so on."""
    folders = [folder_at(adapter.source) for adapter in opened]
    return len({folder.parent for folder in folders}) == 1 and all(CHECKPOINT.fullmatch(path.name) for path in folders)


def _described(
    opened: Sequence[Adapter], spectra: Sequence[tuple[Spectrum, ...]], rule: EnergyRule
) -> tuple[AdapterSummary, ...]:
    pairs = zip(opened, spectra, strict=True)
    return tuple(summary.summarise_adapter(adapter, measured, rule.share) for adapter, measured in pairs)


def _values(modules: Sequence[Spectrum]) -> list[NDArray[np.float64]]:
    return [module.singular_values for module in modules]
