"""Configurations and factors that contradict each other or themselves: one line that names the field or tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorarank import adapters
from lorarank.errors import AdapterError

Make = Callable[..., Path]
A, B = np.ones((4, 6), np.float32), np.ones((6, 4), np.float32)

CONFIGS: dict[str, tuple[Any, str]] = {
    "empty": (b"", r"adapter_config\.json: empty"),
    "no JSON": (b"{", "no valid JSON"),
    "a list": (b"[]", "a JSON list where an object is needed"),
    "no UTF-8": (b'{"\xff": 1}', "not UTF-8 text"),
    "a key twice": (b'{"r": 1, "r": 2}', "the key r appears twice"),
    "nested deeply": (b'{"a":' * 100_000, "nested too deeply"),
    "r null": ({"r": None}, "r is missing. Take the"),
    "r zero": ({"r": 0}, "r: 0 is no rank"),
    "r negative": ({"r": -4}, "r: -4 is no rank"),
    "r a fraction": ({"r": 4.0}, r"r: 4\.0 is no rank"),
    "r a string": ({"r": "4"}, "r: '4' is no rank"),
    "r true": ({"r": True}, "r: True is no rank"),
    "r of 30 digits": (b'{"peft_type": "LORA", "r": 100000000000000000000000000000}', "has 30 digits"),
    "another r than stored": ({"r": 8}, r"q\.lora_A\.weight: has 4 rows where adapter_config\.json says r = 8"),
    "another rank_pattern than stored": ({"rank_pattern": {"v": 2}}, r"v\.lora_A\.weight: has 4 rows where .* r = 2"),
    "rank_pattern a list": ({"rank_pattern": ["q"]}, "rank_pattern: a JSON list where an object is needed"),
    "rank_pattern of null": ({"rank_pattern": {"q": None}}, "rank_pattern q: None is no rank"),
    "rank_pattern no expression": (
        {"rank_pattern": {"(q": 4}},
        r"rank_pattern: no valid regular expression among: \(q",
    ),
    "alpha null": ({"lora_alpha": None}, "lora_alpha: None is no usable alpha"),
    "alpha NaN": ({"lora_alpha": float("nan")}, "lora_alpha: nan is no usable alpha"),
    "alpha infinite": ({"lora_alpha": float("-inf")}, "lora_alpha: -inf is no usable alpha"),
    "alpha huge": ({"lora_alpha": 1e308}, r"lora_alpha: 1e\+308 is no usable alpha"),
    "alpha a string": ({"lora_alpha": "16"}, "lora_alpha: '16' is no usable alpha"),
    "alpha_pattern NaN": ({"alpha_pattern": {"q": float("nan")}}, "alpha_pattern q: nan is no usable alpha"),
    "rslora a word": ({"use_rslora": "yes"}, "use_rslora: 'yes' is neither true nor false"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_bad_configurations(case: str, make_folder: Make) -> None:
    config, message = CONFIGS[case]
    folder = make_folder(config=config)
    with pytest.raises(AdapterError, match=message) as caught:
        adapters.open(folder)
    assert str(caught.value).isprintable()


def test_a_configuration_without_r(make_folder: Make) -> None:
    with pytest.raises(AdapterError, match="r is missing"):
        adapters.open(make_folder(without=("r",)))


TENSORS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "A without B": ({"q.lora_A.weight": A}, r"q\.lora_A\.weight: lora_A without its lora_B"),
    "B without A": ({"q.lora_B.weight": B}, r"q\.lora_B\.weight: lora_B without its lora_A"),
    "embedding A without B": ({"q.lora_embedding_A": A}, "lora_A without its lora_B"),
    "A and B of different ranks": (
        {"q.lora_A.weight": A, "q.lora_B.weight": np.ones((6, 3), np.float32)},
        r"q\.lora_A\.weight: its shape \(4, 6\) does not fit the shape \(6, 3\) of q\.lora_B\.weight",
    ),
    "B transposed": ({"q.lora_A.weight": A, "q.lora_B.weight": B.T.copy()}, "does not fit"),
    "a stub of ZeRO-3": (
        {"q.lora_A.weight": A, "q.lora_B.weight": np.ones(0, np.float32)},
        r"\(0,\) is that of no factor",
    ),
    "one dimension": (
        {"q.lora_A.weight": A, "q.lora_B.weight": np.ones(6, np.float32)},
        r"\(6,\) is that of no factor",
    ),
    "six dimensions": ({"q.lora_A.weight": A[(None,) * 4], "q.lora_B.weight": B[(None,) * 4]}, "does not fit"),
    "a convolution with a kernel in B": (
        {"q.lora_A.weight": np.ones((4, 6, 3, 3), np.float32), "q.lora_B.weight": np.ones((6, 4, 3, 3), np.float32)},
        "does not fit",
    ),
    "a fused B without its configuration": ({"q.lora_A.weight": A, "q.lora_B.weight": B[..., None]}, "does not fit"),
    "integers": ({"q.lora_A.weight": A, "q.lora_B.weight": B.astype(np.int8)}, r"q\.lora_B\.weight: stored as int8"),
    "two adapters": (
        {f"q.lora_{side}.{name}.weight": x for name in ("a", "b") for side, x in (("A", A), ("B", B))},
        r"factors of several adapters \(a, b\)",
    ),
    "a factor twice": (
        {f"{stem}q.lora_{side}.weight": x for stem in ("", "base_model.model.") for side, x in (("A", A), ("B", B))},
        "the same factor is stored as",
    ),
    "a module twice": (
        {
            f"q{form}": x
            for form, x in (
                (".lora_A.weight", A),
                (".lora_B.weight", B),
                (".lora_embedding_A", A),
                (".lora_embedding_B", B),
            )
        },
        "more than one update of the same module",
    ),
    "an unknown form": (
        {"q.lora_A.weight": A, "q.lora_B.weight": B, "v.lora_A.x.y": A},
        r"v\.lora_A\.x\.y: looks like a LoRA",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_factors_that_do_not_fit(case: str, make_folder: Make) -> None:
    tensors, message = TENSORS[case]
    with pytest.raises(AdapterError, match=message):
        adapters.open(make_folder(tensors))


GROUPED = {"q.lora_A.weight": np.ones((9000, 1, 1), np.float16), "q.lora_B.weight": np.ones((9000, 1, 1), np.float16)}
FUSED = {"q.lora_A.weight": np.ones((4, 6), np.float32), "q.lora_B.weight": np.ones((6, 4, 1), np.float32)}


@pytest.mark.parametrize(
    ("tensors", "config"), [(GROUPED, {"r": 9000}), (FUSED, {"enable_lora": [True] + [False] * 1_400_000})]
)
def test_groups_that_unfold(tensors: dict[str, np.ndarray], config: dict[str, Any], make_folder: Make) -> None:
    with pytest.raises(AdapterError, match=r"q\.lora_B\.weight: its [\d,]+ groups would spread over"):
        adapters.open(make_folder(tensors, config))
