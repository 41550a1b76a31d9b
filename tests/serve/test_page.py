"""The page in a browser: Chromium without a window, against a server's process."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Small
from PIL import Image
from serving import serving
from test_serve_command import process

import flambeau
from flambeau.model import Model

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="There is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )


@dataclass
class Visit:
    """A tab that looks at a server, and what went wrong in it."""

    page: Any
    address: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def show(self, model: str) -> Any:
        self.page.goto(f"{self.address}/#{model}")
        self.page.wait_for_selector("#forms form")
        return self.page

    def status(self) -> str:
        return str(self.page.inner_text("#status"))

    def example(self, number: int) -> None:
        self.page.click(f"#examples-list li:nth-child({number}) button")
        self.page.wait_for_selector("#result .truth")

    def bars(self) -> list[tuple[str, float]]:
        found = []
        for item in self.page.query_selector_all("#result .bars li"):
            value = item.query_selector(".value").text_content().removesuffix(" %")
            found.append((item.query_selector(".label").text_content(), float(value)))
        return found


Open = Callable[..., Visit]


def opener(browser: Any, address: str, begun: list[Visit]) -> Open:
    def open_(**settings: Any) -> Visit:
        page = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **settings}).new_page()
        visit = Visit(page, address)
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.on("console", lambda told: told.type == "error" and visit.errors.append(told.text))
        begun.append(visit)
        return visit

    return open_


def closed(begun: Sequence[Visit]) -> None:
    """Ends the visits: nothing may have left the server's address, and no script have failed."""
    for visit in begun:
        outside = [url for url in visit.requests if not url.startswith((visit.address, "data:", "blob:"))]
        assert not outside
        # What the server refuses, the browser calls an error too.
        assert not [told for told in visit.errors if "the server responded with a status of 4" not in told]
        visit.page.context.close()


@pytest.fixture(scope="module")
def address(small: Small) -> Iterator[str]:
    """A server with a model of every task."""
    tasks = {
        "pictures": "image-classification",
        "tags": "image-multilabel",
        "texts": "text-classification",
        "translator": "translation",
        "gan": "gan",
        "book": "language-model",
        "numbers": "image-regression",
        "sounds": "sound-classification",
        "nodes": "node-classification",
        "words": "word-vectors",
    }
    with process(*(f"{name}={small(task)}" for name, task in tasks.items())) as (_, told):
        yield told["address"]


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Open]:
    begun: list[Visit] = []
    yield opener(browser, address, begun)
    closed(begun)


def model_at(path: Path) -> Model:
    found = flambeau.load(path)
    assert isinstance(found, Model)
    return found


def test_an_example_of_the_test_set_is_answered_on_the_page(browser: Any, trained: Path) -> None:
    begun: list[Visit] = []
    # In this process, which has what a process of its own would first have to import.
    with serving(f"digits={trained}") as client:
        there = opener(browser, f"http://127.0.0.1:{client.port}", begun)()
        there.show("digits")
        there.example(1)
        assert "In the test set: 0" in there.page.inner_text("#result .truth")
        assert re.fullmatch(r"\d, \d+\.\d %", there.status())
        assert abs(sum(value for _, value in there.bars()) - 100) < 1
        closed(begun)


def as_file(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


TRANSFER = """
const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name, { type: kind }));
"""


def give(there: Visit, way: str, path: Path, kind: str = "image/png") -> None:
    """Chooses, drops or pastes a file."""
    if way == "chosen":
        there.page.set_input_files("#forms .file >> nth=0", str(path))
        return
    event = {
        "dropped": 'new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })',
        "pasted": 'new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })',
    }[way]
    code = f"([content, name, kind]) => {{ {TRANSFER} document.body.dispatchEvent({event}); }}"
    there.page.evaluate(code, [as_file(path), path.name, kind])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["chosen", "dropped", "pasted"])
def test_a_picture_gets_the_bars_that_predict_gives(visit: Open, small: Small, way: str) -> None:
    run = small("image-classification")
    picture = sorted((run.parent / "pictures" / "middle").iterdir())[4]
    there = visit()
    there.show("pictures")
    give(there, way, picture)
    there.page.wait_for_selector("#insights figure:nth-child(2)")
    wanted = model_at(run).predict(picture)["classes"]
    assert there.bars() == [(row["class"], round(100 * row["probability"], 1)) for row in wanted]
    assert there.status().startswith(f"{wanted[0]['class']}, ")
    captions = there.page.locator("#insights figcaption").all_inner_texts()
    assert "16 × 16 pixels" in captions[0]
    assert f"What spoke for {wanted[0]['class']}" in captions[1]
    assert there.page.eval_on_selector("#insights figure:nth-child(2) img", "image => image.naturalWidth") == 16
    assert there.page.eval_on_selector("img.preview", "image => image.naturalWidth") == 32


