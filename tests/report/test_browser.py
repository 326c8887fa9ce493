"""What the script on the page does, clicked in a Chromium; and, always, that the page fits its script.

Where no Chromium is on the path the same tests hold the page's structure to what the script relies on, so that none is
skipped. `scripts/check_report.py` does more, by a real mouse, and takes pictures.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lorarank.dossier import Dossier
from lorarank.report import chapters, html

Tree = Callable[[str], Any]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

EXERCISE = """
const seen = {};
const table = document.querySelector("table[data-search]");
const names = () => [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
const heading = (name) => [...table.tHead.rows[0].cells].find((cell) => cell.textContent === name);
const cells = (name) => [...table.tBodies[0].rows].map((row) => row.cells[heading(name).cellIndex].textContent);
seen.before = names();
heading("energy").querySelector("button").click();
seen.down = [heading("energy").getAttribute("aria-sort"), cells("energy")];
heading("energy").querySelector("button").click();
seen.up = [heading("energy").getAttribute("aria-sort"), cells("energy")];
heading("module").querySelector("button").click();
seen.named = [heading("module").getAttribute("aria-sort"), heading("energy").getAttribute("aria-sort"), names()];
const input = document.querySelector("input[type=search]");
input.value = "LAYERS.1 q_proj";
input.dispatchEvent(new Event("input"));
seen.filtered = [names(), document.querySelector("output").textContent];
input.value = "";
input.dispatchEvent(new Event("input"));
seen.unfiltered = names().length;
const tabs = [...document.querySelectorAll("[role=tab]")];
const state = () => tabs.map((tab) => [tab.textContent, tab.getAttribute("aria-selected"), tab.tabIndex,
  !document.getElementById(tab.getAttribute("aria-controls")).hidden]);
seen.tabs = [state()];
tabs[1].click();
seen.tabs.push(state());
tabs[1].dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true, cancelable: true }));
seen.tabs.push(state());
seen.title = document.title;
document.querySelector("main").replaceChildren();
document.querySelector("#lorarank-data").textContent = "";
const out = document.createElement("pre");
out.id = "seen";
out.textContent = encodeURIComponent(JSON.stringify(seen));
document.body.append(out);
"""


def page(found: Dossier) -> str:
    return html.render(chapters.document(found, command=("lorarank", "report", "run")))


def unguarded(made: str) -> str:
    """A page without the policy that keeps foreign scripts out."""
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", made)


def after_loading(made: str, folder: Path) -> str:
    """The document a Chromium has after it ran the page, without any network."""
    assert CHROMIUM is not None
    file = folder / "page.html"
    file.write_text(made, encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--proxy-server=127.0.0.1:9", "--virtual-time-budget=1000",
            f"--user-data-dir={folder / 'profile'}", "--dump-dom", file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )  # fmt: skip
    return done.stdout


def exercised(found: Dossier, folder: Path) -> dict[str, Any]:
    """What :data:`EXERCISE` saw; it is let in by leaving out the policy that would keep it out."""
    made = unguarded(page(found))
    made = made.replace("</body>", f"<script>{EXERCISE}</script></body>")
    (seen,) = re.findall(r'<pre id="seen">([^<]*)</pre>', after_loading(made, folder))
    return json.loads(unquote(seen))  # type: ignore[no-any-return]


def test_clicks_sort_filter_and_turn_tabs(of_run: Dossier, tmp_path: Path, tree: Tree) -> None:
    assert of_run.answer is not None
    names = [module.name for module in of_run.answer.modules]
    if CHROMIUM is None:
        fits_its_script(tree(page(of_run)), names)
        return
    seen = exercised(of_run, tmp_path)
    assert seen["before"] == names
    energies = [float(cell.rstrip("%")) for cell in seen["down"][1]]
    assert (seen["down"][0], energies) == ("descending", sorted(energies, reverse=True))
    assert seen["up"][0] == "ascending"
    assert [float(cell.rstrip("%")) for cell in seen["up"][1]] == sorted(energies)
    assert seen["named"] == ["ascending", None, sorted(names)]
    assert seen["filtered"] == [["model.layers.1.self_attn.q_proj"], "1 of 6 rows"]
    assert seen["unfiltered"] == 6
    for chosen, state in enumerate(seen["tabs"]):
        assert [tab[0] for tab in state] == ["Table", "PEFT config", "JSON"]
        for index, (_, selected, tab_index, is_shown) in enumerate(state):
            assert (selected, tab_index, is_shown) == (("true", 0, True) if index == chosen else ("false", -1, False))


def test_hostile_names_run_nothing(of_hostile: Dossier, tmp_path: Path, tree: Tree) -> None:
    """Not even where the policy that would stop them is taken out."""
    if CHROMIUM is None:
        root = tree(page(of_hostile))
        assert len(root.all("script")) == 2
        assert not [name for node in root.all() for name in node.attributes if name.startswith("on")]
        return
    made = unguarded(page(of_hostile))
    loaded = after_loading(made, tmp_path)
    assert "<title>LoRA rank: " in loaded
    assert "<title>owned" not in loaded
    assert loaded.count("<script") == 2


def test_what_is_smuggled_in_would_not_run_either(of_run: Dossier, tmp_path: Path) -> None:
    made = page(of_run).replace("</main>", "<script>document.title = 'owned'</script></main>")
    if CHROMIUM is None:
        assert "script-src 'sha256-" in made
        return
    loaded = after_loading(made, tmp_path)
    assert "<title>owned" not in loaded
    assert 'role="tablist"' in loaded  # the page's own script did run
    assert "<title>owned" in after_loading(unguarded(made), tmp_path)  # it is the policy that kept it out


def fits_its_script(root: Any, names: list[str]) -> None:
    """The page has what the script looks for, and the script looks for what the page has."""
    (table,) = [node for node in root.all("table") if "data-search" in node.attributes]
    head, body = table.all("thead")[0], table.all("tbody")[0]
    assert [row.children[0].text for row in body.all("tr")] == names
    assert {cell.attributes.get("class", "") for cell in head.all("th")} == {"", "number"}
    (scroll,) = [node for node in root.all("div", **{"class": "scroll"}) if table in node.children]
    assert scroll.attributes["tabindex"] == "0"
    (tabs,) = root.all("div", **{"class": "tabs"})
    panels = tabs.all("div", **{"class": "panel"})
    assert [panel.all("h3")[0].text for panel in panels] == ["Table", "PEFT config", "JSON"]
    assert all(len(panel.all("pre")) == 1 for panel in panels)
    script = root.all("script")[-1].text
    for needed in ("table[data-search]", ".tabs", ".panel", ".scroll", "aria-sort", "aria-selected", "tablist"):
        assert needed in script


def test_the_page_fits_its_script(of_run: Dossier, tree: Tree) -> None:
    assert of_run.answer is not None
    fits_its_script(tree(page(of_run)), [module.name for module in of_run.answer.modules])
