"""Vectors of n-grams, found by hashing."""

import torch

from flambeau.models.ngrams import Ngrams


def some_tokens(vocabulary: int, length: int = 400) -> torch.Tensor:
    return torch.randint(vocabulary, (2, length), generator=torch.Generator().manual_seed(0))


def test_a_vector_depends_on_the_ngrams_that_end_there() -> None:
    made = Ngrams(3, 5_000, 4)
    vectors = made(torch.tensor([[1, 2, 3, 9, 1, 2, 3], [7, 2, 3, 1, 2, 9, 3]]))
    assert vectors[0, 2].equal(vectors[0, 6])
    # Another token two places before, one place before, or none at all.
    for row, place in ((1, 2), (1, 6), (0, 1)):
        assert not torch.isclose(vectors[0, 6], vectors[row, place]).any()


def test_vectors_of_a_text_in_two_parts_are_those_of_the_whole() -> None:
    made, tokens = Ngrams(4, 1_000, 8), some_tokens(50, 30)
    whole = made(tokens)
    for cut in (1, 2, 3, 17):
        before = tokens[:, :cut][:, -made.reach :]
        assert made(tokens[:, cut:], before).equal(whole[:, cut:])


def test_ngrams_are_spread_over_all_vectors() -> None:
    made, buckets = Ngrams(2, 256, 1), []
    made.tables[0].weight.data = torch.arange(256.0).unsqueeze(1)
    for first in range(64):
        pairs = torch.stack([torch.full((64,), first), torch.arange(64)], 1)
        buckets.append(made(pairs)[:, 1, 0])
    counts = torch.bincount(torch.cat(buckets).long(), minlength=256)
    # 4,096 pairs on 256 vectors: 16 each on average, and chance would give a deviation of 4.
    assert counts.min() >= 4
    assert counts.float().std() < 6