@pytest.mark.slow
def test_what_the_server_refuses_is_said_in_its_words(visit: Open, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture at all")
    there = visit()
    there.show("pictures")
    give(there, "dropped", tmp_path / "notes.png")
    there.page.wait_for_selector("#status.bad")
    assert "picture" in there.status()
    assert not there.page.is_visible("#looks")
    there.example(1)
    assert "bad" not in there.page.get_attribute("#status", "class")


@pytest.mark.slow
def test_a_doubt_is_shown(visit: Open, tmp_path: Path) -> None:
    Image.new("L", (32, 32), 255).save(tmp_path / "white.png")
    there = visit()
    there.show("pictures")
    give(there, "chosen", tmp_path / "white.png")
    there.page.wait_for_selector("#result .note")
    assert there.page.inner_text("#result .note").startswith("Doubtful: ")


@pytest.mark.slow
def test_each_label_stands_by_itself(visit: Open) -> None:
    there = visit()
    there.show("tags")
    there.example(2)
    assert there.page.locator("#result .track i").count() == 2
    assert "from 50.0 % on" in there.page.inner_text("#result")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "said", "seen"),
    [
        ("numbers", r"position: -?[\d.]+", "As the model sees it"),
        ("sounds", r"(low|middle|high), \d+\.\d %", "As the model hears it"),
        ("nodes", r"[012], \d+\.\d %", None),
    ],
)
def test_examples_of_other_kinds_are_answered(visit: Open, model: str, said: str, seen: str | None) -> None:
    there = visit()
    page = there.show(model)
    there.example(3)
    assert re.fullmatch(said, there.status())
    if seen is not None:
        page.wait_for_selector("#insights figure")
        assert seen in page.inner_text("#insights")
    if model == "sounds":
        page.wait_for_function("() => document.querySelector('audio').duration > 0.1")
    if model == "nodes":
        assert page.inner_text("#forms label") == "Number of a node, from 0 to 59"
        page.fill("#text", "60")
        page.keyboard.press("Enter")
        page.wait_for_selector("#status.bad")
        assert "from 0 to 59" in there.status()


@pytest.mark.slow
def test_words_have_neighbours(visit: Open, small: Small) -> None:
    there = visit()
    page = there.show("words")
    page.fill("#text", "rain - sun + bread")
    page.keyboard.press("Enter")
    page.wait_for_selector("#result .bars li:nth-child(3)")
    wanted = model_at(small("word-vectors")).predict("rain - sun + bread")["neighbours"]
    names = page.locator("#result .label").all_text_contents()
    assert names == [row["word"] for row in wanted]
    page.fill("#text", "zzzz")
    page.keyboard.press("Enter")
    page.wait_for_selector("#status.bad")
    assert "zzzz" in there.status()


@pytest.mark.slow
def test_the_card_has_scores_confusion_data_and_recipe(visit: Open, small: Small) -> None:
    run = small("image-classification")
    there = visit()
    page = there.show("pictures")
    assert page.locator("#facts tbody tr >> nth=0").inner_text().split()[0] == "accuracy"
    page.click("summary:text('Confusion')")
    page.wait_for_selector(".confusion tbody tr")
    wanted = flambeau.evaluate(run).evaluation.sums["confusion"].tolist()
    rows = [row.query_selector_all("td") for row in page.query_selector_all(".confusion tbody tr")]
    assert [[int(cell.inner_text().replace("·", "0")) for cell in row] for row in rows] == wanted
    page.click("summary:text('Data')")
    assert model_at(run).description.data["hash"] in page.inner_text("#facts")
    page.click("summary:text('Recipe')")
    assert 'name = "compact"' in page.inner_text("#facts pre")


@pytest.mark.slow
def test_without_a_mouse(visit: Open, small: Small) -> None:
    there = visit()
    page = there.show("texts")
    page.wait_for_selector("#examples-list button")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "text"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.type("the goal of the match")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#result .bars")
    wanted = model_at(small("text-classification")).predict("the goal of the match")
    assert there.status().startswith(wanted["class"])
    page.keyboard.press("Tab")  # the button
    page.keyboard.press("Tab")  # the first example
    page.keyboard.press("Enter")
    page.wait_for_selector("#result .truth")
    assert page.input_value("#text") == page.inner_text("#examples-list li:nth-child(1) button span >> nth=0")
    # Another model, and its form has a place to choose a file that the keyboard reaches.
    page.focus("#model")
    page.keyboard.type("pic")
    page.wait_for_selector("#forms .drop")
    page.focus("#ask")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "file"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["pictures", "texts", "translator", "gan", "book"])
def test_nothing_is_wider_than_a_phone(visit: Open, model: str) -> None:
    there = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = there.show(model)
    if page.is_visible("#examples"):
        there.example(1)
        if model in ("pictures", "translator"):
            page.wait_for_selector("#insights figure")
    else:
        page.fill(".sampling input >> nth=0", "2") if model == "gan" else page.fill("[name=length]", "60")
        page.click(".sample")
        page.wait_for_selector("#result > *")
    for summary in page.query_selector_all("summary"):
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for button in page.query_selector_all("main button, main .button"):
        box = button.bounding_box()
        assert box is None or box["height"] >= 38


