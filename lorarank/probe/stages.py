"""The memory of an unfinished probe: each stage's result is kept as soon as it is there (floor 2).

``RUN/.progress/`` holds one JSON file a stage. A stage that has its file is not done again, so a resumed probe goes
through the same code as an uninterrupted one and meets the same numbers (JSON keeps every bit of a float).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lorarank.errors import RunError
from lorarank.files import disk_error
from lorarank.json_files import write_json
from lorarank.probe.contents import changed, contents
from lorarank.probe.material import Material
from lorarank.probe.options import ProbeOptions
from lorarank.runs import MANIFEST, PROGRESS

OPTIONS, CONTENTS = "options", "contents"

Value = TypeVar("Value")

RESUME = "make room or fix the permissions, then go on with --resume"
"""What to do where the disk takes no more of a probe."""


def check_output(options: ProbeOptions) -> bool:
    """Whether there is a run to resume in ``options.output``; writes nothing.

    Raises
    ------
    RunError
        The folder is not empty, is finished, or holds an unfinished run that is not to be resumed; or its name is none
        that adapters can be written under.
    ResourceError
        It cannot be looked into.
    """
    try:
        return _has_begun(options)
    except OSError as error:
        raise disk_error(options.output, error, why="", do="give another folder with -o") from None


def _has_begun(options: ProbeOptions) -> bool:
    run = options.output
    if str(run) != str(run).encode(errors="replace").decode():
        why = "the library that reads and writes adapters opens no such files"
        raise RunError(run, "its name is no UTF-8", why=why, do="give another folder with -o")
    if run.exists() and not run.is_dir():
        raise RunError(run, "it is a file", do="give a new folder with -o")
    if (run / MANIFEST).is_file():
        raise RunError(run, "the probe in it is finished", do=f"look at it with: lorarank estimate {run}")
    if (run / PROGRESS / f"{OPTIONS}.json").is_file():
        if not options.resume:
            raise RunError(run, "an unfinished probe is in it", do="go on with --resume, or give a new folder with -o")
        return True
    if run.is_dir() and any(entry.name != PROGRESS for entry in run.iterdir()):
        raise RunError(
            run,
            "the folder is not empty" + (" and has nothing to resume" if options.resume else ""),
            do="give a new folder with -o",
        )
    return False


def planned_tokens(options: ProbeOptions) -> int:
    """The budget of training tokens that the run to be resumed was begun with."""
    kept = json.loads((options.output / PROGRESS / f"{OPTIONS}.json").read_text(encoding="utf-8"))
    return int(kept["planned_tokens"])


def made(folder: Path) -> None:
    """Make a folder, and those above it, where they are not there.

    Raises
    ------
    ResourceError
        It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error, do=RESUME) from None


def agreed(value: Value) -> Value:
    """The first process's value, in all of those that train together: what follows from clocks or losses differs."""
    return everyones(value)[0]


def everyones(value: Value) -> list[Value]:
    """The values of all processes that train together, in each of them: none goes on before all have come this far."""
    from accelerate.utils import gather_object

    return list(gather_object([value]))


@dataclass(frozen=True)
class Stages:
    """The stages of one run. ``writes`` is true in the one process that writes."""

    folder: Path
    writes: bool

    @classmethod
    def open(cls, options: ProbeOptions, material: Material, *, writes: bool) -> Stages:
        """Begin a run in ``options.output``, or find the one to be resumed there; of processes that train together one
        does, and the others take it as they find it: they may be later.

        Raises
        ------
        RunError
            The folder is not empty, is finished, or was begun with other options or data, or another model.
        """
        folder = options.output / PROGRESS
        if not writes:
            return cls(folder, writes)
        if check_output(options):
            check_same(options, material)
        else:
            found = contents(material)
            made(folder)
            begun = {**_identity(options, material), CONTENTS: found, "planned_tokens": material.budget}
            write_json(folder / f"{OPTIONS}.json", begun)
        return cls(folder, writes)

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """The JSON-able result of a stage: read back where it was done before, else computed and kept."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            begun = time.monotonic()
            value = compute()
            if not self.writes:
                return value
            write_json(path, {"seconds": time.monotonic() - begun, "value": value})
        return json.loads(path.read_text(encoding="utf-8"))["value"]

    def done(self, name: str) -> bool:
        """Whether the stage has its result."""
        return (self.folder / f"{name}.json").is_file()

    def seconds(self) -> dict[str, float]:
        """Wall time of every stage, by the run of it that finished."""
        return {
            path.stem: round(float(json.loads(path.read_text(encoding="utf-8"))["seconds"]), 3)
            for path in sorted(self.folder.glob("*.json"))
            if path.stem != OPTIONS
        }

    def close(self) -> None:
        """Remove the memory of a finished run."""
        shutil.rmtree(self.folder, ignore_errors=True)


def check_same(options: ProbeOptions, material: Material) -> None:
    """Refuse to go on with the run in ``options.output`` where anything that its numbers depend on is another.

    Raises
    ------
    RunError
        The options, the data, or the model behind the same name changed.
    """
    before = json.loads((options.output / PROGRESS / f"{OPTIONS}.json").read_text(encoding="utf-8"))
    _check_options(options.output, before, _identity(options, material))
    if CONTENTS in before:  # not so in a run that was begun before they were taken
        _check_contents(options.output, before[CONTENTS], contents(material))


def _identity(options: ProbeOptions, material: Material) -> dict[str, Any]:
    """The options and the data as they come back from JSON."""
    found: dict[str, Any] = json.loads(json.dumps({**options.identity, "fingerprint": material.fingerprint}))
    return found


def _check_options(run: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other options or data."""
    for name in now:
        if before.get(name) != now[name]:
            if name == "fingerprint":
                raise _changed(run, "the data")
            raise _changed(run, f"--{name.replace('_', '-')}", f" (then {before.get(name)!r}, now {now[name]!r})")


def _check_contents(run: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to go on with another model under the same name."""
    what = changed(before, now)
    if what is not None:
        raise _changed(run, what)


def _changed(run: Path, what: str, how: str = "") -> RunError:
    return RunError(run, f"{what} changed since the run was begun{how}", do="resume it as it was, or begin anew")
