"""Where a model or adapter is found, and the one line when it is not."""

from __future__ import annotations

from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from lorarank import adapters, sources
from lorarank.errors import AdapterError, SourceError

locate = partial(sources.locate, allow_patterns=("*.json",))

FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model-00001-of-00002.safetensors",
    "adapter_model.bin",
)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A hub that hands out ``tmp_path`` and notes what it was asked for; set ``raise`` to make it fail."""
    calls: dict[str, Any] = {}
    (tmp_path / "README.md").write_text("what is here")

    def snapshot_download(repo_id: str, **how: Any) -> str:
        calls.update(how, repo_id=repo_id)
        assert issubclass(calls.pop("tqdm_class", huggingface_hub.utils.tqdm), huggingface_hub.utils.tqdm)
        if "raise" in calls:
            raise calls["raise"]
        if calls.get("raise once"):
            raise calls.pop("raise once")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


def test_folders_and_files_are_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"")
    assert locate(tmp_path) == locate(str(tmp_path)) == tmp_path
    assert locate(file) == file
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/a.safetensors") == file


def test_what_is_on_the_disk_wins_over_the_hub(
    hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("owner/name") == Path("owner/name")
    assert not hub


@pytest.mark.parametrize(
    ("source", "repo", "revision"),
    [
        ("owner/name", "owner/name", None),
        ("owner/name@main", "owner/name", "main"),
        ("o-w_n.er/n-a_m.e@v1.0", "o-w_n.er/n-a_m.e", "v1.0"),
        ("owner/name@refs/pr/3", "owner/name", "refs/pr/3"),
    ],
)
def test_hub_ids(source: str, repo: str, revision: str | None, hub: dict[str, Any], tmp_path: Path) -> None:
    assert locate(source) == tmp_path
    assert hub == {"repo_id": repo, "revision": revision, "allow_patterns": ["*.json"]}


def test_of_an_adapter_on_the_hub_its_checkpoints_are_left_there(hub: dict[str, Any]) -> None:
    with pytest.raises(AdapterError, match="no adapter in it"):
        adapters.open("owner/name")
    assert "adapter_config.json" in hub["allow_patterns"]
    assert not any(fnmatch(f"checkpoint-9/{name}", pattern) for name in FILES for pattern in hub["allow_patterns"])
    assert all(any(fnmatch(name, pattern) for pattern in hub["allow_patterns"]) for name in FILES)


@pytest.mark.parametrize(
    "source", ["gpt2", "a/b/c", "owner/na..me", "owner/na--me", "owner/" + "n" * 100, "a b/c", "owner/name@"]
)
def test_neither_path_nor_hub_id(source: str, hub: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match="no such file or folder, and no hub id either"):
        locate(source)
    assert not hub


@pytest.mark.parametrize(
    "source", ["./owner/name", "../not-there/x", "/nowhere/x", "~/nowhere", Path("owner/name"), "owner\\name"]
)
def test_paths_are_not_asked_of_the_hub(source: str | Path, hub: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match=r"no such file or folder\. Check the path\.$"):
        locate(source)
    assert not hub


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "nothing is named"),
        ("  ", "nothing is named"),
        ("a\0b", "no name that a file can have|no such file"),
        ("~nobody-of-that-name/x", "no name that a file can have"),
        ("x" * 5000, "cannot be looked at|no such file"),
        ("/dev/null", "neither a folder nor a regular file"),
    ],
)
def test_odd_names(source: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        locate(source)


@pytest.mark.parametrize("target", ["gone", "link"])
def test_a_link_that_leads_nowhere(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    Path("a/link").symlink_to(target)
    with pytest.raises(SourceError, match="a/link: a symbolic link that leads nowhere"):
        locate("a/link")


def test_a_missing_file_of_a_folder_here_is_not_asked_for_on_the_hub(
    hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loras").mkdir()
    with pytest.raises(SourceError, match=r"loras/a.safetensors: no such file\. Check the path"):
        locate("loras/a.safetensors")
    assert not hub


def response(status: int) -> Any:
    """As much of an answer as the hub's errors look at, whichever HTTP library they come from."""
    return SimpleNamespace(status_code=status, headers={}, request=None)


class ConnectError(Exception):
    """As HTTP libraries raise it: no relative of ``OSError``."""


FAILURES: dict[str, tuple[Exception, str]] = {
    "gated": (errors.GatedRepoError("long\nstory", response=response(403)), "access to it is gated. Ask for access"),
    "no repository": (errors.RepositoryNotFoundError("no", response=response(404)), "no such repository on the hub"),
    "no revision": (errors.RevisionNotFoundError("no", response=response(404)), "has no revision v9"),
    "offline": (errors.LocalEntryNotFoundError("no connection"), "the hub cannot be reached"),
    "invalid": (errors.HFValidationError("no"), "no valid hub id"),
    "server error": (errors.HfHubHTTPError("no", response=response(503)), "the hub answered with 503"),
    "connection": (ConnectError("refused\nreally"), r"downloading it failed \(ConnectError: refused\)"),
    "disk": (OSError(28, "No space left on device"), "No space left on device"),
    "empty": (ConnectionError(), r"failed \(ConnectionError\)"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_hub_that_does_not_answer(case: str, hub: dict[str, Any]) -> None:
    hub["raise"], message = FAILURES[case]
    with pytest.raises(SourceError, match=message) as caught:
        locate("owner/name@v9")
    assert str(caught.value).startswith("owner/name@v9: no such folder, and ")
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)


def test_a_connection_that_fails_once_is_tried_again(
    hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sources, "RETRY_AFTER", 0)
    for cause in (ConnectError("refused"), huggingface_hub.errors.OfflineModeIsEnabled("off")):
        hub["raise once"] = errors.LocalEntryNotFoundError("not here")
        hub["raise once"].__cause__ = cause
        if isinstance(cause, ConnectError):
            assert locate("owner/name") == tmp_path
            assert "raise once" not in hub
        else:
            with pytest.raises(SourceError, match="offline mode"):
                locate("owner/name")


def test_a_connection_that_fails_twice_is_named(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "RETRY_AFTER", 0)
    hub["raise"] = errors.LocalEntryNotFoundError("not here")
    hub["raise"].__cause__ = ConnectError("refused")
    with pytest.raises(SourceError, match=r"the hub cannot be reached \(ConnectError: refused\), nor does its cache"):
        locate("owner/name")


def test_offline_for_real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    said = r"the hub is not asked in offline mode \(HF_HUB_OFFLINE\), nor does its cache here hold it"
    with pytest.raises(SourceError, match=said):
        locate("owner/name")
