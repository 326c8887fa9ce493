"""Two probes of half the tokens each, on disjoint halves of the data: the predictors that need replicates.

Adds ``replicated`` to every data/evidence/pairs/NAME/record.json: per module the replicated rank and the agreement.

    python scripts/evidence/replicates.py --work WORK --model demo=data/demo/model
"""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs

from lorarank import adapters, runs
from lorarank.errors import LorarankError
from lorarank.estimate.summary import compare_replicates
from lorarank.probe import ProbeOptions
from lorarank.probe.planning import prepared
from lorarank.probe.progress import Report
from lorarank.probe.stages import Stages, check_output, planned_tokens
from lorarank.probe.unfinished import UnfinishedProbe


def replicated(options: ProbeOptions, report: Report) -> dict[str, list[float]]:
    """Module → the replicated rank and the agreement."""
    figures = compare_replicates([adapters.open(folder) for folder in halves(options, report)])
    return {name: [one.replicated_rank, float(f"{one.agreement:.4g}")] for name, one in figures.items()}


def halves(options: ProbeOptions, report: Report) -> list[Path]:
    """Train both and measure neither: cuts and held-out losses take longer, and are not asked for."""
    found = [options.output / runs.adapter_name(replicate) for replicate in range(options.replicates)]
    if not (options.output / runs.MANIFEST).is_file():
        options = dataclasses.replace(options, resume=(options.output / runs.PROGRESS).is_dir())
        material, plan = prepared(options, planned_tokens(options) if check_output(options) else None)
        probe = UnfinishedProbe(options, material, plan, Stages.open(options, material, writes=True), report, ())
        for replicate in range(options.replicates):
            probe.ready(replicate)
    return found


if __name__ == "__main__":
    given = pairs.asked(__doc__)
    for pair in given.lacking("replicated", probed=False):
        output = given.work / f"{pair.name}-replicates"
        options = given.options(pair, replicates=2, companion=False, tokens=pair.probed_tokens // 2, output=output)
        try:
            pairs.add(pair, "replicated", partial(replicated, options, pairs.say(pair.name)))
        except LorarankError as error:
            print(f"{pair.name}: {error}", flush=True)
