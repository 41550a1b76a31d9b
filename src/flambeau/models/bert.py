"""``bert``: a pretrained encoder of Hugging Face's ``transformers`` (BERT, RoBERTa, DistilBERT, ...) with a new head.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", NAACL 2019.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from flambeau.core import Facts
from flambeau.errors import MissingExtra, ModelError, one_line
from flambeau.models.text import pool

CHECKPOINT = "checkpoint"
"""The argument of the builder that says whose tokeniser and weights are wanted."""

POOLING = ("first", "mean", "max")


def bert(facts: Facts, *, checkpoint: str = "", pooling: str = "first", dropout: float = 0.1) -> nn.Module:
    """A pretrained encoder with a linear layer on top, all of which is trained further.

    The architecture and the tokeniser are stored with the model, so that the checkpoint is needed for training alone.

    Args:
        facts: ``classes``, and ``encoder``, the configuration that :func:`checkpoint_facts` found; without it the
            checkpoint's is read.
        checkpoint: A folder with ``config.json``, ``tokenizer.json`` and ``model.safetensors``, or a name on the Hub,
            which is downloaded.
        pooling: What stands for a text: the state of its ``first`` token, or the ``mean`` or ``max`` of all.
        dropout: The probability with which a feature is dropped before the last layer.

    Returns:
        A network from int64 ``(N, T)``, the checkpoint's token numbers plus 1 with 0 for padding, to logits ``(N, K)``.

    Raises:
        ModelError: There is no checkpoint, or an argument is out of range.
        MissingExtra: ``transformers`` is not installed.
    """
    if "encoder" not in facts and not checkpoint:
        raise ModelError(
            "bert is fine-tuned from a pretrained model, and none is named.",
            where=f"model.{CHECKPOINT}",
            expected="a folder with config.json, tokenizer.json and model.safetensors, or a name on the Hub",
            remedy="For a model without pretrained weights choose lstm, gru or text-transformer.",
        )
    if pooling not in POOLING or not 0 <= dropout < 1:
        raise ModelError(
            "An argument of bert is out of range.",
            where="model",
            expected=f"pooling {' or '.join(POOLING)}, 0 <= dropout < 1",
            received=f"pooling {pooling}, dropout {dropout}",
        )
    encoder = facts["encoder"] if "encoder" in facts else _described(_config(checkpoint))
    return Pretrained({**facts, "encoder": encoder}, checkpoint, pooling, dropout)


class Pretrained(nn.Module):
    """See :func:`bert`; its weights are random until :func:`load_pretrained`."""

    def __init__(self, facts: Facts, checkpoint: str, pooling: str, dropout: float) -> None:
        super().__init__()
        transformers = _package()
        config = transformers.AutoConfig.for_model(**facts["encoder"])
        self.checkpoint, self.pooling = checkpoint, pooling
        self.padding = int(config.pad_token_id or 0)
        self.encoder = transformers.AutoModel.from_config(config)
        if getattr(self.encoder, "pooler", None) is not None:
            # Nothing here reads its output, and parameters without a gradient would only be carried along.
            self.encoder.pooler = None
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(int(config.hidden_size), len(facts["classes"]))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(N, K)`` of tokens int64 ``(N, T)``."""
        there = tokens != 0
        numbers = (tokens - 1).masked_fill(~there, self.padding)
        states = self.encoder(input_ids=numbers, attention_mask=there.long()).last_hidden_state
        pooled = states[:, 0] if self.pooling == "first" else pool(states, there.sum(1).clamp(min=1), self.pooling)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


def checkpoint_facts(checkpoint: str, max_length: int | None) -> Facts:
    """What a task must know of a checkpoint: its tokeniser and architecture, as JSON values.

    Args:
        checkpoint: A folder, or a name on the Hub.
        max_length: The most tokens of a text that are wanted; the checkpoint may take fewer.

    Returns:
        ``tokenizer`` (JSON), ``vocabulary``, ``before`` and ``after`` (the tokens around a text), ``shift`` (1: token
        numbers grow by it, so that 0 is padding whatever the checkpoint pads with), ``unknown``, ``max_length``,
        ``encoder`` (the configuration).

    Raises:
        ModelError: There is no such checkpoint, or it has no fast tokeniser.
        MissingExtra: ``transformers`` is not installed.
    """
    transformers = _package()
    config = _config(checkpoint)
    tokenizer = _fetched(checkpoint, transformers.AutoTokenizer.from_pretrained)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            "The checkpoint has no tokeniser of the fast kind.", where=checkpoint, expected="tokenizer.json"
        )
    backend.no_truncation()
    backend.no_padding()
    plain, full = (backend.encode("a", add_special_tokens=wanted).ids for wanted in (False, True))
    first = next(place for place in range(len(full)) if full[place : place + len(plain)] == plain)
    # RoBERTa numbers its positions from its padding's number on, and so takes fewer tokens than it has positions.
    unusable = int(config.pad_token_id or 0) + 1 if config.model_type in ("roberta", "camembert", "xlm-roberta") else 0
    longest = [int(getattr(config, "max_position_embeddings", 512)) - unusable, int(tokenizer.model_max_length)]
    return {
        "tokenizer": backend.to_str(),
        "vocabulary": int(config.vocab_size),
        "before": full[:first],
        "after": full[first + len(plain) :],
        "shift": 1,
        "unknown": 1 + int(tokenizer.unk_token_id or 0),
        "max_length": min(*longest, *([max_length] if max_length else [])),
        "encoder": _described(config),
    }


def _config(checkpoint: str) -> Any:
    return _fetched(checkpoint, _package().AutoConfig.from_pretrained)


def _described(config: Any) -> dict[str, Any]:
    """A configuration in JSON values, without the place that it came from."""
    described = json.loads(config.to_json_string(use_diff=False))
    return {name: value for name, value in described.items() if not name.startswith("_")}


def load_pretrained(network: nn.Module) -> None:
    """Loads the weights of its checkpoint into the encoder of a :class:`Pretrained`; leaves others alone.

    Raises:
        ModelError: They are not there, not in safetensors, or of another architecture.
    """
    if not isinstance(network, Pretrained):
        return
    transformers = _package()
    # Only safetensors: the older format is a pickle, which may run whatever its author likes.
    source = _fetched(network.checkpoint, transformers.AutoModel.from_pretrained, use_safetensors=True)
    try:
        missing, _ = network.encoder.load_state_dict(source.state_dict(), strict=False)
    except RuntimeError as error:
        raise ModelError("The weights do not fit the configuration.", where=network.checkpoint) from error
    if missing:
        raise ModelError(
            "The checkpoint does not have all weights of the encoder.",
            where=network.checkpoint,
            received=f"without {', '.join(missing[:5])}",
        )


def _fetched(checkpoint: str, load: Callable[..., Any], **settings: Any) -> Any:
    local = Path(checkpoint).expanduser()
    try:
        with _quiet():
            if local.is_dir():
                return load(local, local_files_only=True, **settings)
            return load(checkpoint, **settings)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            "The pretrained model could not be loaded.",
            where=checkpoint,
            expected="a folder with config.json, tokenizer.json and model.safetensors, or a name on the Hub",
            received=one_line(error, 200),
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the package from printing that the head is new, which is meant."""
    speech = _package().utils.logging
    verbosity, bar = speech.get_verbosity(), speech.is_progress_bar_enabled()
    speech.set_verbosity_error()
    speech.disable_progress_bar()
    try:
        yield
    finally:
        speech.set_verbosity(verbosity)
        if bar:
            speech.enable_progress_bar()


def _package() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra("transformers", "transformers", "fine-tuning pretrained encoders") from error
    return transformers
