"""Look at a report in Chromium: three widths, light and dark, print; click what can be clicked; list what is wrong.

Needs playwright (pip install playwright) and a chromium on the path; writes pictures, a PDF and ``check.json``.

    lorarank report run -o report.html && python scripts/check_report.py report.html -o looks
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

WIDTHS = (375, 768, 1280)
LINES = r"""() => [...document.querySelectorAll("table[data-search] tbody tr:not([hidden]) th")]
  .map((th) => th.textContent)"""

CONTRAST = r"""() => {
  // the ratio of WCAG 2.2, 1.4.3, of every text against what is painted behind it
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => [r, g, b].map((c) => linear(c / 255))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const found = new Map();
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest("script, style, title, desc, .skip")) continue;
    const style = getComputedStyle(node);
    let behind = node, paper = [255, 255, 255, 255];
    for (; behind; behind = behind.parentElement) {
      const colour = rgb(getComputedStyle(behind).backgroundColor);
      if (colour[3] === 255) { paper = colour; break; }
    }
    const ink = rgb(node instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
    const key = `${node.tagName}.${node.getAttribute("class") || ""}`;
    found.set(key, Math.min(found.get(key) ?? 99, Math.round(100 * (a + 0.05) / (b + 0.05)) / 100));
  }
  return Object.fromEntries([...found].filter(([, ratio]) => ratio < 4.5));
}"""

WRONG = r"""() => {
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const unnamed = [...document.querySelectorAll("button, input, svg[role=img], [role=region], section, nav")]
    .filter((node) => !(node.textContent.trim() || node.labels?.length || node.ariaLabel));
  return { repeated_ids: ids.length - new Set(ids).size, pixels_too_wide: wide, unnamed: unnamed.length,
    tables_without_caption: document.querySelectorAll("table:not(:has(caption))").length,
    headings_without_scope: document.querySelectorAll("th:not([scope])").length };
}"""


def looks(browser: Browser, report: Path, folder: Path) -> dict[str, Any]:
    """Pictures of every width in both schemes, and what the page itself says is wrong."""
    found: dict[str, Any] = {}
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page, troubles = opened(context.new_page(), report)
            page.screenshot(path=folder / f"{report.stem}-{width}-{scheme}.png", full_page=True)
            wrong = page.evaluate(WRONG) | {"contrast_below_4.5": page.evaluate(CONTRAST), "troubles": troubles}
            found[f"{width} {scheme}"] = {key: value for key, value in wrong.items() if value}
            context.close()
    page, _ = opened(browser.new_page(viewport={"width": 1100, "height": 1400}), report)
    page.screenshot(path=folder / f"{report.stem}-top.png")
    page.pdf(path=folder / f"{report.stem}.pdf", format="A4")
    return found


def opened(page: Page, report: Path) -> tuple[Page, list[str]]:
    """The page, and a list that fills with requests to anything but itself, errors and refused contents."""
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    address = report.resolve().as_uri()
    page.on("request", lambda request: troubles.append(request.url) if request.url != address else None)
    page.goto(address)
    return page, troubles


def clicks(browser: Browser, report: Path) -> dict[str, bool]:
    """What the mouse and the keyboard do."""
    page, troubles = opened(browser.new_page(), report)
    done: dict[str, bool] = {}
    table = page.locator("table[data-search]").first
    if table.count() and table.is_visible():
        heading = table.locator("thead th").filter(has_text="energy").or_(table.locator("thead th.number")).first
        before = page.evaluate(LINES)
        heading.locator("button").click()
        down = page.evaluate(LINES)
        done["sorts down"] = heading.get_attribute("aria-sort") == "descending" and down != before
        heading.locator("button").press("Enter")
        up = page.evaluate(LINES)
        done["sorts up by keyboard"] = heading.get_attribute("aria-sort") == "ascending" and sorted(up) == sorted(down)
        word = before[0].split(".")[-1]
        page.locator("input[type=search]").first.fill(word)
        left = page.evaluate(LINES)
        done["filters"] = 0 < len(left) < len(before) and len(left) == sum(word in line for line in before)
        done["counts what is left"] = page.locator("output").first.inner_text() == f"{len(left)} of {len(before)} rows"
    tabs = page.get_by_role("tab")
    tabs.nth(1).click()
    done["opens a tab"] = tabs.nth(1).get_attribute("aria-selected") == "true"
    done["shows its panel alone"] = page.get_by_role("tabpanel").count() == 1
    tabs.nth(1).press("ArrowLeft")
    done["arrow keys move between tabs"] = tabs.nth(0).get_attribute("aria-selected") == "true"
    folds = page.locator("details")
    if folds.count():
        folds.first.locator("summary").first.click()
        done["opens a fold"] = folds.first.get_attribute("open") is not None
    page.keyboard.press("Control+Home")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    done["no errors"] = not troubles
    return done


def without_script(browser: Browser, report: Path, folder: Path) -> dict[str, bool]:
    """Whether everything is there where scripts do not run."""
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    page.screenshot(path=folder / f"{report.stem}-no-script.png", full_page=True)
    panels = page.locator(".panel pre")
    shown = all(panels.nth(index).is_visible() for index in range(panels.count()))
    context.close()
    return {"every text to copy is shown": shown}


def main() -> None:
    """Check the reports named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("looks"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    found = {}
    with sync_playwright() as driver:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for report in arguments.reports:
            found[report.name] = {
                "wrong": looks(browser, report, arguments.output),
                "clicks": clicks(browser, report),
                "without script": without_script(browser, report, arguments.output),
            }
        found["chromium"] = browser.version
        browser.close()
    text = json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False)
    (arguments.output / "check.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
