"""Pages do not point at files that are not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("runs/README.md"), *ROOT.glob("*/*/README.md")]
)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
SOURCE = re.compile(r"`((?:agents|benchmarks|cli|docs|envs|examples|policies|tests)/[\w./-]+\.\w+)`")


def missing(page: Path, text: str) -> list[str]:
    """Link targets, relative to the page, and source files in back-quotes, relative to the root, that do not exist."""
    targets = [
        page.parent / link for link in LINK.findall(text) if "://" not in link and not link.startswith("mailto:")
    ]
    targets += [ROOT / name for name in SOURCE.findall(text)]
    return [str(target) for target in targets if not target.exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_a_page_names_exists(page: Path) -> None:
    assert missing(page, page.read_text(encoding="utf-8")) == []


def test_a_dead_link_and_a_dead_file_name_are_noticed() -> None:
    text = "[a](gone.md) [b](../README.md#top) [c](https://example.org) `envs/gone.py` `envs/spec.py`"
    assert missing(ROOT / "docs" / "index.md", text) == [str(ROOT / "docs" / "gone.md"), str(ROOT / "envs" / "gone.py")]
