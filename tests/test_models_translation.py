"""The translating networks against PyTorch's own layers, and against what must not change their answers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flambeau.errors import ModelError
from flambeau.models.search import PAD, START
from flambeau.models.seq2seq import seq2seq
from flambeau.models.transformer import DecoderLayer, EncoderLayer, sinusoids, transformer
from flambeau.models.translator import Translator, check_translator

FACTS = {"vocabulary": 30}
MADE: dict[str, Any] = {
    "transformer": lambda: transformer(FACTS, width=16, layers=2, heads=4, inner=24, attention_dropout=0.1),
    "learned": lambda: transformer(FACTS, width=16, layers=1, heads=2, inner=24, positions="learned", longest=12),
    "seq2seq": lambda: seq2seq(FACTS, embedding=12, hidden=10),
    "deep": lambda: seq2seq(FACTS, embedding=12, hidden=10, layers=2),
    "additive": lambda: seq2seq(FACTS, embedding=12, hidden=10, attention="additive"),
}

SOURCE = torch.tensor([[5, 6, 7, 3, 0, 0], [8, 9, 10, 11, 12, 3], [4, 3, 0, 0, 0, 0]])
TARGET = torch.tensor([[2, 14, 15, 16, 17], [2, 18, 19, 20, 21], [2, 22, 23, 24, 25]])


@pytest.fixture(params=list(MADE))
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(3)
    made: nn.Module = MADE[request.param]()
    return made.eval()


def test_step_by_step_gives_what_the_whole_target_gives(network: Any) -> None:
    whole = network(SOURCE, TARGET)
    memory, state = network.begin(SOURCE)
    for place in range(TARGET.shape[1]):
        logits, state = network.step(TARGET[:, place], memory, state)
        assert torch.allclose(logits, whole[:, place], atol=1e-5)
    assert all(len(tensor) == 3 for tensor in [*memory.values(), *state.values()])


def test_padding_changes_nothing_and_the_future_is_not_seen(network: nn.Module) -> None:
    whole = network(SOURCE, TARGET)
    for row, length in ((0, 4), (2, 2)):
        alone = network(SOURCE[row : row + 1, :length], TARGET[row : row + 1])
        assert torch.allclose(alone[0], whole[row], atol=1e-5)
    changed = TARGET.clone()
    changed[:, 3:] = 29
    assert torch.allclose(network(SOURCE, changed)[:, :3], whole[:, :3], atol=1e-6)
    assert not torch.allclose(network(SOURCE, changed)[:, 3:], whole[:, 3:], atol=1e-3)


def test_the_source_matters_and_so_does_its_order(network: nn.Module) -> None:
    turned = SOURCE.clone()
    turned[1, :5] = SOURCE[1, :5].flip(0)
    assert not torch.allclose(network(turned, TARGET)[1], network(SOURCE, TARGET)[1], atol=1e-3)


def test_attention_is_a_distribution_over_what_is_there(network: Any) -> None:
    weights = network.attention(SOURCE, TARGET)
    assert weights.shape == (3, 5, 6)
    assert torch.allclose(weights.sum(2), torch.ones(3, 5), atol=1e-5)
    assert not weights[SOURCE[:, None, :].expand_as(weights) == PAD].any()


def test_every_parameter_learns(network: Any) -> None:
    network.train()
    network(SOURCE, TARGET).logsumexp(2).sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    # A key's bias shifts all scores of a softmax alike, so it never matters.
    assert [name for name in silent if "key" not in name] == []


@pytest.mark.parametrize("name", list(MADE))
def test_they_can_be_built_without_memory(name: str) -> None:
    with torch.device("meta"):
        made = MADE[name]()
    assert all(parameter.is_meta for parameter in made.parameters())
    check_translator(made, FACTS)
    real = MADE[name]()
    assert {n: p.shape for n, p in made.named_parameters()} == {n: p.shape for n, p in real.named_parameters()}


def copy_attention(ours: Any, theirs: nn.MultiheadAttention) -> None:
    theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())


@torch.no_grad()
def test_layers_are_those_of_pytorch() -> None:
    torch.manual_seed(0)
    x, states = torch.randn(3, 5, 16), torch.randn(3, 6, 16)
    there = SOURCE != PAD
    encoder = EncoderLayer(16, 4, 24, 0.0, 0.0).eval()
    same = nn.TransformerEncoderLayer(16, 4, 24, 0.0, batch_first=True, norm_first=True).eval()
    copy_attention(encoder.within, same.self_attn)
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (encoder.within_norm, same.norm1),
        (encoder.feed_norm, same.norm2),
        (encoder.feed[0], same.linear1),  # type: ignore[index]
        (encoder.feed[2], same.linear2),  # type: ignore[index]
    ]
    for ours, theirs in pairs:
        theirs.load_state_dict(ours.state_dict())
    expected = same(states, src_key_padding_mask=~there)
    assert torch.allclose(encoder(states, there[:, None, None])[there], expected[there], atol=1e-5)

    decoder = DecoderLayer(16, 4, 24, 0.0, 0.0).eval()
    twin = nn.TransformerDecoderLayer(16, 4, 24, 0.0, batch_first=True, norm_first=True).eval()
    copy_attention(decoder.within, twin.self_attn)
    copy_attention(decoder.across, twin.multihead_attn)
    pairs = [
        (decoder.within_norm, twin.norm1),
        (decoder.across_norm, twin.norm2),
        (decoder.feed_norm, twin.norm3),
        (decoder.feed[0], twin.linear1),  # type: ignore[index]
        (decoder.feed[2], twin.linear2),  # type: ignore[index]
    ]
    for ours, theirs in pairs:
        theirs.load_state_dict(ours.state_dict())
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    expected = twin(x, states, tgt_mask=causal, memory_key_padding_mask=~there)
    found, _ = decoder(x, None, decoder.across.keys_values(states), there[:, None, None])
    assert torch.allclose(found, expected, atol=1e-5)


def test_positions() -> None:
    places = torch.arange(50)
    table = sinusoids(places, 8)
    assert table.shape == (50, 8)
    # The last rate is 1 / 10,000, as in the paper.
    assert torch.allclose(table[:, 3], torch.sin(places / 10_000), atol=1e-6)
    network = MADE["learned"]()
    with pytest.raises(ModelError, match="longer than the positions") as caught:
        network(torch.full((1, 13), 5), TARGET[:1])
    assert caught.value.where == "model.longest"


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"width": 0}, "model.width"),
        ({"layers": 1.5}, "model.layers"),
        ({"width": 18, "heads": 4}, "model.heads"),
        ({"width": 9, "heads": 3}, "model.heads"),
        ({"dropout": 1.0}, "model.dropout"),
        ({"attention_dropout": "much"}, "model.attention_dropout"),
        ({"positions": "rotary"}, "model.positions"),
    ],
)
def test_bad_arguments_of_a_transformer(arguments: dict[str, Any], where: str) -> None:
    with pytest.raises(ModelError) as caught:
        transformer(FACTS, **arguments)
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("arguments", "where"),
    [({"hidden": 0}, "model.hidden"), ({"attention": "dot"}, "model.attention"), ({"dropout": -0.1}, "model.dropout")],
)
def test_bad_arguments_of_a_seq2seq(arguments: dict[str, Any], where: str) -> None:
    with pytest.raises(ModelError) as caught:
        seq2seq(FACTS, **arguments)
    assert caught.value.where == where


def test_a_network_that_cannot_translate_is_refused_and_left_alone() -> None:
    class Deaf(nn.Module):
        def forward(self, source: Tensor) -> Tensor:
            return source

    class Short(nn.Module):
        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            return torch.zeros(len(target), target.shape[1], 3)

    with pytest.raises(ModelError, match="cannot translate"):
        check_translator(Deaf(), FACTS)
    with pytest.raises(ModelError, match="does not give a score to each token") as caught:
        check_translator(Short(), FACTS)
    assert caught.value.received == "(2, 2, 3)"
    torch.manual_seed(1)
    before = torch.get_rng_state()
    network = MADE["transformer"]().train()
    torch.set_rng_state(before)
    check_translator(network, FACTS)
    assert network.training and torch.equal(torch.get_rng_state(), before)


def test_the_loss_is_over_what_is_there_with_or_without_features(network: nn.Module) -> None:
    class Plain(nn.Module):
        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            logits: Tensor = network(source, target)
            return logits

    target = torch.tensor([[START, 14, 3, 0, 0], [START, 18, 19, 20, 3], [START, 3, 0, 0, 0]])
    logits, wanted = Translator(network)(SOURCE, target)
    assert wanted.tolist() == [14, 3, 18, 19, 20, 3, 3]
    assert torch.allclose(logits[0], network(SOURCE, target)[0, 0], atol=1e-5)
    assert torch.allclose(Translator(Plain())(SOURCE, target)[0], logits, atol=1e-5)
