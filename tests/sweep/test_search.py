"""Which points are trained, on a bench whose losses are a formula; what is kept, and what is trained again."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lorarank.errors import OptionError
from lorarank.sweep.options import SweepOptions
from lorarank.sweep.points import Points, Spot
from lorarank.sweep.search import MOST_TRIALS, search

COUNTS = (10, 20, 30)


class Formula:
    """Loss 2 + 1/(8r) + curvature·(decades from the best rate)²; the best rate moves with the rank as told."""

    def __init__(self, best_rate: float = 1e-3, drift: float = 0.0, version: str = "1", model: str = "a") -> None:
        self.best_rate, self.drift, self.version, self.model = best_rate, drift, version, model
        self.calls: list[Spot] = []
        self.dies_at: int | None = None

    def identity(self) -> dict[str, Any]:
        return {"version": self.version}

    def contents(self) -> dict[str, str]:
        return {"model.safetensors": self.model}

    def base(self) -> Any:
        return self._losses(3.0)

    def point(self, rank: int, learning_rate: float, seed: int, folder: Path, on_step: Any) -> Any:
        if self.dies_at == len(self.calls):
            folder.mkdir(parents=True)
            raise KeyboardInterrupt
        self.calls.append(Spot(rank, learning_rate, seed))
        on_step(SimpleNamespace(step=1, loss=2.5), 1)
        off = math.log10(learning_rate / self.best_rate) - self.drift * math.log2(rank)
        return self._losses(2 + 1 / (8 * rank) + 0.5 * off**2 + 1e-4 * seed)

    @staticmethod
    def _losses(mean: float) -> Any:
        return SimpleNamespace(
            sums=tuple(mean * n for n in COUNTS),
            counts=COUNTS,
            train_loss=mean,
            steps=9,
            trained_tokens=900,
            seconds=1.0,
        )


def options(tmp_path: Path, **given: Any) -> SweepOptions:
    return SweepOptions(model="base", data="train.jsonl", output=tmp_path, **given)


def points_of(bench: Formula, tmp_path: Path) -> Points:
    return Points(bench, tmp_path, lambda progress: None)


def test_one_rate_for_all_where_the_ends_agree(tmp_path):
    bench = Formula()
    found, tuning = search(points_of(bench, tmp_path), options(tmp_path), 10)
    assert tuning is not None
    assert (tuning.low_rate, tuning.high_rate, tuning.moves, tuning.at_edge) == (1e-3, 1e-3, 0, False)
    assert len(bench.calls) == 2 * 3 + 5 == len(set(bench.calls))  # three at either end, one at each rank between
    assert {one.learning_rate for one in found.ranks} == {1e-3}
    assert found.r_sufficient == 16  # 1/(8·16) is under a hundredth of the gain; 1/(8·8) is not
    assert found.best == 64


def test_every_rank_is_trained_at_both_where_they_differ(tmp_path):
    bench = Formula(best_rate=1e-3, drift=-0.5 / 6)  # half a decade down over six doublings
    found, tuning = search(points_of(bench, tmp_path), options(tmp_path), 10)
    assert tuning is not None
    assert (tuning.low_rate, tuning.high_rate, tuning.moves) == (1e-3, 3.16e-4, 1)
    assert {(call.rank, call.learning_rate) for call in bench.calls} >= {
        (rank, rate) for rank in (2, 4, 8, 16, 32) for rate in (1e-3, 3.16e-4)
    }
    assert [one.learning_rate for one in found.ranks] == [1e-3] * 3 + [1e-3] + [3.16e-4] * 3


@pytest.mark.parametrize(("best", "found_rate", "edge"), [(1e-2, 1e-2, False), (3e-5, 3.16e-5, True)])
def test_the_search_goes_on_until_the_best_lies_inside(tmp_path, best, found_rate, edge):
    bench = Formula(best_rate=best)
    _, tuning = search(points_of(bench, tmp_path), options(tmp_path, ranks=(1, 8)), 10)
    assert tuning is not None
    assert (tuning.low_rate, tuning.at_edge) == (found_rate, edge)
    assert len(bench.calls) <= 2 * MOST_TRIALS


def test_given_rates_are_all_trained_and_none_besides(tmp_path):
    bench = Formula()
    found, tuning = search(points_of(bench, tmp_path), options(tmp_path, ranks=(1, 2, 4), lrs=(1e-3, 2e-3)), 10)
    assert tuning is None
    assert sorted(bench.calls) == [Spot(r, rate, 0) for r in (1, 2, 4) for rate in (1e-3, 2e-3)]
    assert {one.learning_rate for one in found.ranks} == {1e-3}


def test_more_seeds_go_to_the_ranks_around_the_answer(tmp_path):
    bench = Formula()
    found, _ = search(points_of(bench, tmp_path), options(tmp_path, seeds=3), 10)
    assert {call.rank for call in bench.calls if call.seed > 0} == {8, 16, 32, 64}
    assert [len(one.seeds) for one in found.ranks] == [1, 1, 1, 3, 3, 3, 3]
    assert found.measured_spread


def test_more_seeds_go_to_the_ranks_around_the_best_too(tmp_path):
    """Where r = 1 suffices and r = 16 is the best by a little, its neighbours may be better by their other seeds."""

    class Little(Formula):
        def point(self, rank, learning_rate, seed, folder, on_step):
            super().point(rank, learning_rate, seed, folder, on_step)
            off = abs(math.log10(learning_rate / 1e-3))
            return self._losses(2.001 - 1e-4 * (rank == 16) + off)

    bench = Little()
    found, _ = search(points_of(bench, tmp_path), options(tmp_path, seeds=2), 10)
    assert (found.r_sufficient, found.best) == (1, 16)
    assert [len(one.seeds) for one in found.ranks] == [2, 2, 1, 2, 2, 2, 1]


def test_where_more_seeds_move_the_answer_the_ranks_around_the_new_one_get_them_too(tmp_path):
    """With one seed r = 32 looks as needed; its other seeds say it was chance."""

    class Chance(Formula):
        def point(self, rank, learning_rate, seed, folder, on_step):
            found = super().point(rank, learning_rate, seed, folder, on_step)
            if rank in (32, 64) and seed == 0:
                found.sums = tuple(0.99 * one for one in found.sums)
            return found

    found, _ = search(points_of(Chance(), tmp_path), options(tmp_path, seeds=6), 10)
    assert found.r_sufficient == 16
    assert [len(one.seeds) for one in found.ranks] == [1, 1, 1, 6, 6, 6, 6]


def test_rates_that_one_seed_does_not_tell_apart_both_get_more(tmp_path):
    """At r = 8 the first seed is lucky at the worse of two rates that are close; the third is far off everywhere."""

    class Lucky(Formula):
        def point(self, rank, learning_rate, seed, folder, on_step):
            found = super().point(rank, learning_rate, seed, folder, on_step)
            if (rank, learning_rate, seed) == (8, 1.2e-3, 0):
                found.sums = tuple(0.998 * one for one in found.sums)
            return found

    bench = Lucky()
    asked = options(tmp_path, ranks=(4, 8, 16), lrs=(1e-3, 1.2e-3, 1e-2), seeds=3)
    found, _ = search(points_of(bench, tmp_path), asked, 10)
    at_8 = {(call.learning_rate, call.seed) for call in bench.calls if call.rank == 8}
    assert at_8 == {(1e-2, 0), *((rate, seed) for rate in (1e-3, 1.2e-3) for seed in (0, 1, 2))}
    assert [one.learning_rate for one in found.ranks] == [1e-3] * 3


def test_points_are_kept_and_an_interrupted_sweep_goes_on(tmp_path):
    whole = search(points_of(Formula(), tmp_path / "whole"), options(tmp_path, seeds=2), 10)
    bench = Formula()
    bench.dies_at = 7
    with pytest.raises(KeyboardInterrupt):
        search(points_of(bench, tmp_path / "cut"), options(tmp_path, seeds=2), 10)
    assert len(list((tmp_path / "cut" / "points").glob("r*.json"))) == 7 + 1  # and the base
    assert [path.is_dir() for path in (tmp_path / "cut" / "points").iterdir()].count(True) == 1  # its checkpoints
    bench.dies_at = None
    assert search(points_of(bench, tmp_path / "cut"), options(tmp_path, seeds=2), 10) == whole
    assert len(bench.calls) == len(set(bench.calls))
    assert not any(path.is_dir() for path in (tmp_path / "cut" / "points").iterdir())


def test_more_may_be_lost_and_no_point_is_trained_again(tmp_path):
    """Of a gain of 1 r = 1 loses 1/8, every doubling half of the rest."""
    bench = Formula()
    found = {}
    for allowed in (0.01, 0.02, 0.1):
        found[allowed], _ = search(points_of(bench, tmp_path), options(tmp_path, keep_loss=allowed), 10)
    assert len(bench.calls) == len(set(bench.calls)) == 6 + 5  # three rates at either end, then the ranks between
    assert [found[allowed].r_sufficient for allowed in found] == [16, 8, 2]
    assert [found[allowed].allowed for allowed in found] == list(found)
    assert {one.ranks for one in found.values()} == {found[0.01].ranks}


def test_with_another_loss_the_ranks_around_its_answer_get_their_seeds(tmp_path):
    """And the answer is that of a sweep that was asked for it at first."""
    bench, fresh = Formula(), Formula()
    search(points_of(bench, tmp_path), options(tmp_path, seeds=2), 10)
    trained = len(bench.calls)
    found, _ = search(points_of(bench, tmp_path), options(tmp_path, seeds=2, keep_loss=0.1), 10)
    assert sorted((spot.rank, spot.seed) for spot in bench.calls[trained:]) == [(1, 1), (2, 1), (4, 1)]
    anew, _ = search(points_of(fresh, tmp_path / "fresh"), options(tmp_path / "fresh", seeds=2, keep_loss=0.1), 10)
    assert found == anew


def test_a_point_of_other_data_is_not_used_again(tmp_path):
    first, second = Formula(version="1"), Formula(version="2")
    for bench in (first, second, Formula(version="1")):
        search(points_of(bench, tmp_path), options(tmp_path, ranks=(1, 2), lrs=(1e-3,)), 10)
    assert len(first.calls) == len(second.calls) == 2
    assert bench.calls == []


def test_a_point_of_another_model_under_the_same_name_is_trained_over(tmp_path):
    given = options(tmp_path, ranks=(1, 2), lrs=(1e-3,))
    benches = [Formula(model=model) for model in "abb"]
    for bench in benches:
        search(points_of(bench, tmp_path), given, 10)
    assert [len(bench.calls) for bench in benches] == [2, 2, 0]
    assert len(list((tmp_path / "points").glob("*.json"))) == 2 + 1


def test_points_from_before_contents_were_kept_are_used_as_they_were(tmp_path):
    given = options(tmp_path, ranks=(1, 2), lrs=(1e-3,))
    search(points_of(Formula(), tmp_path), given, 10)
    for path in (tmp_path / "points").glob("*.json"):
        point = json.loads(path.read_text())
        del point["contents"]
        path.write_text(json.dumps(point))
    bench = Formula(model="b")
    search(points_of(bench, tmp_path), given, 10)
    assert bench.calls == []


def test_another_models_checkpoints_are_not_gone_on_with(tmp_path):
    class Cut(Formula):
        """Is stopped in the middle of a point, and says in which folder."""

        def point(self, rank, learning_rate, seed, folder, on_step):
            self.folder = folder
            if self.dies_at is not None:
                (folder / "checkpoint-1").mkdir(parents=True, exist_ok=True)
                raise KeyboardInterrupt
            return super().point(rank, learning_rate, seed, folder, on_step)

    benches = {name: Cut(model=model) for name, model in {"cut": "a", "same": "a", "other": "b"}.items()}
    for name, bench in benches.items():
        bench.dies_at = None if name == "other" else 0
        with pytest.raises(KeyboardInterrupt) if name != "other" else nullcontext():
            points_of(bench, tmp_path).measure([Spot(1, 1e-3, 0)])
    assert benches["cut"].folder == benches["same"].folder != benches["other"].folder
    assert not any(path.is_dir() for path in (tmp_path / "points").iterdir())  # none of either is left


def test_a_damaged_point_is_trained_again_and_that_is_said(tmp_path):
    given = options(tmp_path, ranks=(1, 2), lrs=(1e-3,))
    whole = search(points_of(Formula(), tmp_path), given, 10)
    kept = {path: path.read_text() for path in (tmp_path / "points").iterdir()}
    for name in ("r000-*.json", "r001-*.json"):
        next((tmp_path / "points").glob(name)).write_text("{")
    bench, said = Formula(), []
    assert search(Points(bench, tmp_path, lambda progress: None, announce=said.append), given, 10) == whole
    assert bench.calls == [Spot(1, 1e-3, 0)]
    assert {path: path.read_text() for path in (tmp_path / "points").iterdir()} == kept
    base, point = said
    assert "r000-" in base
    assert base.endswith("is measured again.")
    assert "r001-" in point
    assert "cannot be read as JSON" in point
    assert point.endswith("This point (r = 1, learning rate 0.001, seed 0) is trained again.")


def test_a_rank_that_diverges_is_passed_over_and_gets_no_more_seeds(tmp_path):
    class Wild(Formula):
        def point(self, rank, learning_rate, seed, folder, on_step):
            found = super().point(rank, learning_rate, seed, folder, on_step)
            if rank == 64:
                found.sums = (math.nan,) * len(COUNTS)
            return found

    bench = Wild()
    found, _ = search(points_of(bench, tmp_path), options(tmp_path, lrs=(1e-3,), seeds=3), 10)
    assert (found.best, found.diverged, found.censored) == (32, (64,), True)
    assert found.measured_spread
    assert sum(call.rank == 64 for call in bench.calls) <= 3
    assert search(points_of(Wild(), tmp_path), options(tmp_path, lrs=(1e-3,), seeds=3), 10)[0].best == 32  # from disk


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ranks": (8,)}, "two or more ranks"),
        ({"ranks": (4, 2)}, "ascending"),
        ({"ranks": (0, 2)}, "ascending"),
        ({"lrs": ()}, "--lrs"),
        ({"lrs": (1e-3, 1e-3)}, "--lrs"),
        ({"lrs": (-1.0,)}, r"--lrs -1\.0"),
        ({"lrs": (2.0,)}, r"--lrs 2\.0"),
        ({"seeds": 0}, "--seeds"),
        ({"tokens": 0}, "--tokens"),
        ({"keep_loss": 0.0}, "--keep-loss"),
        ({"keep_loss": 5.0}, "give 0.05"),
        ({"keep_loss": 1.0}, "give 0.01"),
    ],
)
def test_options_that_cannot_work(tmp_path, given, message):
    with pytest.raises(OptionError, match=message):
        options(tmp_path, **given)
