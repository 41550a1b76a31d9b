"""The page and its pieces: everything is escaped, nothing is fetched, and the markup is well formed."""

from __future__ import annotations

import base64
import io
import math
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from flambeau.report.elements import bars, duration, number, pairs, percent, picture, plain, records_table, table, tiles
from flambeau.report.page import Section, render

HOSTILE = "<script>alert('x')</script>\"&"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Balance(HTMLParser):
    """Notes tags that are not closed, scripts, identifiers, and every address that a browser might fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "href", "xlink:href", "srcset", "data"):
                self.addresses.append(str(value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}>")


def parsed(html: str) -> Balance:
    """The page after the checks that hold for every page."""
    parser = Balance()
    parser.feed(html)
    parser.close()
    assert parser.faults == []
    assert parser.open == []
    assert "script" not in parser.tags
    assert len(parser.ids) == len(set(parser.ids))
    assert all(
        address.startswith(("#", "data:image/png;base64,", "data:image/jpeg;base64,")) for address in parser.addresses
    )
    assert not re.search(r"@import|url\((?!#)", html)
    return parser


def test_a_page_escapes_everything_but_the_html_of_sections() -> None:
    html = render(
        HOSTILE,
        HOSTILE,
        [(HOSTILE, HOSTILE, HOSTILE)],
        [Section(HOSTILE, "<p>kept</p>", HOSTILE), Section("Two", "")],
        details={HOSTILE: HOSTILE},
        notes=[HOSTILE],
        footer=HOSTILE,
    )
    page = parsed(html)
    assert "<p>kept</p>" in html
    assert html.count("&lt;script&gt;") == 13
    assert [address for address in page.addresses if address.startswith("#")] == ["#s1", "#s2"]
    assert {"s1", "s2"} <= set(page.ids)


def test_a_page_of_nothing_is_still_a_page() -> None:
    html = render("Empty", "", [], [None])
    assert "<nav" not in html
    assert "Empty</h1>" in html
    parsed(html)


def test_a_page_forbids_itself_to_fetch_anything() -> None:
    html = render("A", "", [], [])
    assert "Content-Security-Policy" in html
    assert "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


@pytest.mark.parametrize(
    "html",
    [
        table([HOSTILE], [[HOSTILE]], caption=HOSTILE),
        pairs({HOSTILE: HOSTILE, "nested": [HOSTILE, {HOSTILE: HOSTILE}]}),
        bars({HOSTILE: 1.0}, {HOSTILE: HOSTILE}),
        records_table([{HOSTILE: HOSTILE}, {"b": [HOSTILE]}]),
        picture(torch.zeros(1, 2, 2, dtype=torch.uint8), HOSTILE),
    ],
)
def test_pieces_escape_what_they_are_given(html: str) -> None:
    assert "<script" not in html
    parsed(html)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_a_picture_keeps_its_pixels(channels: int, mode: str) -> None:
    image = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    found = re.search(r'base64,([^"]+)"', picture(image, "x"))
    assert found is not None
    decoded = Image.open(io.BytesIO(base64.b64decode(found[1])))
    assert (decoded.size, decoded.mode) == ((7, 5), mode)
    assert decoded.tobytes() == image.permute(1, 2, 0).contiguous().numpy().tobytes()


def test_a_large_picture_is_made_smaller_in_proportion_and_only_tiny_ones_keep_hard_edges() -> None:
    large = picture(torch.zeros(3, 400, 800, dtype=torch.uint8), "x", side=100)
    found = re.search(r'base64,([^"]+)"', large)
    assert found is not None
    assert Image.open(io.BytesIO(base64.b64decode(found[1]))).size == (150, 75)
    assert "tiny" not in large
    assert "tiny" in picture(torch.zeros(3, 99, 20, dtype=torch.uint8), "x", side=100)


@pytest.mark.parametrize("image", [torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(3, 4, 4), torch.zeros(4, 4)])
def test_what_is_not_a_picture_is_refused(image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        picture(image, "x")


def test_missing_values_are_dashes() -> None:
    assert number(None) == number(math.nan) == percent(None) == percent(math.nan) == duration(None) == plain([]) == "–"
    rows = records_table([{"a": 1, "b": "x"}, {"b": None, "c": 2.5}])
    assert rows.count("–") == 3
    assert tiles([]) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (60, "1 min 0 s"),
        (3600, "1 h 0 min"),
        (90_061, "25 h 1 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_importing_a_report_does_not_bring_the_heavy_libraries() -> None:
    code = (
        "import sys, flambeau.report.pictures, flambeau.report.run, flambeau.report.notebook, flambeau.metrics.tables;"
        "print(sorted({'matplotlib', 'jinja2', 'torchvision', 'PIL', 'torchmetrics'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
