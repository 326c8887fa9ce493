"""Two probes of half the tokens each, on disjoint halves of the data: the predictors that need replicates.

Adds ``replicated`` to every data/evidence/pairs/NAME/record.json: per module the replicated rank and the agreement.

    python scripts/evidence/replicates.py --work WORK --model demo=data/demo/model
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs

from lorarank import adapters, runs
from lorarank.errors import LorarankError
from lorarank.estimate.summary import compare_replicates
from lorarank.json_files import write_json
from lorarank.probe import probe

if __name__ == "__main__":
    given = pairs.asked(__doc__)
    for pair, path, record in given.lacking("replicated"):
        output = given.work / f"{pair.name}-replicates"
        options = given.options(pair, replicates=2, companion=False, tokens=pair.probed_tokens // 2, output=output)
        try:
            done = (output / runs.MANIFEST).is_file()
            run = runs.read(output) if done else probe(options, report=pairs.say(pair.name))
        except LorarankError as error:
            print(f"{pair.name}: {error}", flush=True)
            continue
        figures = compare_replicates([adapters.open(folder) for folder in run.adapters])
        record["replicated"] = {
            name: [one.replicated_rank, float(f"{one.agreement:.4g}")] for name, one in figures.items()
        }
        write_json(path, record)
        print(pair.name, record["replicated"], flush=True)
