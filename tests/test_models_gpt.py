"""The networks of the language family: nothing is seen before its time, and a cache changes nothing."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import flambeau
from flambeau.errors import ModelError, RecipeError
from flambeau.models import gpt2 as checkpoint
from flambeau.models.gpt import GPT, causal_mask, gpt, rotate, rotation
from flambeau.models.language_lstm import lstm

FACTS = {"vocabulary": 37, "context": 24}


def network(kind: str, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    small = {"layers": 2, "width": 32, "dropout": 0.0, **arguments}
    if kind == "lstm":
        return lstm(FACTS, **small).eval()
    if kind == "ngrams":
        small |= {"ngrams": 3, "buckets": 100, "positions": "rotary"}
    return gpt(FACTS, heads=4, **{"positions": kind, **small}).eval()


def some_tokens(n: int = 3, length: int = 20) -> Tensor:
    return torch.randint(37, (n, length), generator=torch.Generator().manual_seed(1))


KINDS = ("learned", "rotary", "ngrams", "lstm")


@pytest.mark.parametrize("kind", KINDS)
def test_logits_depend_on_what_came_before_and_on_nothing_else(kind: str) -> None:
    model, tokens = network(kind), some_tokens()
    changed = tokens.clone()
    changed[:, 12] = (changed[:, 12] + 1) % 37
    before, after = model(tokens), model(changed)
    assert before.shape == (3, 20, 37)
    assert before[:, :12].equal(after[:, :12])
    assert not torch.isclose(before[:, 12:], after[:, 12:]).all(2).any()
    torch.testing.assert_close(model(tokens[1:2]), before[1:2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [[1] * 20, [7, 1, 12], [19, 1], [20]])
def test_reading_in_parts_gives_what_reading_at_once_gives(kind: str, cuts: list[int]) -> None:
    model, tokens, cache = network(kind), some_tokens(), None
    parts = []
    for part in tokens.split(cuts, dim=1):
        logits, cache = model.extend(part, cache)  # type: ignore[operator]
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_first_losses_are_those_of_a_guess_and_gradients_reach_every_weight(kind: str) -> None:
    model, tokens = network(kind), some_tokens(16, 24)
    loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(37), abs=0.3)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_short_text_is_learnt_by_heart(kind: str) -> None:
    model = network(kind).train()
    text = some_tokens(1, 24)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(90):
        loss = F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 0.3


def test_weights_begin_as_in_gpt2() -> None:
    model = gpt(FACTS, layers=8, width=128, heads=4)
    weights = dict(model.named_parameters())
    assert weights["blocks.3.up.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert weights["blocks.3.down.weight"].std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert weights["blocks.0.attention.out.weight"].std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert all(not value.any() for name, value in weights.items() if name.endswith("bias"))
    assert [name for name in weights if "tokens" in name] == ["tokens.weight"], "the table is there once"


def test_rotated_vectors_meet_by_their_distance_alone() -> None:
    cosine, sine = rotation(50, 8)
    one, two = torch.randn(2, 1, 1, 1, 8)

    def product(place: int, other: int) -> float:
        turned = rotate(one, cosine[place], sine[place]) * rotate(two, cosine[other], sine[other])
        return float(turned.sum())

    assert product(3, 10) == pytest.approx(product(33, 40), abs=1e-4)
    assert product(3, 10) != pytest.approx(product(3, 11), abs=1e-4)


def test_the_last_places_may_look_at_all_before_them() -> None:
    assert causal_mask(3, 3, torch.device("cpu")).equal(torch.ones(3, 3, dtype=torch.bool).tril())
    assert causal_mask(1, 5, torch.device("cpu")).all()


def test_a_network_forgets_little_at_first() -> None:
    biases = {name: value for name, value in network("lstm").named_parameters() if "bias_ih" in name}
    assert len(biases) == 2
    assert all((value[32:64] == 1).all() for value in biases.values())


@pytest.mark.parametrize("kind", KINDS)
def test_networks_are_built_without_memory(kind: str) -> None:
    with torch.device("meta"):
        assert all(value.is_meta for value in network(kind).state_dict().values())


def test_more_tokens_than_places_are_refused() -> None:
    model = network("rotary")
    with pytest.raises(ModelError, match="more tokens than"):
        model(some_tokens(1, 25))
    _, cache = model.extend(some_tokens(1, 24))  # type: ignore[operator]
    with pytest.raises(ModelError, match="more tokens than"):
        model.extend(some_tokens(1, 1), cache)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("build", "arguments", "where"),
    [
        (gpt, {"layers": 0}, "model.layers"),
        (gpt, {"width": "big"}, "model.width"),
        (gpt, {"heads": 5}, "model.heads"),
        (gpt, {"width": 12, "heads": 4}, "model.heads"),
        (gpt, {"dropout": 1.0}, "model.dropout"),
        (gpt, {"positions": "sine"}, "model.positions"),
        (lstm, {"width": True}, "model.width"),
        (lstm, {"dropout": -0.1}, "model.dropout"),
    ],
)
def test_arguments_out_of_range_are_named(build: Any, arguments: dict[str, Any], where: str) -> None:
    with pytest.raises(ModelError) as caught:
        build(FACTS, **arguments)
    assert caught.value.where == where


def test_heads_of_an_odd_width_go_with_learned_places() -> None:
    assert gpt(FACTS, width=12, heads=4, positions="learned")(some_tokens()).shape == (3, 20, 37)


# GPT-2 from transformers


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A tiny GPT-2 of random weights, and the folder that ``transformers`` saved it in."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        ["the cat sat on the mat"] * 3,
        trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    config = transformers.GPT2Config(
        vocab_size=size, n_positions=40, n_embd=48, n_layer=3, n_head=4, eos_token_id=size - 1, bos_token_id=size - 1
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    for parameter in model.parameters():
        # Far from the start, so that no part is close to doing nothing.
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return model, folder


def test_logits_are_those_of_transformers(theirs: tuple[Any, Path]) -> None:
    model, folder = theirs
    facts = checkpoint.facts(folder, 1024)
    assert facts["context"] == 40
    ours = checkpoint.gpt2(facts).eval()
    assert isinstance(ours, GPT)
    checkpoint.fill(ours, folder)
    tokens = torch.randint(facts["vocabulary"], (4, 40), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        wanted = model(tokens).logits
        torch.testing.assert_close(ours(tokens), wanted, atol=1e-4, rtol=1e-4)
        first, cache = ours.extend(tokens[:, :9])  # type: ignore[operator]
        rest, _ = ours.extend(tokens[:, 9:], cache)  # type: ignore[operator]
        torch.testing.assert_close(torch.cat([first, rest], 1), wanted, atol=1e-4, rtol=1e-4)


def test_a_gpt2_is_trained_further_and_saved_with_its_tokeniser(theirs: tuple[Any, Path], tmp_path: Path) -> None:
    folder = tmp_path / "gpt2"
    shutil.copytree(theirs[1], folder)
    (tmp_path / "book.txt").write_text("the cat sat on the mat\n" * 60)
    settings = (f"options.pretrained={folder}", "train.eval_batch_size=8", "log.tensorboard=false")
    run = flambeau.train(
        str(tmp_path / "book.txt"),
        model="gpt2",
        epochs=1,
        settings=settings,
        device="cpu",
        out=tmp_path / "run",
        quiet=True,
    )
    shutil.rmtree(folder)
    model = flambeau.load(run.path)
    assert model.facts["context"] == 40
    start = load_file(theirs[1] / "model.safetensors")["transformer.wpe.weight"]
    # One epoch moves the weights a little from where they began, and not from somewhere else.
    places = model.network.state_dict()["network.places.weight"]
    assert 0 < (places - start).abs().max() < 0.1
    assert model.predict(["the cat"])[0]["tokens"] > 1
    with pytest.raises(RecipeError, match=r"options\.pretrained"):
        flambeau.train(str(tmp_path / "book.txt"), model="gpt2", out=tmp_path / "other", quiet=True)


def test_a_folder_that_is_no_gpt2_is_refused(theirs: tuple[Any, Path], tmp_path: Path) -> None:
    config = json.loads((theirs[1] / "config.json").read_text())
    with pytest.raises(ModelError, match=r"must hold config\.json"):
        checkpoint.facts(tmp_path, 16)
    for change, message in (
        ({"model_type": "bert"}, "not the configuration"),
        ({"n_layer": None}, "not the configuration"),
        ({"activation_function": "relu"}, "activation_function"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ModelError, match=message):
            checkpoint.facts(tmp_path, 16)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        checkpoint.facts(tmp_path, 16)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"must hold tokenizer\.json"):
        checkpoint.facts(tmp_path, 16)


def test_weights_that_do_not_fit_are_refused(theirs: tuple[Any, Path], tmp_path: Path) -> None:
    network = checkpoint.gpt2(checkpoint.facts(theirs[1], 16))
    assert isinstance(network, GPT)
    with pytest.raises(ModelError, match="holds no weights"):
        checkpoint.fill(network, tmp_path)
    weights = load_file(theirs[1] / "model.safetensors")
    missing = {name: value for name, value in weights.items() if "h.1.mlp.c_fc.bias" not in name}
    save_file(missing, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"do not fit.*blocks\.1\.up\.bias"):
        checkpoint.fill(network, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
    with pytest.raises(ModelError, match="cannot be read"):
        checkpoint.fill(network, tmp_path)
