"""The report that is kept is that of the run beside it, small, and names no machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "data" / "evidence" / "report"
PAGE = (KEPT / "gsm8k.html").read_text(encoding="utf-8")


def test_it_is_small_and_has_its_picture() -> None:
    assert len(PAGE.encode()) <= 1_000_000
    picture = (KEPT / "gsm8k.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) <= 500_000
    assert "](data/evidence/report/gsm8k.png)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_says_what_the_estimate_said() -> None:
    first, *_ = (KEPT / "recommendation.txt").read_text(encoding="utf-8").splitlines()
    assert f">{first}</p>" in PAGE
    (data,) = re.findall(r'<script type="application/json" id="lorarank-data">(.*?)</script>', PAGE, flags=re.DOTALL)
    plain, kept = json.loads(data), json.loads((KEPT / "recommendation.json").read_text(encoding="utf-8"))
    for key in (
        "r",
        "interval",
        "confidence",
        "keep",
        "low_rank",
        "rule",
        "evidence",
        "types",
        "layers",
        "reasons",
        "doubts",
    ):
        assert plain[key] == kept[key], key
    assert len(plain["modules"]) == 210


def test_it_names_no_path_of_a_machine() -> None:
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users|mnt|opt|var)/", PAGE)


def test_the_browser_found_nothing_wrong() -> None:
    found = json.loads((KEPT / "check.json").read_text(encoding="utf-8"))["gsm8k.html"]
    assert len(found["wrong"]) == 6
    assert not any(found["wrong"].values())
    assert all(found["clicks"].values())
    assert len(found["clicks"]) >= 9
    assert all(found["without script"].values())


def test_the_page_kept_is_whole(tree: Callable[[str], Any]) -> None:
    assert len(tree(PAGE).all("section")) == 12
