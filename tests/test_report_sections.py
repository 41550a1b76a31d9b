"""The sections of a report: what they show, and that missing or odd values leave gaps instead of errors."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_report_page import HOSTILE, parsed

from flambeau.columns import Dataset, Split
from flambeau.metrics.calibration import reliability
from flambeau.metrics.classification import confusion_matrix
from flambeau.metrics.tables import by_class
from flambeau.report import figures, run
from flambeau.report.notebook import dataset_html, table_html
from flambeau.report.page import Section, render
from flambeau.report.pictures import (
    ClassificationReport,
    classification_cards,
    classification_sections,
    heated,
    spread_sample,
)


def predictions(classes: int = 10, rows: int = 200, hardness: float = 2.0) -> ClassificationReport:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    logits = torch.randn(rows, classes, generator=generator)
    logits[torch.arange(rows), labels] += hardness
    images = torch.randint(0, 256, (rows, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return ClassificationReport(
        classes=[f"class {number}" for number in range(classes)],
        split="test",
        labels=labels,
        logits=logits,
        probabilities=(logits / 0.7).softmax(1),
        confusion=confusion_matrix(labels, logits.argmax(1), classes),
        temperature=0.7,
        fitted_on="validation",
        images=images,
        samples=images[:50],
        sample_labels=labels[:50],
    )


def titles(sections: list[Section]) -> list[str]:
    return [section.title for section in sections]


def section(sections: list[Section], title: str) -> str:
    return next(section.html for section in sections if section.title == title)


@pytest.mark.parametrize("classes", [1, 2, 10, 30, 31, 60])
def test_a_classifier_report_is_a_well_formed_page(classes: int) -> None:
    report = predictions(classes)
    sections = classification_sections(report)
    assert titles(sections) == ["Scores", "Confusion", "By class", "Calibration", "Mistakes", "Samples"]
    parsed(render("A run", "", classification_cards(report), sections))


def test_the_same_predictions_make_the_same_bytes() -> None:
    first, second = (render("A", "", [], classification_sections(predictions())) for _ in range(2))
    assert first == second


def test_mistakes_are_the_surest_wrong_predictions_in_order() -> None:
    report = predictions()
    found = section(classification_sections(report), "Mistakes")
    confidence, predicted = report.probabilities.max(1)
    wrong = [row for row in range(200) if int(predicted[row]) != int(report.labels[row])]
    expected = sorted(wrong, key=lambda row: -float(confidence[row]))[:24]
    shown = re.findall(r'<span class="said">(class \d+) .*?<span>is (class \d+)</span>', found)
    assert shown == [(f"class {int(predicted[row])}", f"class {int(report.labels[row])}") for row in expected]
    assert found.count("<img") == len(expected)


def test_mistakes_show_what_spoke_for_the_answer_where_the_network_can_say() -> None:
    report = predictions()
    asked: list[torch.Tensor] = []

    def looked(images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        asked.append(classes)
        return torch.rand(len(images), *images.shape[2:])

    found = section(classification_sections(replace(report, looked=looked)), "Mistakes")
    said = [int(name) for name in re.findall(r'<span class="said">class (\d+) ', found)]
    assert asked[0].tolist() == said
    assert [int(name) for name in re.findall(r'alt="what spoke for class (\d+)"', found)] == said
    assert found.count("<img") == 2 * len(said)


def test_heat_reddens_a_picture_where_it_lies() -> None:
    heat = torch.zeros(4, 4)
    heat[0, 0] = 1
    red, green, blue = heated(torch.full((1, 4, 4), 200, dtype=torch.uint8), heat)
    assert red[0, 0] > green[0, 0] + 100
    assert red[1, 1] == green[1, 1] == blue[1, 1]


def test_scores_state_the_numbers_that_the_predictions_give() -> None:
    report = predictions()
    right = int((report.logits.argmax(1) == report.labels).sum())
    scores = section(classification_sections(report), "Scores")
    assert f"{right} of 200" in scores
    assert f"{right / 2:.1f}" in scores
    assert classification_cards(report)[0][:2] == ("test accuracy", f"{right / 2:.1f}\u202f%")


def test_perfect_predictions_have_no_mistakes_to_show() -> None:
    sections = classification_sections(predictions(hardness=50.0))
    assert "was recognised" in section(sections, "Mistakes")
    assert "No picture was taken" in section(sections, "Confusion")


def test_what_is_not_given_is_left_out() -> None:
    bare = replace(predictions(), images=None, samples=None, sample_labels=None, temperature=1.0, fitted_on="")
    sections = classification_sections(bare)
    assert titles(sections) == ["Scores", "Confusion", "By class", "Calibration"]
    assert "before" not in section(sections, "Calibration")


def test_a_split_of_no_rows_is_said_to_be_empty() -> None:
    whole = predictions()
    none = torch.zeros(0, dtype=torch.int64)
    empty = replace(whole, labels=none, logits=whole.logits[:0], probabilities=whole.probabilities[:0])
    empty = replace(empty, confusion=torch.zeros(10, 10, dtype=torch.int64))
    assert "holds no pictures" in classification_sections(empty)[0].html
    assert classification_cards(empty)[0][1] == "–"


def test_names_of_classes_and_files_cannot_break_the_page() -> None:
    names = [HOSTILE, "$x^2$ 50%", "猫", "a" * 300, "</svg><b>", "&amp;", "'", "", "\\frac{", "x\ny"]
    report = replace(predictions(), classes=names, names=[f"{HOSTILE}/{row}.png" for row in range(200)])
    html = render("A", "", classification_cards(report), classification_sections(report))
    parsed(html)
    assert "猫" in html
    assert "$x^2$ 50%" in html


def test_classes_that_never_occur_are_dashes_in_the_table() -> None:
    report = predictions()
    labels = report.labels.clamp(max=8)
    logits = report.logits.clone()
    logits[:, 9] = -99
    report = replace(report, labels=labels, logits=logits, probabilities=logits.softmax(1))
    report = replace(report, confusion=confusion_matrix(labels, logits.argmax(1), 10))
    row = re.search(r"<tr><td>class 9</td>.*?</tr>", section(classification_sections(report), "By class"))
    assert row is not None
    assert row[0].count('<td class="n">–</td>') == 6


def test_curves_survive_missing_and_odd_records() -> None:
    records: list[dict[str, Any]] = [
        {"kind": "step", "step": 1, "loss": math.nan},
        {"kind": "step", "step": 2},
        {"kind": "epoch", "step": 2, "epoch": 0, "val/accuracy": None},
        {"kind": "epoch", "epoch": 1, "val/loss": 0.5},
        {"kind": "epoch", "step": 4, "epoch": 2, "val/loss": math.inf, "val/accuracy": 0.5},
        {"something": "else"},
    ]
    made = run.curves(records)
    assert made is not None
    parsed(made.html)
    assert made.html.count("<svg") == 1
    assert run.curves([]) is None
    assert run.curves([{"kind": "step"}]) is None


def test_curves_of_long_runs_stay_small_and_count_epochs_from_one() -> None:
    steps = [{"kind": "step", "step": step, "loss": 1.0, "lr": 0.1} for step in range(1, 20_001)]
    epochs = [{"kind": "epoch", "step": 10_000 * (epoch + 1), "epoch": epoch, "val/loss": 0.5} for epoch in range(2)]
    made = run.curves([*steps, *epochs])
    assert made is not None
    assert len(made.html) < 60_000
    rows = re.findall(r"<tr>(?:<td[^>]*>([^<]*)</td>)(?:<td[^>]*>([^<]*)</td>)", made.html)
    assert [epoch for _, epoch in rows] == ["1", "2"]
    parsed(made.html)


@pytest.mark.parametrize("first", [1.0, 50.0])
def test_a_loss_axis_that_is_cut_off_says_so(first: float) -> None:
    made = run.curves([{"kind": "step", "step": step, "loss": first if step < 3 else 1.0} for step in range(200)])
    assert made is not None
    assert ("cut off" in made.html) == (first > 2)


def test_notes_and_warnings_of_the_data_come_first() -> None:
    facts = {"size": [28, 28], "counts": {"train": {"cat": 4, HOSTILE: 2}, "test": {"cat": 1}}, "notes": ["Noted."]}
    made = run.data({**facts, "warnings": [f"Warned. {HOSTILE}"], "empty": None})
    assert made is not None
    parsed(made.html)
    assert made.html.index("Warned.") < made.html.index("Noted.") < made.html.index("28, 28") < made.html.index("cat")
    assert "empty" not in made.html
    assert run.data({}) is None


def test_run_sections_without_data_are_left_out() -> None:
    assert run.recipe(" \n") is None
    assert run.seconds({}) is None
    assert run.seconds({"train": None, "test": math.nan}) is None
    assert run.machine({}) is None
    assert run.history([{"started": "now"}]) is None


def test_run_sections_show_what_they_are_given() -> None:
    sections = [
        run.recipe(f'name = "{HOSTILE}"'),
        run.seconds({"train": 90.0, "test": 1.0, "total": 100.0}),
        run.machine({"torch": "2.9"}, {"cores": 2}),
        run.history([{"from_step": 0}, {"from_step": 10, "device": "cpu"}]),
    ]
    html = render("A", "", [], sections)
    parsed(html)
    assert "1 min 40 s in all" in html
    assert "resumed once" in html
    assert "width:100.0%" in html


def test_figures_of_nothing_are_empty() -> None:
    nothing = reliability(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    assert figures.lines([("a", "accent", [(1, math.nan)])], name="A", ylabel="a") == ""
    assert figures.confusion(torch.zeros(0, 0, dtype=torch.int64), []) == ""
    assert figures.reliability_diagram([("a", "accent", nothing)]) == ""
    assert figures.class_bars(by_class(torch.zeros(2, 2, dtype=torch.int64), ["a", "b"])) == ""


def test_figures_take_their_colours_from_the_page() -> None:
    svg = figures.lines([("a", "accent", [(0, 1.0), (1, 2.0)]), ("b", "second", [(0, 2.0)])], name="A", ylabel="loss")
    assert {"var(--accent)", "var(--second)", "var(--muted)"} <= set(re.findall(r"var\(--\w+\)", svg))
    assert not any(colour in svg for colour in figures.COLOURS.values())
    assert "<style" not in svg
    assert ">loss</text>" in svg


@pytest.mark.parametrize("classes", [20, 21])
def test_counts_are_written_into_small_matrices_only(classes: int) -> None:
    svg = figures.confusion(torch.eye(classes, dtype=torch.int64) * 777, [f"c{number}" for number in range(classes)])
    assert svg.count(">777<") == (classes if classes <= 20 else 0)


def test_spread_sample_shows_every_class_evenly() -> None:
    labels = torch.tensor([2] * 50 + [0] * 3 + [1] * 50)
    taken = labels[spread_sample(labels, 12)].tolist()
    assert [taken.count(name) for name in range(3)] == [3, 5, 4]
    assert taken == sorted(taken)
    assert len(spread_sample(labels, 500)) == len(labels)
    assert len(spread_sample(labels[:0])) == 0


def dataset(**columns: Any) -> Dataset:
    return Dataset(HOSTILE, {"train": Split(columns)}, {"classes": ["a", HOSTILE], "source": HOSTILE}, "ab" * 32)


@pytest.mark.parametrize(
    ("columns", "pictures"),
    [
        ({"image": torch.zeros(30, 3, 4, 4, dtype=torch.uint8), "label": torch.ones(30, dtype=torch.int64)}, 12),
        ({"image": torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "label": torch.tensor([1, 7])}, 2),
        ({"image": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)}, 2),
        ({"image": torch.zeros(2, 1, 4, 4)}, 0),
        ({"image": [b"png", b"png"], "label": torch.tensor([0, 1])}, 0),
        ({"tokens": []}, 0),
        ({}, 0),
    ],
)
def test_a_data_set_shows_itself_in_a_notebook(columns: dict[str, Any], pictures: int) -> None:
    html = dataset(**columns)._repr_html_()
    assert html.count("<img") == pictures
    parsed(html)
    assert "<script" not in html


def test_a_data_set_without_splits_shows_itself() -> None:
    parsed(dataset_html(Dataset("none", {}, {}, "")))


def test_a_table_in_a_notebook_escapes() -> None:
    parsed(table_html(HOSTILE, {HOSTILE: HOSTILE, "loss": math.nan}))
