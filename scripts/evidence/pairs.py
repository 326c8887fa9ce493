"""Pairs of a model and a task: the sweep that is the truth, and the probe that has to predict it.

Every pair leaves data/evidence/pairs/NAME/: the sweep (sweep.json, and its points in points.jsonl, so that a stopped
script goes on where it was on any machine) and record.json, which holds all that the predictors need of the probe.
Adapters and sweeps under way stay in --work. Run it again to go on; --only takes some of the pairs, and --kept FOLDER
does them anew there, for another machine. rejudge.py judges the points that are kept again.

Where there is a GPU it does several pairs at once: models this small leave it idle while a processor core hands out
the next step.

    python scripts/evidence/pairs.py --work WORK --model demo=data/demo/model --model smollm2=FOLDER --data FOLDER
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import tasks
import torch
from kept_points import stored, unpacked

from lorarank import adapters, runs
from lorarank.choices import METRICS
from lorarank.corpus import total_tokens
from lorarank.errors import LorarankError
from lorarank.json_files import write_json
from lorarank.probe import ProbeOptions, probe
from lorarank.probe.material import gather
from lorarank.probe.options import CUTS_SHARE, PARTS_SHARE
from lorarank.probe.point import HELDOUT_FACTOR
from lorarank.probe.progress import Progress, Report
from lorarank.probe.rate import CHECK_STEPS
from lorarank.probe.training import read_log
from lorarank.spectrum import measure
from lorarank.sweep import SWEEP, Sweep, SweepOptions, read, sweep
from lorarank.sweep.outcome import Outcome, Trained, close_rates
from lorarank.sweep.points import StoredPoint
from lorarank.sweep.search import around

HERE = Path(__file__).resolve().parents[2]
KEPT = HERE / "data" / "evidence" / "pairs"

A_PAIR = 8 * 2**30
"""Bytes of a GPU's memory that a pair is given; the logits of Gemma's 262,144 words take the most of
them, half a gigabyte a copy of 512 tokens. Reckoned, not measured."""

CURVE = 20
"""Points kept of the curve of the training loss."""

MEASURED = 0.33
"""Price of a token that is only measured, beside one that is trained on: by the clock, in the median of the pairs of
pretrained models (``price`` in their records; with the demo model it is a quarter). By operations it is at most a half.
"""


@dataclass(frozen=True)
class Pair:
    """One pair; ``task`` is a row of the heuristics table, ``data`` a folder below --data or a task of the demo's."""

    name: str
    model: str
    data: str
    task: str
    tokens: int
    ranks: tuple[int, ...]
    probe_rank: int
    seeds: int = 3  # around the answer
    probe_tokens: int | None = None  # as many as a point of the sweep, unless said otherwise

    @property
    def probed_tokens(self) -> int:
        """Training tokens of the probe."""
        return self.probe_tokens or self.tokens


DEMO_RANKS = (1, 2, 4, 8, 16, 32)
PLANTED_RANKS = (*DEMO_RANKS, 64)
"""Higher than any planted rank, and as high as the demo model's smallest matrix has room for: at 32 most of these
sweeps still lost least at their highest rank."""
REAL_RANKS = (1, 2, 4, 8, 16, 64)
"""Of SmolLM2's sweeps. Gemma's have 32 besides, as a sweep has by default."""
REAL = (64, 3, 30_720)
"""The probe's rank, seeds around the answer, and tokens of the probe: the 60 steps that its search for a learning rate
needs; with companion, search and measuring it takes an eighth of the sweep at most."""
REAL_TOKENS = 32_768
"""Of a point."""
SHORTER = {"facts-32": 49_152, "spelling": 57_344}
"""Tokens of the probe where a sweep ends after so few points that one as long as a point would take more than an
eighth."""
LONG_ALONE = ("facts-2048", "recall-8", "recall-32", "recall-128", "recall-256")
"""Tasks that no short pair is made of."""

