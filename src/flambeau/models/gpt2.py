"""``gpt2``: the weights of a GPT-2 as ``transformers`` saves them, read from a local folder into our own network.

Only the folder's ``config.json``, ``tokenizer.json`` and ``model.safetensors`` are read; ``transformers`` itself is
not needed, and nothing is executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from flambeau.core import Facts
from flambeau.errors import ModelError
from flambeau.models.gpt import GPT, check_probability

REMEDY = "Save it by transformers: model.save_pretrained(FOLDER) and tokenizer.save_pretrained(FOLDER)."

_BLOCK = {
    "ln_1": "before_attention",
    "attn.c_attn": "attention.into",
    "attn.c_proj": "attention.out",
    "ln_2": "before_feed",
    "mlp.c_fc": "up",
    "mlp.c_proj": "down",
}
"""The parts of a block: their names there, and here."""


def facts(folder: Path, context: int) -> Facts:
    """What is to be known about a GPT-2 before text is read: tokeniser, sizes, the token between documents.

    Args:
        folder: With ``config.json`` and ``tokenizer.json``.
        context: Tokens to read at once; no more than the network has places for are.

    Raises:
        ModelError: A file is missing or is not what it should be, or the network is built in another way.
    """
    config = _config(folder)
    places = int(config["n_positions"])
    end = int(config["eos_token_id"])
    return {
        "tokenizer": _text(folder / "tokenizer.json"),
        "vocabulary": int(config["vocab_size"]),
        "context": min(context, places),
        "documents": 2,
        "start": end,
        "end": end,
        "unknown": None,
        "never": [],
        "pretrained": {
            "folder": str(folder.absolute()),
            "layers": int(config["n_layer"]),
            "width": int(config["n_embd"]),
            "heads": int(config["n_head"]),
            "places": places,
            "epsilon": float(config.get("layer_norm_epsilon", 1e-5)),
        },
    }


def gpt2(facts: Facts, *, dropout: float = 0.1) -> nn.Module:
    """A GPT-2 (Radford et al. 2019) of the shape that is in the folder of the recipe's ``options.pretrained``.

    Its weights come from there by :func:`fill`, which the task calls before it trains. A model that was saved has them
    in its own file and needs the folder no more.

    Args:
        facts: As :func:`facts` found them in the folder.
        dropout: The probability with which a number is dropped while it is trained further; on attention weights,
            where the original has it too, there is none.

    Returns:
        A network from tokens ``(N, T)`` to float32 logits ``(N, T, vocabulary)``, as :func:`flambeau.models.gpt.gpt`.

    Raises:
        ModelError: The probability is out of range.
    """
    check_probability("dropout", dropout)
    shape = facts.get("pretrained", {"layers": 2, "width": 32, "heads": 2, "places": facts["context"], "epsilon": 1e-5})
    network = GPT(
        facts["vocabulary"],
        shape["places"],
        shape["layers"],
        shape["width"],
        shape["heads"],
        dropout,
        "learned",
        shape["epsilon"],
    )
    network.source = shape.get("folder")
    return network


def fill(network: GPT, folder: Path) -> None:
    """Puts the weights of a folder into a network of the same shape.

    Raises:
        ModelError: There are no weights, or they do not fit.
    """
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    try:
        theirs = load_file(path)
    except FileNotFoundError as error:
        raise ModelError("The folder holds no weights of a GPT-2.", where=path, remedy=REMEDY) from error
    except Exception as error:  # safetensors raises a class of its own for damaged files
        raise ModelError("The weights cannot be read.", where=path, received=error) from error
    ours = renamed(theirs)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in ours.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ModelError(
            f"The weights do not fit the shape that config.json states: {', '.join(wrong[:5])}.",
            where=path,
            expected=[expected.get(name) for name in wrong[:5]],
            received=[found.get(name) for name in wrong[:5]],
        )
    network.load_state_dict({name: value.float() for name, value in ours.items()})


def renamed(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of ``transformers``' GPT-2 under the names of :class:`~flambeau.models.gpt.GPT`.

    Its ``Conv1D`` keeps a layer's weights with inputs in rows, where ``nn.Linear`` has outputs: they are transposed.
    Masks, which older versions saved, and the head, which is the token table again, are left out.
    """
    ours: dict[str, Tensor] = {}
    for full, value in theirs.items():
        name = full.removeprefix("transformer.")
        if name in ("wte.weight", "wpe.weight"):
            ours[{"wte.weight": "tokens.weight", "wpe.weight": "places.weight"}[name]] = value
        elif name.startswith("ln_f."):
            ours[f"norm.{name.removeprefix('ln_f.')}"] = value
        elif name.startswith("h."):
            _, number, rest = name.split(".", 2)
            part, _, kind = rest.rpartition(".")
            if part in _BLOCK:
                turned = value.t().contiguous() if ".c_" in f".{part}" and kind == "weight" else value
                ours[f"blocks.{number}.{_BLOCK[part]}.{kind}"] = turned
            elif part + kind not in ("attnbias", "attnmasked_bias"):
                ours[name] = value
        elif name != "lm_head.weight":
            ours[name] = value
    return ours


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(_text(path))
        needed = ("n_positions", "eos_token_id", "vocab_size", "n_layer", "n_embd", "n_head")
        missing = [name for name in needed if not isinstance(config.get(name), int)]
    except (ValueError, AttributeError) as error:
        raise ModelError("The configuration is not JSON.", where=path, received=error) from error
    if missing or config.get("model_type") != "gpt2":
        raise ModelError(
            "This is not the configuration of a GPT-2.",
            where=path,
            expected='model_type "gpt2" and the numbers n_positions, eos_token_id, vocab_size, n_layer, n_embd, n_head',
            received=f"model_type {config.get('model_type')!r}"
            + (f", without {', '.join(missing)}" if missing else ""),
        )
    # What would change the numbers, and our network does not have.
    odd = {
        "activation_function": config.get("activation_function", "gelu_new") not in ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": not config.get("scale_attn_weights", True),
        "scale_attn_by_inverse_layer_idx": config.get("scale_attn_by_inverse_layer_idx", False),
        "n_inner": config.get("n_inner") not in (None, 4 * config["n_embd"]),
        "tie_word_embeddings": not config.get("tie_word_embeddings", True),
        "add_cross_attention": config.get("add_cross_attention", False),
    }
    changed = [name for name, differs in odd.items() if differs]
    if changed:
        raise ModelError(
            f"This GPT-2 is built in another way than the original: {', '.join(changed)}.",
            where=path,
            received={name: config.get(name) for name in changed},
        )
    return config


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"The folder of a GPT-2 must hold {path.name}.", where=path, received=type(error).__name__, remedy=REMEDY
        ) from error
