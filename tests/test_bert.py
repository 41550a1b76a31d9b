"""Fine-tuning a pretrained encoder: a tiny BERT is pretrained here on the texts themselves, then tuned by Flambeau."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from killing import differences, fingerprint
from test_text_classification import sentences

import flambeau
from flambeau.core import Record, State
from flambeau.engine import checkpoint
from flambeau.errors import ModelError
from flambeau.models.bert import bert, checkpoint_facts, load_pretrained
from flambeau.models.text import TextClassifier

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

SETTINGS = ("train.epochs=2", "train.batch_size=16", "log.tensorboard=false", "optimizer.lr=0.003", "model.pooling=max")


def pretrain(folder: Path, texts: list[str], steps: int = 60) -> Path:
    """A BERT of 2 layers, trained to fill in masked words; saved as ``transformers`` saves it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=48, **dict(zip(names, specials, strict=True))
    )
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(fast), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=48,
    )  # fmt: skip
    model = transformers.BertForMaskedLM(config)
    rule = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = fast(texts[:96], padding=True, return_tensors="pt")
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        ids = batch["input_ids"].clone()
        masked = (torch.rand(ids.shape, generator=generator) < 0.15) & (ids > 4)
        wanted = torch.where(masked, ids, -100)
        ids[masked] = 4
        loss = model(input_ids=ids, attention_mask=batch["attention_mask"], labels=wanted).loss
        rule.zero_grad()
        loss.backward()
        rule.step()
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(tmp_path_factory.mktemp("bert") / "tiny", sentences(300)[0])


def tune(tiny: Path, out: Path, *settings: str, **more: object) -> flambeau.Run:
    return flambeau.train(
        sentences(300),
        task="text-classification",
        model="bert",
        settings=[f"model.checkpoint={tiny}", *SETTINGS, *settings],
        out=out,
        quiet=True,
        **more,  # type: ignore[arg-type]
    )


def test_facts_of_a_checkpoint(tiny: Path) -> None:
    facts = checkpoint_facts(str(tiny), None)
    assert (facts["before"], facts["after"], facts["shift"], facts["unknown"]) == ([2], [3], 1, 2)
    assert facts["max_length"] == 48
    assert checkpoint_facts(str(tiny), 12)["max_length"] == 12
    assert facts == checkpoint_facts(str(tiny), None)


def test_the_network_equals_the_encoder_of_transformers(tiny: Path) -> None:
    facts = {**checkpoint_facts(str(tiny), None), "classes": ["a", "b"]}
    network = bert(facts, checkpoint=str(tiny)).eval()
    load_pretrained(network)
    theirs = transformers.AutoModel.from_pretrained(tiny).eval()
    ids = torch.tensor([[2, 20, 30, 3], [2, 25, 3, 0]])
    there = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.no_grad():
        states = theirs(input_ids=ids, attention_mask=there).last_hidden_state[:, 0]
        torch.testing.assert_close(network((ids + 1) * there), network.head(states))
        torch.testing.assert_close(network(((ids + 1) * there)[1:, :3]), network.head(states[1:]), rtol=1e-4, atol=1e-5)


def test_fine_tuning_learns_and_needs_no_checkpoint_afterwards(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    run = tune(copy, tmp_path / "run", "train.epochs=8")
    assert run.scores["test/accuracy"] > 0.9
    shutil.rmtree(copy)
    model = flambeau.load(run.path / "model.safetensors")
    assert [row["class"] for row in model.predict(["we saw some bread", "the match"])] == ["food", "sport"]


def test_an_interrupted_run_ends_in_the_same_bits(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "INTERVAL_SECONDS", 0.0)
    reference = fingerprint(tune(tiny, tmp_path / "a" / "run").path)

    def stop(record: Record, state: State) -> None:
        if record.kind == "step" and record.step == 9:
            raise RuntimeError("stopped")

    broken = tmp_path / "b" / "run"
    with pytest.raises(RuntimeError, match="stopped"):
        tune(tiny, broken, observers=[stop])
    flambeau.resume(broken, source=sentences(300), quiet=True)
    assert not differences(broken, reference)


def test_roberta_counts_positions_and_pads_in_its_own_way(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "roberta"
    shutil.copytree(tiny, folder)
    config = transformers.RobertaConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=20, pad_token_id=1,
    )  # fmt: skip
    transformers.RobertaModel(config).save_pretrained(folder)
    facts = {**checkpoint_facts(str(folder), None), "classes": ["a", "b"]}
    assert facts["max_length"] == 18
    network = TextClassifier(bert(facts, checkpoint=str(folder))).eval()
    with torch.no_grad():
        full = torch.randint(5, 200, (1, 18))
        assert torch.isfinite(network(full)).all()
        short = torch.cat([full[:, :7], torch.zeros(1, 11, dtype=torch.int64)], 1)
        torch.testing.assert_close(network(full[:, :7]), network(short), rtol=1e-4, atol=1e-5)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(ModelError, match="could not be loaded"):
        checkpoint_facts(str(tmp_path), None)
    with pytest.raises(ModelError, match="none is named"):
        bert({"classes": ["a", "b"]})
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    facts = {**checkpoint_facts(str(pickled), None), "classes": ["a", "b"]}
    with pytest.raises(ModelError, match="could not be loaded"):
        load_pretrained(bert(facts, checkpoint=str(pickled)))