KINDS = {
    **dict.fromkeys(("style", "notes", "calls", "letters"), "style"),
    **dict.fromkeys(("guilds", "lexicon", "tongues", "chain", "ways"), "domain"),
}
PAIRS = (
    *(
        Pair(
            f"demo-{name}",
            "demo",
            name,
            KINDS.get(name, "domain" if "facts" in name else "reasoning"),
            65_536,
            DEMO_RANKS,
            32,
            probe_tokens=SHORTER.get(name),
        )
        for name in ("guilds", *(task for task in tasks.TASKS if task not in LONG_ALONE))
    ),
    *(  # where capacity binds: many facts, seen many times, and a probe an eighth as long
        Pair(f"long-facts-{many}", "demo", f"facts-{many}", "domain", 262_144, DEMO_RANKS, 32, 3, 32_768)
        for many in (32, 128, 512, 2048)
    ),
    *(  # the same where facts are really recalled: a fact is seen some 1,600, 400 or 100 times
        Pair(f"recall-{many}", "demo", f"recall-{many}", "domain", tokens, DEMO_RANKS, 32, 3, tokens // 8)
        for many, tokens in ((8, 262_144), (32, 262_144), (128, 262_144), (256, 524_288))
    ),
    *(
        Pair(f"planted-r{rank:02}-s{seed}", "demo", f"planted {rank} {seed}", "domain", 65_536, PLANTED_RANKS, 32)
        for seed in range(3)
        for rank in (1, 2, 4, 8, 16, 32)
    ),
    *(
        Pair(f"smollm2-{short}", "smollm2", data, task, REAL_TOKENS, REAL_RANKS, *REAL)
        for short, data, task in (
            ("gsm8k", "reasoning_gsm8k", "reasoning"),
            ("banking77", "classify_banking77", "classification"),
            ("e2e", "format_e2e_nlg", "style"),
            ("pubmedqa", "medical_pubmedqa", "domain"),
            ("shakespeare", "style_tinyshakespeare", "style"),
        )
    ),
    *(
        Pair(f"gemma3-{short}", "gemma3", data, task, REAL_TOKENS, (*REAL_RANKS[:-1], 32, 64), *REAL)
        for short, data, task in (
            ("gsm8k", "reasoning_gsm8k", "reasoning"),
            ("banking77", "classify_banking77", "classification"),
            ("e2e", "format_e2e_nlg", "style"),
            ("pubmedqa", "medical_pubmedqa", "domain"),
        )
    ),
)


def rows_of(pair: Pair, models: Mapping[str, str], data: Path | None, work: Path) -> tuple[Path, Path]:
    """Training and held-out files."""
    if pair.data.startswith("planted"):
        import teachers

        _, rank, seed = pair.data.split()
        return teachers.write(Path(models[pair.model]), work / "data" / pair.name, int(rank), int(seed))
    if pair.data == "guilds":
        return HERE / "data" / "demo" / "train.jsonl", HERE / "data" / "demo" / "val.jsonl"
    if pair.data in tasks.TASKS:
        return tasks.write(pair.data, work / "data" / pair.data)
    if data is None:
        raise SystemExit(f"{pair.name}: give the folder of {pair.data} with --data")
    return data / pair.data / "train.jsonl", data / pair.data / "val.jsonl"


def say(name: str) -> Report:
    """Reports a line for every fifth of a stage."""

    def report(progress: Progress) -> None:
        if progress.done == progress.total or progress.done % max(1, progress.total // 5) == 0:
            loss = "" if progress.loss is None else f" loss {progress.loss:.3f}"
            print(
                f"{time.strftime('%H:%M:%S')} {name}: {progress.stage} {progress.done}/{progress.total}{loss}",
                flush=True,
            )

    return report


def curve(run: runs.Run) -> list[list[float]]:
    """The training loss: [end as a share of the steps, mean over a twentieth of them] for each twentieth."""
    losses = [line["loss"] for line in read_log(run.folder / runs.LOG) if line["replicate"] == 0]
    parts = np.array_split(np.array(losses), min(CURVE, len(losses)))
    ends = np.cumsum([part.size for part in parts]) / len(losses)
    return [[round(float(end), 4), round(float(part.mean()), 4)] for end, part in zip(ends, parts, strict=True)]


def cost(pair: Pair, run: runs.Run, options: ProbeOptions) -> dict[str, float]:
    """Tokens that the probe trained on and that it measured, all passes counted, and that a point of the sweep does;
    and the seconds that a token cost in the probe's cuts, over those in its training."""
    training, seconds = run.manifest.training, run.manifest.wall_seconds
    trials = [trial for trial in training.learning_rate_trials if trial.steps]
    adapters_trained = training.replicates + (run.companion is not None)
    per_step = training.trained_tokens / training.steps
    probed = adapters_trained * training.trained_tokens + sum(trial.steps for trial in trials) * per_step
    material = gather(options)
    cuts, parts = (total_tokens(material.heldout_part(share)) for share in (CUTS_SHARE, PARTS_SHARE))
    dealt = run.other_prompts is not None
    measured = (
        (1 + adapters_trained) * run.manifest.data.heldout_tokens
        + len(run.truncation.points) * cuts
        + (len(run.truncation.without) + dealt) * parts
        + len(trials) * CHECK_STEPS * per_step
    )
    point = material.sized(pair.tokens, options)
    point = dataclasses.replace(point, heldout_tokens=HELDOUT_FACTOR * point.heldout_tokens)
    of_a_cut = statistics.median(took for stage, took in seconds.items() if stage.startswith("cut-")) / cuts
    price = of_a_cut * training.trained_tokens / seconds["training-0"]
    return {
        "trained": round(probed),
        "measured": round(measured),
        "point": total_tokens(point.heldout_pieces),
        "price": round(price, 3),
    }


def share_of_sweep(kept: Mapping[str, float], found: Sweep) -> float:
    """What the probe took, as :func:`cost` says, as a share of what the sweep did, which measured the base as well."""
    swept = found.trained_tokens + MEASURED * (found.points + 1) * kept["point"]
    return round((kept["trained"] + MEASURED * kept["measured"]) / swept, 4)


def record(pair: Pair, run: runs.Run, options: ProbeOptions) -> dict[str, object]:
    """All that a predictor may look at, and what it costs."""
    manifest = run.manifest
    spectra = {}
    for metric in METRICS:
        adapter = adapters.open(run.adapters[0])
        spectra[metric] = {
            one.module: [float(f"{value:.4g}") for value in one.singular_values]
            for one in measure(adapter, metric=metric, moments=run.moments)
        }
    companion, prompts = run.companion, run.other_prompts
    gpu = () if manifest.training.device.startswith("cpu") else (manifest.training.device,)
    return {
        "schema": 1,
        "name": pair.name,
        "model": pair.model,
        "task": pair.task,
        "tokens": pair.tokens,
        "machine": ", ".join((f"{platform.machine()}, {os.cpu_count()} cores", *gpu, manifest.base.dtype)),
        "probe": {
            "rank": manifest.training.rank,
            "alpha": manifest.training.alpha,
            "steps": manifest.training.steps,
            "learning_rate": manifest.training.learning_rate,
            "trials": [[t.learning_rate, t.steps, t.loss] for t in manifest.training.learning_rate_trials],
            "seconds": round(sum(manifest.wall_seconds.values()), 1),
            "epochs": manifest.training.epochs,
            "gain": [manifest.heldout.gains[0].mean, manifest.heldout.gains[0].se],
            "base_loss": manifest.heldout.base.mean,
            "unique_target_tokens": manifest.data.unique_target_tokens,
            "unique_tokens": manifest.data.unique_tokens,
            "distinct_target_tokens": manifest.data.distinct_target_tokens,
            "known_targets": manifest.data.known_targets,
        },
        "cost": cost(pair, run, options),
        "companion": None if companion is None else [companion.rank, companion.excess.mean, companion.excess.se],
        "other_prompts": None if prompts is None else [prompts.mean, prompts.se],
        "curve": curve(run),
        "shapes": {one.name: [one.out_features, one.in_features] for one in adapters.open(run.adapters[0]).modules},
        "truncation": [[p.k, p.excess.mean, p.excess.se] for p in run.truncation.points],
        "spectra": spectra,
        "trajectory": [
            {
                "fraction": p.fraction,
                "spectra": {n: [float(f"{v:.4g}") for v in s] for n, s in p.singular_values.items()},
            }
            for p in run.trajectory.points
        ]
        if len(spectra["weight"]) <= 40
        else [],
    }


def points_of(folder: Path, found: Sweep) -> tuple[StoredPoint, list[Trained]]:
    """The base model, and the points of a folder that its sweep would take: at its ranks, and at its learning rates."""
    if found.tuning is None:
        raise SystemExit(f"{folder.name}: its learning rates were given, and which is written nowhere")
    points = stored(folder)
    (base,) = (point for point in points if point.rank == 0)
    ranks = {one.rank for one in found.outcome.ranks}
    return base, [one.trained for one in points if one.rank in ranks and one.learning_rate in found.tuning.rates]


def seeded(base: StoredPoint, points: Sequence[Trained], answer: Outcome, seeds: int) -> bool:
    """Whether the ranks around the answer have so many seeds, at every learning rate that one does not tell apart."""
    close = close_rates(points, base.counts, answer.gain.mean)
    counted = Counter((point.rank, point.learning_rate) for point in points)
    wanted = around(answer, [one.rank for one in answer.ranks])
    return all(counted[rank, rate] >= seeds for rank in wanted for rate in close[rank])


def complete(folder: Path, pair: Pair) -> bool:
    """Whether a sweep has all the ranks and seeds that the pair asks for."""
    found = read(folder)
    answer = found.outcome
    ranks = {one.rank for one in answer.ranks}
    return ranks == set(pair.ranks) and seeded(*points_of(folder, found), answer, pair.seeds)


def sweep_options(pair: Pair, options: ProbeOptions, swept: Path, **more: Any) -> SweepOptions:
    """The options of a sweep over the data of the pair's probe, its points as long as the pair's."""
    return SweepOptions(options.model, options.data, swept, val=options.val, tokens=pair.tokens, **more)


def work_on(pair: Pair, options: ProbeOptions) -> None:
    """The sweep, then the probe, then the record."""
    kept = KEPT / pair.name
    before = record_of(pair)
    if before.is_file() and complete(kept, pair):
        print(f"{pair.name}: done before")
        return
    report = say(pair.name)
    swept = options.output.with_name(f"{pair.name}-sweep")
    with unpacked(kept, swept):
        found = sweep(
            sweep_options(pair, options, swept, ranks=pair.ranks, seeds=pair.seeds),
            report=report,
            command=("scripts/evidence/pairs.py", "--only", pair.name),
        )
    print(
        f"{pair.name}: r_sufficient {found.outcome.r_sufficient} ({found.outcome.low}-{found.outcome.high})", flush=True
    )
    found = dataclasses.replace(found, model=pair.model, data=pair.data)  # names, not the folders of this machine
    write_json(kept / SWEEP, found)
    if before.is_file():  # the probe is as it was, and the sweep has points more
        return
    if (options.output / runs.MANIFEST).is_file():
        run = runs.read(options.output)
    else:
        begun = (options.output / runs.PROGRESS).is_dir()
        run = probe(
            dataclasses.replace(options, resume=begun),
            report=report,
            command=("scripts/evidence/pairs.py", "--only", pair.name),
        )
    write_json(record_of(pair), record(pair, run, options))


@dataclass(frozen=True)
class Asked:
    """What the command line asks for: the pairs whose model is given, and where things lie."""

    work: Path
    models: Mapping[str, str]
    data: Path | None
    names: frozenset[str]

    def __iter__(self) -> Iterator[Pair]:
        return (pair for pair in PAIRS if pair.model in self.models and pair.name in self.names)

    def options(self, pair: Pair, **more: Any) -> ProbeOptions:
        """The options of the pair's probe."""
        train, val = rows_of(pair, self.models, self.data, self.work)
        plain = ProbeOptions(
            self.models[pair.model],
            str(train),
            self.work / pair.name,
            val=str(val),
            rank=pair.probe_rank,
            tokens=pair.probed_tokens,
        )
        return dataclasses.replace(plain, **more)

    def lacking(self, key: str, *, probed: bool = True) -> Iterator[Pair]:
        """The pairs whose record does not say what such a key took; ``probed``: and whose probe is in --work."""
        for pair in self:
            path = record_of(pair)
            if not path.is_file() or (probed and not (self.work / pair.name / runs.MANIFEST).is_file()):
                continue
            if key not in read_record(path).get("took", {}):
                yield pair


def record_of(pair: Pair) -> Path:
    """Where the record of a pair is."""
    return KEPT / pair.name / "record.json"


def read_record(path: Path) -> dict[str, Any]:
    """The record of a pair."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def add(pair: Pair, key: str, find: Callable[[], Any]) -> None:
    """Find a value for the record of a pair, and write it there with the seconds that it took."""
    begun = time.monotonic()
    value = find()
    record = read_record(record_of(pair))  # anew: another script may have added to it meanwhile
    took = {**record.get("took", {}), key: round(time.monotonic() - begun, 1)}
    write_json(record_of(pair), {**record, key: value, "took": took})
    print(pair.name, key, value, took[key], flush=True)


def done(pair: Pair, options: ProbeOptions) -> bool:
    """Do a pair, and say whether that went well."""
    try:
        work_on(pair, options)
    except LorarankError as error:
        print(f"{pair.name}: {error}", flush=True)
        return False
    return True


def arguments(description: str) -> argparse.ArgumentParser:
    """What every script about pairs is asked."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where adapters and generated data lie")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--data", type=Path, help="folder of the real datasets")
    parser.add_argument("--only", help="names of pairs, separated by commas")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where pairs are kept; a new folder: all of them anew")
    return parser


def asked(description: str) -> Asked:
    """Read the command line; the libraries' warnings are left out."""
    return understood(arguments(description).parse_args())


def understood(given: argparse.Namespace) -> Asked:
    """What the command line says of pairs."""
    warnings.simplefilter("ignore")
    keep_in(given.kept)
    names = given.only.split(",") if given.only else [pair.name for pair in PAIRS]
    return Asked(given.work, dict(one.split("=", 1) for one in given.model), given.data, frozenset(names))


def keep_in(folder: Path) -> None:
    """Take and keep pairs there, in this process."""
    global KEPT
    KEPT = folder


def at_once() -> int:
    """Pairs that the GPU takes at once, with a processor core each; without a GPU one, for which all cores work."""
    if not torch.cuda.is_available():
        return 1
    free, _ = torch.cuda.mem_get_info()
    return max(1, min(os.cpu_count() or 1, free // A_PAIR))


def prepare(jobs: int, kept: Path) -> None:
    """Of a process among so many."""
    warnings.simplefilter("ignore")
    keep_in(kept)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))


def do_all(wanted: Asked, jobs: int) -> list[bool]:
    """Do the pairs, so many at once, and say of each whether it went well."""
    if jobs == 1:
        return [done(pair, wanted.options(pair)) for pair in wanted]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), prepare, (jobs, KEPT)) as pool:
        # what a pair reads is written by this process alone: some have it in common
        running = [pool.submit(done, pair, wanted.options(pair)) for pair in wanted]
        return [one.result() for one in running]


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, help="pairs at once; by default one, or as many as a GPU here has room for")
    given = parser.parse_args()
    whole = do_all(understood(given), given.jobs or at_once())
    shutil.rmtree(given.work / "scratch", ignore_errors=True)
    raise SystemExit(0 if all(whole) else 1)
