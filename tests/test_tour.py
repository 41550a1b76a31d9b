"""The tour in docs/tour is true: its examples give what is printed, in both languages the same."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"
TOUR = DOCS / "tour"
ERRATA = {"en": DOCS / "errata.md", "zh": DOCS / "errata.zh-CN.md"}
PAGES = sorted(path.name for path in (TOUR / "en").glob("*.md"))
BLOCK = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(language: str, page: str) -> str:
    path = ERRATA[language] if page == "errata" else TOUR / language / page
    return path.read_text(encoding="utf-8")


def blocks(language: str, page: str) -> list[str]:
    return BLOCK.findall(text_of(language, page))


def columns(text: str) -> list[list[str]]:
    """The cells of every row of a page's tables."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]


def code(cell: str) -> list[str]:
    """What stands between backticks in a cell."""
    return sorted(re.findall(r"`([^`]+)`", cell))


@pytest.mark.parametrize("page", [*PAGES, "errata"])
def test_examples_give_what_is_printed(page: str) -> None:
    told: list[str] = []
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks("en", page)), {}, page, page, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        result = runner.run(examples, out=told.append)
    assert result.attempted >= 20
    assert not result.failed, "".join(told)


@pytest.mark.parametrize("page", [*PAGES, "errata"])
def test_both_languages_show_the_same(page: str) -> None:
    assert blocks("zh", page) == blocks("en", page)
    english, chinese = (text_of(language, page) for language in ("en", "zh"))
    for mark in ("\n## ", "\n| ", "]("):
        assert english.count(mark) == chinese.count(mark), mark
    for told, said in zip(columns(english), columns(chinese), strict=True):
        assert [code(cell) for cell in told] == [code(cell) for cell in said], told[0]
    prose = BLOCK.sub("", chinese)
    assert len(re.findall(r"[\u4e00-\u9fff]", prose)) > 100


def test_the_index_lists_every_page() -> None:
    index = (TOUR / "README.md").read_text(encoding="utf-8")
    for language in ("en", "zh"):
        assert sorted(path.name for path in (TOUR / language).glob("*.md")) == PAGES
        assert re.findall(rf"\({language}/(.*?)\)", index) == PAGES


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_page_leads_to_its_neighbours_and_to_the_other_language(language: str) -> None:
    other = {"en": "zh", "zh": "en"}[language]
    neighbours = zip([None, *PAGES], PAGES, [*PAGES[1:], f"../../{ERRATA[language].name}"], strict=False)
    for before, page, after in neighbours:
        foot = text_of(language, page).splitlines()[-1]
        wanted = [before, "../README.md", after, f"../{other}/{page}"]
        assert re.findall(r"\]\((.*?)\)", foot) == [target for target in wanted if target]
