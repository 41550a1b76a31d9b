"""What holds for the graphs of every task: they answer as the model does, and their files do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conduct import close, inputs, source, trained
from small_data import PREPARED, case, small
from torch import nn

from flambeau import catalog
from flambeau.core import Batch
from flambeau.engine.evaluate import evaluation_mode
from flambeau.errors import ModelError, UsageError
from flambeau.export import formats, gate
from flambeau.export.portable.card import KEY
from flambeau.export.portable.exported import UNASKED, open_exported
from flambeau.export.recurrence import with_gates
from flambeau.export.writing import calling, export_model, program_of
from flambeau.model import Model, load
from flambeau.program import Call, Graph, Port, Program, Wish, eager
from flambeau.recipe import parse, with_settings
from flambeau.serve.engines import exported_engine
from flambeau.workflow.rows import rows_of

TASKS = catalog.task_names()

FRONTS = {"picture", "text", "sound", "translation", "tokens", "noise", "graph", "words"}

QUICK = ("node-classification", "word-vectors")
"""Tasks whose graphs are small enough to be exported every time."""

OFTEN = (*QUICK, "image-classification")
"""Tasks whose graphs are called every time."""

often = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in TASKS]
)
exported = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TASKS]
)


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all contract tests keep what they share."""
    return tmp_path_factory.getbasetemp()


def answers(model: Model, program: Program, call: Call, asked: list[Any]) -> list[Any]:
    """What a model answers when its graphs are run by a call, as ``Model.predict`` puts it."""
    raw = {model.task.input: asked}
    batch = model.task.collate(model.task.read(raw, model.facts))
    return model.task.decode(program.predict(call, raw, batch), model.facts)


def certain(answer: Any) -> Any:
    """An answer without what hangs on ties: which text or word comes first where two are as good."""
    if not isinstance(answer, dict):
        return answer
    return {name: value for name, value in answer.items() if name not in ("doubt", "continuation", "translation")}


def assert_answers(name: str, base: Path, model: Model, program: Program, call: Call) -> None:
    """That one question, and three at once, get the model's own answers."""
    asked = inputs(model.task, case(name), base)
    for some in (asked[:1], asked):
        wanted = [certain(row) for row in model.predict(some)]
        assert close([certain(row) for row in answers(model, program, call, some)], wanted)


@often
def test_a_program_answers_as_its_model_does(name: str, base: Path) -> None:
    model = load(trained(name, base).path)
    program = program_of(model, Wish())
    rows, reason = rows_of(model, "test")
    assert rows is not None, reason
    verdict = gate.pass_through(model, program, eager(program), rows, exact=True)
    assert verdict.examples == verdict.of and verdict.strangers >= 2
    assert verdict.differences and max(verdict.differences.values()) < 1e-4
    select = model.task.metrics(parse(model.description.recipe), model.facts).select
    assert verdict.after[select] == pytest.approx(verdict.before[select], abs=1e-4)
    assert verdict.before[select] == pytest.approx(trained(name, base).scores[f"test/{select}"], abs=1e-4)
    assert_answers(name, base, model, program, eager(program))


@often
def test_the_card_says_how_an_input_is_made(name: str, base: Path) -> None:
    program = program_of(load(trained(name, base).path), Wish())
    card = json.loads(json.dumps(program.card, allow_nan=False))
    assert card["front"] in FRONTS and card["answer"]["kind"]
    for graph in program.graphs:
        assert all(port.about and len(port.axes) == port.example.dim() for port in graph.inputs)
        assert all(about for about in graph.outputs.values())
        made = graph.module(*(port.example for port in graph.inputs))
        assert len(made) == len(graph.outputs)
    for end, content in program.beside.items():
        assert content and "." in end
        assert content.decode() == card["tokenizer"]


@often
def test_a_fixed_shape_is_one_row_or_is_refused(name: str, base: Path) -> None:
    model = load(trained(name, base).path)
    try:
        program = program_of(model, Wish(static=True))
    except UsageError as error:
        assert "--static" in str(error)
        return
    for graph in program.graphs:
        assert all(axis is None for port in graph.inputs for axis in port.axes)
        assert all(len(port.example) == 1 for port in graph.inputs)
    assert_answers(name, base, model, program, eager(program))


