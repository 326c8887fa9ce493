"""A report as one HTML file that asks no network for anything (floor 4).

*elements* makes blocks HTML, *page* puts them into a file with its style sheet and its few controls. Everything in a
block is text and is escaped here; the page is whole and readable without its script, which sorts and filters tables
and turns lists of texts into tabs.
"""

from __future__ import annotations

from lorarank.report.html.page import render

__all__ = ["render"]
