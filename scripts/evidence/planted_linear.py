"""The replicated rank where the truth is known: planted low-rank regressions with noise, and pure noise.

y = ΔW·x + noise with ΔW of rank r* and equal singular values. Two replicates see disjoint samples and start from the
same lora_A; B and A are trained by Adam on the least-squares loss. What a replicate sees of each entry of ΔW has noise
of standard deviation τ = noise/√samples, so a planted direction of size s in an out×in matrix counts as detectable
above the edge: the s at which the observed singular value √((s² + out·τ²)(s² + in·τ²))/s (Benaych-Georges & Nadakuditi
2012) meets the optimal hard threshold of Gavish & Donoho (2014). Strengths are multiples of that edge.

    python scripts/evidence/planted_linear.py
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from lorarank.json_files import write_json
from lorarank.numerics.criteria import energy
from lorarank.numerics.linalg import Factors, singular_values
from lorarank.numerics.replication import likeness

EVIDENCE = Path(__file__).resolve().parents[2] / "data" / "evidence"
OUT, IN, SAMPLES, NOISE = 96, 128, 2000, 1.0
R, STEPS, RATE = 32, 400, 0.02
RANKS, STRENGTHS = (1, 2, 4, 8), (0.5, 0.8, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.5, 2.0, 3.0)


def edge(tau: float) -> float:
    """The planted size at which a direction is just worth keeping."""
    beta = OUT / IN
    threshold = math.sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + math.sqrt(beta**2 + 14 * beta + 1))) * math.sqrt(IN)
    observed = lambda s: math.sqrt((s**2 + OUT) * (s**2 + IN)) / s - threshold  # noqa: E731
    least = (OUT * IN) ** 0.25  # below this nothing of the direction is seen at all
    return tau * float(brentq(observed, least, 10 * threshold))


def trained(lora_A: NDArray[np.float64], truth: NDArray[np.float64], rng: np.random.Generator) -> Factors:
    """One replicate: fresh samples, the given start, Adam on B and A with a linear decay."""
    x = rng.standard_normal((IN, SAMPLES))
    y = truth @ x + NOISE * rng.standard_normal((OUT, SAMPLES))
    gram, cross = x @ x.T / SAMPLES, y @ x.T / SAMPLES
    weights = [lora_A.copy(), np.zeros((OUT, R))]
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    for step in range(1, STEPS + 1):
        A, B = weights
        residual = B @ A @ gram - cross
        for i, gradient in enumerate((B.T @ residual, residual @ A.T)):
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            scaled = first[i] / (1 - 0.9**step) / (np.sqrt(second[i] / (1 - 0.999**step)) + 1e-8)
            weights[i] = weights[i] - RATE * (1 - step / (STEPS + 1)) * scaled
    return Factors(weights[0], weights[1])


def draw(rank: int, strength: float, seed: int) -> tuple[float, float, int]:
    """Replicated rank, agreement, and the 90 % energy rank of one draw."""
    rng = np.random.default_rng([rank, round(100 * strength), seed])
    U, V = (np.linalg.qr(rng.standard_normal((n, max(rank, 1))))[0] for n in (OUT, IN))
    size = strength * edge(NOISE / math.sqrt(SAMPLES)) if rank else 0.0
    truth = size * U @ V.T
    lora_A = rng.standard_normal((R, IN)) / math.sqrt(IN)
    pair = [trained(lora_A, truth, rng) for _ in range(2)]
    found = likeness(pair)
    return found.replicated_rank, found.agreement, energy(singular_values(*pair[0]), 0.9)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--draws", type=int, default=100)
parser.add_argument("--output", type=Path, default=EVIDENCE / "planted-linear.json")

if __name__ == "__main__":
    given = parser.parse_args()
    kept: dict[str, Any] = {"cells": [], "seconds": 0.0}
    if given.output.is_file():
        kept = json.loads(given.output.read_text())
    begun, cells = time.monotonic() - kept["seconds"], kept["cells"]
    done = {(cell["rank"], cell["strength"]) for cell in cells if cell["draws"] >= given.draws}
    cells = [cell for cell in cells if (cell["rank"], cell["strength"]) in done]
    for rank, strength in [(0, 0.0), *((r, s) for r in RANKS for s in STRENGTHS)]:
        if (rank, strength) in done:
            continue
        draws = [draw(rank, strength, seed) for seed in range(given.draws)]
        exact = float(np.mean([found == rank for found, _, _ in draws]))
        cells.append(
            {
                "rank": rank,
                "strength": strength,
                "draws": len(draws),
                "replicated_rank_exact": exact,
                "replicated_rank_mean": float(np.mean([found for found, _, _ in draws])),
                "agreement_mean": round(float(np.mean([rho for _, rho, _ in draws])), 4),
                "energy_90_mean": float(np.mean([count for _, _, count in draws])),
            }
        )
        print(cells[-1], flush=True)
        write_json(
            given.output,
            {
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "command": "python scripts/evidence/planted_linear.py",
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
                "setting": {"out": OUT, "in": IN, "samples": SAMPLES, "R": R, "steps": STEPS},
                "edge": "the planted size at which the observed singular value meets Gavish & Donoho's threshold",
                "cells": sorted(cells, key=lambda cell: (cell["rank"], cell["strength"])),
                "seconds": round(time.monotonic() - begun, 1),
            },
        )
