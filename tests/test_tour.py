"""The tour in docs/tour is true: its examples give what is printed, in both languages the same."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import torch

TOUR = Path(__file__).parents[1] / "docs" / "tour"
PAGES = sorted(path.name for path in (TOUR / "en").glob("*.md"))
BLOCK = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str, page: str) -> list[str]:
    return BLOCK.findall((TOUR / language / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_examples_give_what_is_printed(page: str) -> None:
    told: list[str] = []
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks("en", page)), {}, page, page, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        result = runner.run(examples, out=told.append)
    assert result.attempted >= 20
    assert not result.failed, "".join(told)


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_show_the_same(page: str) -> None:
    assert blocks("zh", page) == blocks("en", page)
    english, chinese = ((TOUR / language / page).read_text(encoding="utf-8") for language in ("en", "zh"))
    for mark in ("\n## ", "\n| ", "]("):
        assert english.count(mark) == chinese.count(mark), mark
    prose = BLOCK.sub("", chinese)
    assert len(re.findall(r"[\u4e00-\u9fff]", prose)) > 100


def test_the_index_lists_every_page() -> None:
    index = (TOUR / "README.md").read_text(encoding="utf-8")
    for language in ("en", "zh"):
        assert sorted(path.name for path in (TOUR / language).glob("*.md")) == PAGES
        assert re.findall(rf"\({language}/(.*?)\)", index) == PAGES
