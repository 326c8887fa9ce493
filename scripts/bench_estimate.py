"""How long `lorarank estimate` takes on a run folder, start included, beside a Python that only imports numpy.

Whole processes, in alternating order, one thread; the result is the median of each and of their ratios.

    python scripts/bench_estimate.py RUN --output data/evidence/bench-estimate.json
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from lorarank import adapters, runs
from lorarank.json_files import write_json

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", type=Path)
parser.add_argument("--rounds", type=int, default=15)
parser.add_argument("--output", type=Path, required=True)
given = parser.parse_args()

run = runs.read(given.run)
adapter = adapters.open(run.adapters[0])
environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def seconds(*arguments: str) -> float:
    """Wall time of one Python process that ends well."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


estimate, numpy = ("-m", "lorarank", "estimate", str(given.run)), ("-c", "import numpy")
seconds(*estimate)  # byte code and file cache
rounds = [(seconds(*estimate), seconds(*numpy)) for _ in range(given.rounds)]
result = {
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "machine": f"{platform.machine()}, {os.cpu_count()} threads, one used",
    "modules": len(adapter.modules),
    "rank": run.manifest.training.rank,
    "replicates": run.manifest.training.replicates,
    "adapter_bytes": sum(file.stat().st_size for file in run.adapters[0].glob("*.safetensors")),
    "target": "under 0.6 seconds",
    "median_seconds": round(statistics.median(one for one, _ in rounds), 3),
    "slowest_seconds": round(max(one for one, _ in rounds), 3),
    "median_seconds_of_importing_numpy": round(statistics.median(other for _, other in rounds), 3),
    "median_ratio": round(statistics.median(one / other for one, other in rounds), 2),
    "versions": {"python": platform.python_version(), "numpy": np.__version__},
}
write_json(given.output, result)
print(result)
