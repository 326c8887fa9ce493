"""Adapters on a hub: a small server that speaks what huggingface_hub asks for, and what is fetched from it.

Of the hub's API it has ``/api/models/ID/revision/REV``, ``/api/models/ID/tree/REV`` and ``/ID/resolve/REV/FILE``, with
the headers ``X-Repo-Commit``, ``ETag`` and ``X-Error-Code`` (huggingface_hub: ``_snapshot_download.py``,
``file_download.py``, ``utils/_http.py``).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import torch
from click.testing import CliRunner, Result
from huggingface_hub import constants
from safetensors.torch import load

import lorarank
from lorarank.cli import main

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"


@dataclass
class Hub:
    """Repositories by id, each a mapping of revisions to commits and files; ``asked`` is what was asked for."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT, "v1": OTHER})
    gated: set[str] = field(default_factory=set)
    hanging_up: bool = False
    failing: bool = False
    asked: list[str] = field(default_factory=list)
    endpoint: str = ""

    def fetched(self) -> list[str]:
        """Names of the files that were downloaded, each as often as it was."""
        return sorted(line.rpartition("/")[2] for line in self.asked if line.startswith("GET") and "/resolve/" in line)


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            if hub.hanging_up:
                self.close_connection = True
                self.connection.close()
                return
            if hub.failing:
                self.send(500, b"")
                return
            parts = path.strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            owner, name, verb, revision, *rest = (parts[2:] if api else parts) + [""] * 4
            repo, commit = f"{owner}/{name}", hub.revisions.get(revision, revision)
            if repo not in hub.files:
                self.send(401, b"", {"X-Error-Code": "RepoNotFound"})
            elif repo in hub.gated:
                self.send(403, b"", {"X-Error-Code": "GatedRepo"})
            elif commit not in hub.revisions.values():
                self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            elif api and verb == "revision":
                self.send(200, json.dumps({"id": repo, "sha": commit, "siblings": []}).encode())
            elif api and verb == "tree":
                entries = [
                    {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for file, content in hub.files[repo].items()
                ]
                self.send(200, json.dumps(entries).encode())
            else:
                content = hub.files[repo]["/".join(rest).strip("/")]
                self.send(200, content, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

        def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    return Handler


class Server(ThreadingHTTPServer):
    """Several processes ask through several connections each; five waiting ones, the default, are too few."""

    request_queue_size = 128


@pytest.fixture
def hub(make_adapter: Callable[..., Path]) -> Iterator[Hub]:
    """A hub with ``owner/lora``: an adapter and what lies beside one."""
    found = Hub()
    folder = make_adapter("uploaded")
    adapter = {path.name: path.read_bytes() for path in folder.iterdir()}
    found.files["owner/lora"] = adapter | {
        "README.md": b"# A LoRA",
        "modeling.py": b"raise SystemExit",
        "training_args.bin": b"a pickle",
        "adapter_model.bin": b"a pickle",
        "optimizer.pt": b"a pickle",
        "checkpoint-9/adapter_model.safetensors": b"an earlier one",
        "model.safetensors": b"a large one",
    }
    server = Server(("127.0.0.1", 0), handler(found))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    found.endpoint = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def lorarank_command(hub: Hub, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``lorarank_command("audit", "owner/lora")`` in a process of its own that knows no other hub."""

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS", "http"))
        }
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(SOURCE)}
        settings |= {"HF_HUB_ETAG_TIMEOUT": "60", "HF_HUB_DOWNLOAD_TIMEOUT": "60"}  # for a machine that is busy
        return subprocess.run(
            [sys.executable, "-m", "lorarank", *map(str, arguments)],
            cwd=tmp_path,
            env=clean | settings | {"NO_PROXY": "*"} | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


SOURCE = Path(lorarank.__file__).parent.parent
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def here(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``here("audit", "owner/lora")`` in this process."""
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, list(map(str, arguments)))


Here = Callable[..., Result]


def test_only_what_is_needed_is_fetched_and_once(hub: Hub, here: Here) -> None:
    for expected in (["adapter_config.json", "adapter_model.safetensors"], []):
        hub.asked.clear()
        done = here("audit", "owner/lora")
        assert (done.exit_code, done.stderr) == (0, "")
        assert done.stdout.startswith("Keep rank 2 of 16: it keeps 90% of the energy of all 6 modules together.")
        assert "owner/lora" in done.stdout
        assert hub.fetched() == expected


def test_a_revision(hub: Hub, here: Here) -> None:
    assert here("audit", "owner/lora@v1").exit_code == 0
    assert f"GET /owner/lora/resolve/{OTHER}/adapter_config.json" in hub.asked
    assert here("audit", f"owner/lora@{COMMIT}").exit_code == 0


def test_a_pickle_is_fetched_where_there_is_nothing_else(hub: Hub, here: Here) -> None:
    files = hub.files["owner/lora"]
    stored = io.BytesIO()
    torch.save(load(files.pop("adapter_model.safetensors")), stored)
    files["adapter_model.bin"] = stored.getvalue()
    assert here("audit", "owner/lora").exit_code == 0
    assert hub.fetched() == ["adapter_config.json", "adapter_model.bin"]


@pytest.mark.parametrize(
    ("source", "state", "words"),
    [
        ("owner/none", {}, "no such repository on the hub. Check the spelling"),
        ("owner/lora@v2", {}, "on the hub owner/lora has no revision v2. Choose another"),
        ("owner/lora", {"gated": {"owner/lora"}}, "access to it is gated. Ask for access at huggingface.co/owner/lora"),
        ("owner/lora", {"hanging_up": True}, "downloading it failed (RemoteProtocolError: Server disconnected"),
        ("owner/lora", {"failing": True}, "the hub answered with 500, nor does its cache here hold it"),
        (
            "owner/readme",
            {"files": {"owner/readme": {"README.md": b""}}},
            "on the hub, but none of its files is one that is looked for",
        ),
    ],
)
def test_one_line_says_why_there_is_none(source: str, state: dict[str, Any], words: str, hub: Hub, here: Here) -> None:
    vars(hub).update(state)
    done = here("audit", source)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: {source}: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("state", [{"hanging_up": True}, {"failing": True}, {"endpoint": "http://127.0.0.1:9"}])
def test_the_cache_serves_where_the_hub_does_not(state: dict[str, Any], hub: Hub, here: Here) -> None:
    assert here("audit", "owner/lora").exit_code == 0
    vars(hub).update(state)
    done = here("audit", "owner/lora")
    assert (done.exit_code, done.stderr) == (0, "")


def test_resizing_and_comparing(hub: Hub, here: Here, tmp_path: Path) -> None:
    assert here("resize", "owner/lora", "-o", "cut", "--rank", "2").exit_code == 0
    done = here("compare", "owner/lora", "cut")
    assert done.exit_code == 0
    assert "Aligned" in done.stdout
    assert here("convert", "owner/none", "-o", "out", "--dtype", "float16").exit_code == 2
    assert not (tmp_path / "out").exists()


def test_by_the_thousand_in_processes_of_their_own(hub: Hub, lorarank_command: Run, tmp_path: Path) -> None:
    """With the hub in the environment, as a user sets it; a second run asks for nothing again."""
    hub.files["owner/second"] = hub.files["owner/lora"]
    hub.files["owner/gated"] = {}
    hub.gated.add("owner/gated")
    sources = ["owner/lora", "owner/second", "owner/none", "owner/gated"]
    done = lorarank_command("audit", *sources, "--jobs", "2", "-o", "rows.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["source"]: row for row in map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())}
    assert set(rows) == set(sources)
    assert "no such repository" in rows["owner/none"]["problem"]
    assert "gated" in rows["owner/gated"]["problem"]
    assert rows["owner/lora"]["parameters"] == rows["owner/second"]["parameters"] > 0
    assert hub.fetched() == ["adapter_config.json"] * 2 + ["adapter_model.safetensors"] * 2
    hub.asked.clear()
    assert lorarank_command("audit", *sources, "-o", "rows.jsonl").returncode == 0
    assert not hub.asked
