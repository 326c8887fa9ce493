"""The points of a pair's sweep as the evidence keeps them: data/evidence/pairs/NAME/points.jsonl, a line a point.

A sweep that is under way has every point in a file of its own, written as soon as it is trained. These files lie in
--work; they become lines when the sweep ends or is stopped, and files again where it goes on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorarank.files import write_bytes
from lorarank.json_files import decoded, write_json
from lorarank.sweep.points import FOLDER, StoredPoint

POINTS = "points.jsonl"


def lines(kept: Path) -> list[dict[str, Any]]:
    """What is kept in a pair's folder: the ``name`` of every point's file, and the ``point`` that it held."""
    path = kept / POINTS
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.is_file() else []


def stored(kept: Path) -> list[StoredPoint]:
    """The points kept in a pair's folder, by rank."""
    return [decoded(line["point"], StoredPoint, kept / POINTS) for line in lines(kept)]


@contextmanager
def unpacked(kept: Path, swept: Path) -> Iterator[None]:
    """Lays a pair's kept points into the folder of its sweep, and keeps all that lie there when it ends or is stopped.

    Files that lay there before stay as they are: a script that was killed left them, and they may be kept nowhere else.
    """
    folder = swept / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for line in lines(kept):
        path = folder / line["name"]
        if not path.is_file():
            write_json(path, line["point"])
    try:
        yield
    finally:
        pack(folder, kept)
    shutil.rmtree(swept)


def pack(folder: Path, kept: Path) -> None:
    """Keep the points whose files lie in a folder, in the order of their names."""
    points = [{"name": path.name, "point": json.loads(path.read_bytes())} for path in sorted(folder.glob("r*.json"))]
    if points:
        kept.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(point, sort_keys=True, ensure_ascii=False) + "\n" for point in points)
        write_bytes(kept / POINTS, text.encode())