@pytest.mark.slow
def test_a_translation_has_both_sides_and_its_attention(visit: Open, small: Small) -> None:
    there = visit()
    page = there.show("translator")
    page.fill("#text", "we saw some rain")
    page.click("#forms form button")
    page.wait_for_selector(".attention")
    wanted = model_at(small("translation")).predict("we saw some rain")
    sides = page.locator("#result .sides dd").all_inner_texts()
    assert sides[0] == "we saw some rain"
    assert sides[1].split() == (wanted["translation"] or "(nothing)").split()
    fields = page.locator(".attention rect").evaluate_all(
        "all => all.map(one => [one.getAttribute('x'), one.getAttribute('y')])"
    )
    columns, rows = ({place[axis] for place in fields} for axis in (0, 1))
    assert len(fields) == len(columns) * len(rows)
    assert len(page.locator(".attention text").all()) == len(columns) + len(rows)


@pytest.mark.slow
def test_new_pictures_are_drawn_and_drawn_anew(visit: Open, small: Small) -> None:
    from flambeau.workflow.sampling import sample

    there = visit()
    page = there.show("gan")
    seen = []
    for seed in (0, 1):
        page.click(".sample")
        page.wait_for_function(f"() => document.querySelector('#status').textContent === 'Made with seed {seed}'")
        [wanted] = sample(small("gan"), n=16, seed=seed)
        assert not isinstance(wanted, str)
        seen.append(page.get_attribute("img.grid", "src"))
        assert base64.b64decode(seen[-1].partition(",")[2]) == wanted.png
    assert seen[0] != seen[1]
    give(there, "dropped", sorted((small("gan").parent / "pictures" / "left").iterdir())[0])
    page.wait_for_selector("#result .bars")
    assert [name for name, _ in there.bars()] == ["real", "made"]


@pytest.mark.slow
def test_a_text_is_gone_on_with(visit: Open, small: Small) -> None:
    from flambeau.workflow.sampling import sample

    there = visit()
    page = there.show("book")
    page.fill("#text", "the soup")
    page.fill("[name=length]", "30")
    page.fill("[name=temperature]", "0.5")
    page.click(".sample")
    page.wait_for_selector("#result .made")
    [wanted] = sample(small("language-model"), prompt="the soup", length=30, temperature=0.5)
    assert page.text_content("#result .made") == wanted
    page.fill("[name=length]", "30000")
    page.click(".sample")
    assert page.evaluate("document.activeElement.name") == "length"  # refused by the field, not sent


@pytest.mark.slow
def test_the_token_is_asked_for_once(browser: Any, trained: Path) -> None:
    begun: list[Visit] = []
    with process(f"digits={trained}", FLAMBEAU_TOKEN="open sesame") as (_, told):
        there = opener(browser, told["address"], begun)()
        page = there.page
        page.goto(told["address"])
        page.wait_for_selector("#door:not([hidden])")
        assert not page.is_visible("#main")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#door-problem:has-text('not the token')")
        page.keyboard.type("open sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector("#examples-list button")
        there.example(1)
        page.reload()
        page.wait_for_selector("#examples-list button")
        assert page.evaluate("localStorage.length") == 0
        closed(begun)


CONTRAST = """elements => elements.map(element => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  let behind = element, back = [0, 0, 0, 0];
  while (behind && (back = rgb(getComputedStyle(behind).backgroundColor)).length === 4 && back[3] === 0)
    behind = behind.parentElement;
  return [element.className || element.tagName, rgb(getComputedStyle(element).color).slice(0, 3), back.slice(0, 3)];
})"""


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """By WCAG 2.2, from sRGB."""

    def luminance(colour: Sequence[float]) -> float:
        scaled = np.array(colour) / 255
        linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(visit: Open, tmp_path: Path, scheme: str) -> None:
    Image.new("L", (32, 32), 255).save(tmp_path / "white.png")
    there = visit(color_scheme=scheme)
    page = there.show("pictures")
    give(there, "chosen", tmp_path / "white.png")
    page.wait_for_selector("#insights figure")
    page.wait_for_selector("#examples-list button")
    selector = "h1, h2, p, summary, dt, dd, th, td, button, .button, .label, .value, figcaption, a, select, option"
    found = page.eval_on_selector_all(selector, CONTRAST)
    assert len(found) > 60
    poor = [(name, round(contrast(text, back), 2)) for name, text, back in found if contrast(text, back) < 4.5]
    assert not poor
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 200) == (scheme == "dark")


@pytest.mark.slow
def test_an_exported_file_is_asked_and_says_what_it_lacks(browser: Any, trained: Path, tmp_path: Path) -> None:
    from flambeau.export.writing import export_model

    export_model(trained, tmp_path / "digits.onnx", "onnx")
    picture = io.BytesIO()
    Image.new("L", (8, 8), 90).save(picture, "PNG")
    (tmp_path / "grey.png").write_bytes(picture.getvalue())
    begun: list[Visit] = []
    with process(tmp_path / "digits.onnx") as (_, told):
        there = opener(browser, told["address"], begun)()
        there.show("digits")
        give(there, "chosen", tmp_path / "grey.png")
        there.page.wait_for_selector("#result .bars")
        assert len(there.bars()) == 10
        assert "serve the run itself" in there.page.inner_text("#examples-note")
        closed(begun)
