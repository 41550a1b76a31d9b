"""Tokenisers: lossless where they say so, deterministic, and deaf to special tokens in somebody's text."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flambeau.columns import Ragged
from flambeau.data import tokens
from flambeau.data.tokenizing import load_tokenizer
from flambeau.errors import DataError, ModelError, RecipeError
from flambeau.recipe import Text

TEXTS = ["The cat sat on the mat.", "The dog didn't sit, it ran!", "A cat and a dog", "naïve café – 3.5 €"]
BPE = tokens.train_tokenizer(TEXTS, Text(tokenizer="bpe", vocabulary=300))
WORDS = tokens.train_tokenizer(TEXTS, Text(lower=True))
CHARACTERS = tokens.train_tokenizer(TEXTS, Text(tokenizer="characters"))


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_bpe_gives_back_any_text(text: str) -> None:
    assert tokens.decode(BPE, tokens.encode(BPE, [text])) == [text]


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=sorted(set("".join(TEXTS)))))
def test_characters_give_back_what_they_know(text: str) -> None:
    row = tokens.encode(CHARACTERS, [text])
    assert tokens.decode(CHARACTERS, row) == [text]
    assert len(row.values) == len(text)


def test_an_unknown_character_is_unknown() -> None:
    assert tokens.encode(CHARACTERS, ["a中"]).values.tolist()[1] == tokens.UNKNOWN


def test_words_keep_apostrophes_and_part_punctuation() -> None:
    row = tokens.encode(WORDS, ["The dog DIDN'T sit!"])
    assert tokens.decode(WORDS, row) == ["the dog didn't sit !"]


@pytest.mark.parametrize("tokenizer", [BPE, WORDS, CHARACTERS])
def test_special_tokens_never_come_out_of_a_text(tokenizer: str) -> None:
    row = tokens.encode(tokenizer, ["a <pad> b"])
    assert tokens.PADDING not in row.values.tolist()


@pytest.mark.parametrize("tokenizer", [BPE, WORDS, CHARACTERS])
def test_many_texts_give_what_each_gives_alone(tokenizer: str) -> None:
    texts = [*TEXTS, "", "a"]
    together = tokens.encode(tokenizer, texts)
    alone = Ragged.join([tokens.encode(tokenizer, [text]) for text in texts])
    assert torch.equal(together.values, alone.values)
    assert torch.equal(together.offsets, alone.offsets)
    assert together.values.dtype == torch.int32
    assert together.offsets.dtype == torch.int64
    assert tokens.encode(tokenizer, []).offsets.tolist() == [0]


def test_tokens_before_and_after_count_into_the_length() -> None:
    tokenizer = tokens.train_tokenizer(TEXTS, Text(lower=True), specials=("<pad>", "<unk>", "<bos>", "<eos>"))
    plain = tokens.encode(tokenizer, TEXTS[:1]).values.tolist()
    marked = tokens.encode(tokenizer, [TEXTS[0], ""], max_length=5, before=[2], after=[3])
    assert marked.row(0).tolist() == [2, *plain[:3], 3]
    assert marked.row(1).tolist() == [2, 3]
    assert tokens.decode(tokenizer, marked) == [tokens.decode(tokenizer, [plain[:3]])[0], ""]
    assert load_tokenizer(tokenizer).token_to_id("<eos>") == 3


def test_padding_is_left_out_when_decoding_a_matrix() -> None:
    rows = tokens.encode(BPE, TEXTS)
    assert tokens.decode(BPE, rows.padded()) == TEXTS


def test_a_rare_word_is_unknown() -> None:
    tokenizer = tokens.train_tokenizer(["a a b"], Text(min_count=2))
    assert tokens.encode(tokenizer, ["a b"]).values.tolist() == [2, tokens.UNKNOWN]
    assert tokens.size(tokenizer) == 3


def test_the_vocabulary_is_bounded() -> None:
    assert tokens.size(tokens.train_tokenizer(TEXTS, Text(vocabulary=7))) == 7
    assert tokens.size(BPE) <= 300


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["words", "bpe", "characters"])
def test_training_does_not_depend_on_process_or_threads(kind: str) -> None:
    program = (
        "from flambeau.data import tokens; from flambeau.recipe import Text; import hashlib\n"
        f"texts = [' '.join(str((i * j) % 97) for j in range(40)) for i in range(300)] + {TEXTS!r}\n"
        f"print(hashlib.sha256(tokens.train_tokenizer(texts, Text(tokenizer={kind!r}, vocabulary=320)).encode())"
        ".hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": parallel},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads, parallel in (("1", "false"), ("4", "true"))
    }
    assert len(found) == 1


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"text\.vocabulary: expected at least 258"):
        tokens.train_tokenizer(TEXTS, Text(tokenizer="bpe", vocabulary=100))
    with pytest.raises(DataError, match="no text"):
        tokens.train_tokenizer(["", ""], Text())
    with pytest.raises(ModelError, match="tokeniser"):
        load_tokenizer("{}")