@exported
def test_its_files_answer_as_the_model_does(name: str, base: Path, tmp_path: Path) -> None:
    model = load(trained(name, base).path)
    program = program_of(model, Wish())
    for chosen in ("onnx", "pt2"):
        out = tmp_path / f"{name}.{chosen}"
        told = export_model(trained(name, base), out, chosen)
        assert told["examples"] == told["of"] > 0 and told["strangers"] >= 2
        assert max(told["differences"].values()) < 1e-4
        paths = {graph.name: graph_path(out, graph, program) for graph in program.graphs}
        assert set(told["files"]) == {
            *map(str, paths.values()), *(str(tmp_path / f"{name}.{end}") for end in program.beside)
        }  # fmt: skip
        assert_answers(name, base, model, program, calling(catalog.find("formats", chosen), paths))
        if chosen == "onnx":
            assert_documented(paths, program)
        assert_asked_in_the_same_way(name, base, model, program, next(iter(paths.values())), chosen)


def assert_asked_in_the_same_way(name: str, base: Path, model: Model, program: Program, path: Path, form: str) -> None:
    """That `predict` on the file takes what it takes on the run, doubts it and answers as there; or says what to do."""
    if program.card["front"] in UNASKED:
        with pytest.raises(UsageError, match=r"what to do: .*flambeau inspect"):
            open_exported(path, form)
        return
    exported, asked = open_exported(path, form), case(name).asks(source(name, base))
    assert [place for place, _ in exported.view.inputs(asked)] == [place for place, _ in model.task.view.inputs(asked)]
    given = inputs(model.task, case(name), base)
    found, wanted = exported.predict(given), model.predict(given)
    assert close([certain(row) for row in found], [certain(row) for row in wanted])
    assert [row.get("doubt") for row in found] == [row.get("doubt") for row in wanted]
    wire = exported_engine(path, form, 25.0, trust_code=False).wire
    assert {slot.name for slot in wire.outputs} == set(wire.tensors(found))
    for one, other in zip(found, wanted, strict=True):
        assert exported.view.line(one, 3).split()[:1] == model.task.view.line(other, 3).split()[:1]
        assert exported.view.cells(one, 3).keys() == model.task.view.cells(other, 3).keys()


def graph_path(out: Path, graph: Graph, program: Program) -> Path:
    """The file of a graph."""
    return out if len(program.graphs) == 1 else out.with_name(f"{out.stem}.{graph.name}{out.suffix}")


def assert_documented(paths: dict[str, Path], program: Program) -> None:
    """That each file names what goes in and comes out as its card does, axes included."""
    import onnxruntime

    for graph in program.graphs:
        session = onnxruntime.InferenceSession(str(paths[graph.name]), providers=["CPUExecutionProvider"])
        card = json.loads(session.get_modelmeta().custom_metadata_map[KEY])
        assert card["graph"] == graph.name and card["preprocessing"]["front"] == program.card["front"]
        assert list(card["inputs"]) == [port.name for port in graph.inputs]
        assert list(card["outputs"]) == [output.name for output in session.get_outputs()]
        for value in session.get_inputs():  # one that nothing depends on may be missing
            assert value.shape == card["inputs"][value.name]["shape"]


NETWORKS = [
    ("text-classification", network, ())
    for network in ("rnn", "lstm", "gru", "text-transformer", "ngrams", "bert")
] + [
    ("translation", "transformer", ("model.positions=learned", "model.longest=64")),
    ("translation", "seq2seq", ()),
    ("translation", "seq2seq", ("model.attention=additive", "model.layers=2")),
    ("language-model", "gpt", ("model.ngrams=3", "model.buckets=64", "model.positions=rotary")),
    ("language-model", "lstm", ()),
    ("language-model", "gpt2", ()),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "network", "more"), NETWORKS)
def test_every_network_of_sequences_is_traced_for_any_length(
    name: str, network: str, more: tuple[str, ...], base: Path, tmp_path: Path
) -> None:
    task = catalog.task(name)
    prepared = PREPARED[network](tmp_path) if network in PREPARED else small(task, network)
    tables = with_settings({}, [f"model.name={network}", *prepared, *more])
    recipe = parse({**catalog.tables(task), "task": name, **tables})
    facts = {**load(trained(name, base).path).facts, **bert_facts(recipe.model.arguments(), network)}
    built = task.build(recipe, facts, catalog.builder(network, task)).eval()
    assert task.program is not None
    program = task.program(with_gates(built), facts, Wish())
    own = task.program(built, facts, Wish())
    for traced, graph in zip(program.graphs, own.graphs, strict=True):
        run = formats.traced(traced).module()
        for lengths in ({"N": 1, "T": 1, "S": 1, "P": 0}, {"N": 3, "T": 9, "S": 6, "P": 4}, {"N": 1, "T": 2, "S": 12}):
            given = [resized(port, lengths) for port in graph.inputs]
            with torch.no_grad():
                pairs = zip(graph.module(*given), run(*given), strict=True)
                assert all(torch.allclose(one, other, atol=1e-5) for one, other in pairs), lengths


def bert_facts(arguments: dict[str, Any], network: str) -> dict[str, Any]:
    """What a network that is begun from a checkpoint knows besides."""
    from flambeau.models.bert import checkpoint_facts

    return checkpoint_facts(arguments["checkpoint"], None) if network == "bert" else {}


def resized(port: Port, lengths: dict[str, int]) -> torch.Tensor:
    """The example with other lengths, its values repeated or cut off."""
    value = port.example
    for place, axis in enumerate(port.axes):
        if axis is not None:
            length = lengths.get(axis, 1)
            value = value.index_select(place, torch.arange(length) % value.shape[place])
    return value


class Baked(nn.Module):
    """Divides by the length that it was first traced with."""

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(facts["vocabulary"], len(facts["classes"]))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        summed: torch.Tensor = self.embedding(tokens).sum(1) / len(tokens[0].tolist())
        return summed


def test_a_length_that_is_written_into_a_file_is_caught(base: Path, tmp_path: Path) -> None:
    model = load(trained("text-classification", base).path)
    torch.manual_seed(0)
    model.network.network = Baked(model.facts)
    with pytest.raises(ModelError, match="does not answer as the model does; it was not kept"):
        export_model(model, tmp_path / "model.pt", "torchscript")
    with pytest.raises(ModelError, match="cannot make a graph of this network"):
        export_model(model, tmp_path / "model.pt2", "pt2")
    assert not list(tmp_path.iterdir())


def test_a_search_over_files_finds_what_the_network_finds(base: Path) -> None:
    model = load(trained("translation", base).path)
    program = program_of(model, Wish())
    calls: list[str] = []
    own = eager(program)

    def call(name: str, given: Batch) -> dict[str, torch.Tensor]:
        calls.append(name)
        return own(name, given)

    batch = model.task.collate(model.task.read({"source": ["the soup", "we saw snow"]}, model.facts))
    found = program.predict(call, None, batch)
    with evaluation_mode(model.network), torch.no_grad():
        wanted = model.task.predict(model.network, batch)
    assert torch.equal(found["tokens"], wanted["tokens"])
    assert calls[0] == "encoder" and set(calls[1:]) == {"step"} and len(calls) > 3


def test_a_simple_recurrent_layer_becomes_a_gated_one_that_does_the_same() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.RNN(3, 5, num_layers=2, bidirectional=True, batch_first=True)).eval()
    made = with_gates(layer)
    assert isinstance(made[0], nn.GRU) and isinstance(layer[0], nn.RNN)
    x, first = torch.randn(4, 9, 3), torch.randn(4, 4, 5)
    for one, other in zip(made[0](x, first), layer[0](x, first), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert with_gates(made) is made
