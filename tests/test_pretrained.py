"""Published weights: fetched from a server on this machine, checked, put into networks; frozen networks."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from test_eject import execute, require_equal
from torch import Tensor, nn

import flambeau
from flambeau import catalog, datasets
from flambeau.columns import Split
from flambeau.errors import ModelError, RecipeError
from flambeau.models.classifier import Classifier
from flambeau.models.frozen import Frozen, freeze, head_of, plain_weights, transfer
from flambeau.models.torchvision_networks import Network, family_of
from flambeau.models.weights import ADDRESS, Weights, fetch, read
from flambeau.tasks.image_inputs import condense
from flambeau.workflow.planning import resolve
from flambeau.workflow.starting import is_free, started

NAME = "shufflenet_v2_x0_5"
IMAGENET = [0.485, 0.456, 0.406]


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no address but the publisher's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(ADDRESS, raising=False)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def www(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address of a web server on this machine that serves it."""
    folder = tmp_path / "www"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def publish(folder: Path, content: object, name: str = "tiny") -> Weights:
    """Writes a file as publishers do, with the beginning of its sum in its name."""
    torch.save(content, folder / "file")
    digest = hashlib.sha256((folder / "file").read_bytes()).hexdigest()[:8]
    (folder / "file").rename(folder / f"{name}-{digest}.pth")
    return Weights(f"{name} weights", f"https://example.invalid/models/{name}-{digest}.pth", 1.0, "not stated")


def test_weights_are_fetched_once_from_a_mirror_and_checked(
    www: tuple[Path, str], cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = publish(www[0], {"weight": torch.arange(6.0).view(2, 3)})
    monkeypatch.setenv(ADDRESS, f"{www[1]}/")
    fetch(weights)
    out, err = capfd.readouterr()
    assert out == "" and f"Fetching tiny weights (1 MB) from {www[1]}/tiny-" in err
    assert [path.name for path in cache.iterdir()] == [weights.path.name]
    assert torch.equal(read(weights)["weight"], torch.arange(6.0).view(2, 3))
    monkeypatch.setenv(ADDRESS, "http://127.0.0.1:9")  # refuses connections
    fetch(weights)


def test_a_file_with_another_sum_is_refused_and_leaves_nothing(
    www: tuple[Path, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = publish(www[0], {"weight": torch.zeros(2)})
    (www[0] / weights.path.name).write_bytes(b"something else")
    monkeypatch.setenv(ADDRESS, www[1])
    with pytest.raises(ModelError, match="could not be fetched: invalid hash value"):
        fetch(weights)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "{}/nothing-here"])
def test_without_a_network_the_error_says_what_would_fetch(
    address: str, www: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = publish(www[0], {"weight": torch.zeros(2)})
    monkeypatch.setenv(ADDRESS, address.format(www[1]))
    with pytest.raises(ModelError, match="not in the cache") as caught:
        fetch(weights)
    assert f"curl --create-dirs -o {weights.path} {weights.url}" in str(caught.value.remedy)
    assert weights.digest in str(caught.value.expected)


def test_a_damaged_file_in_the_cache_is_noticed(cache: Path, tmp_path: Path) -> None:
    weights = publish(tmp_path, {"weight": torch.zeros(2)})
    cache.mkdir(parents=True)
    weights.path.write_bytes((tmp_path / weights.path.name).read_bytes()[:-1])
    with pytest.raises(ModelError, match="is damaged") as caught:
        read(weights)
    assert caught.value.where == str(weights.path) and "Remove it" in str(caught.value.remedy)


def test_a_file_that_would_run_code_is_refused(cache: Path, tmp_path: Path) -> None:
    weights = publish(tmp_path, {"weight": os.system})
    cache.mkdir(parents=True)
    (tmp_path / weights.path.name).rename(weights.path)
    with pytest.raises(ModelError, match="would run code"):
        read(weights)


def test_a_transfer_names_what_does_not_fit_and_changes_nothing() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    given = {**before, "0.weight": torch.ones(5, 3), "extra": torch.ones(1)}
    del given["1.bias"], given["1.num_batches_tracked"], given["2.weight"]
    with pytest.raises(ModelError, match=r"0.weight 5x3 instead of 3x4; 1.bias is missing\."):
        transfer(network, given, where="here", without=["2"])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.fixture
def published(www: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Weights of a small network, under the name that torchvision looks for, on the server."""
    from torchvision import models

    torch.manual_seed(5)
    state = models.get_model(NAME).state_dict()
    weights = publish(www[0], state, "shufflenet")
    entry = models.get_model_weights(NAME).DEFAULT
    # Only the name of the file differs from torchvision's: nobody can make another file with the published sum.
    monkeypatch.setattr(entry.value, "url", weights.url)
    monkeypatch.setenv(ADDRESS, www[1])
    return state


def begun(pictures: Path, out: Path, *settings: str) -> flambeau.Run:
    given = ["images.size=64", "model.pretrained=true", "train.epochs=2", "log.tensorboard=false", *settings]
    return flambeau.train(pictures, model=NAME, settings=given, device="cpu", out=out, quiet=True)


def test_training_begins_from_the_weights(published: dict[str, Tensor], pictures: Path, tmp_path: Path) -> None:
    run = begun(pictures, tmp_path / "run", "optimizer.lr=1e-9", "optimizer.weight_decay=0")
    assert run.recipe.model.arguments() == {"pretrained": "IMAGENET1K_V1", "stem": "standard"}
    assert run.recipe.images.channels == 3 and run.recipe.images.mean == pytest.approx(IMAGENET)
    network = flambeau.load(run).network
    assert isinstance(network, Classifier) and network.mean.flatten().tolist() == pytest.approx(IMAGENET)
    learnt = network.network.state_dict()
    assert learnt["fc.weight"].shape == (2, 1024)
    for name in ("conv1.0.weight", "stage4.3.branch2.5.weight"):
        assert torch.allclose(learnt[name], published[name], atol=1e-6)


@pytest.mark.slow
def test_a_frozen_network_keeps_its_weights_and_learns_a_head(
    published: dict[str, Tensor], pictures: Path, tmp_path: Path
) -> None:
    run = begun(pictures, tmp_path / "run", "model.freeze=true", "optimizer.lr=0.01", "log.every=1", "train.threads=1")
    network = flambeau.load(run).network.network
    assert isinstance(network, Frozen) and network.tail == ("fc",)
    kept = {name: value for name, value in network.network.state_dict().items() if not name.startswith("fc.")}
    assert all(torch.equal(value, published[name]) for name, value in kept.items()), "norms too"
    assert flambeau.load(run).predict(str(next((pictures / "dark").iterdir())))["class"] in ("dark", "bright")
    losses = [line["train/loss"] for line in run.metrics() if line["kind"] == "epoch"]
    assert losses[-1] != losses[0]
    flambeau.eject_run(run, tmp_path / "train.py")
    execute([tmp_path / "train.py"])
    require_equal(run, tmp_path)
    further = flambeau.train(
        pictures,
        init=run.path,
        settings=["model.freeze=false", "optimizer.lr=1e-9", "optimizer.weight_decay=0", "log.tensorboard=false"],
        epochs=1,
        device="cpu",
        out=tmp_path / "further",
        quiet=True,
    )
    assert further.recipe.model.arguments() == {"stem": "standard"} and further.recipe.model.freeze is False
    assert further.recipe.images.mean == pytest.approx(IMAGENET) and further.recipe.images.size == (64, 64)
    before, after = plain_weights(flambeau.load(run).network), plain_weights(flambeau.load(further).network)
    for name in ("network.conv1.0.weight", "network.fc.weight"):
        assert torch.allclose(before[name], after[name], atol=1e-6), name


def test_features_stand_for_pictures_exactly() -> None:
    torch.manual_seed(0)
    network = Network(NAME)({"classes": ["a", "b"], "size": [64, 64], "channels": 3})
    model = Classifier(freeze(network, True, torch.rand(2, 3, 64, 64)), IMAGENET, [0.2] * 3)
    pictures = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    split = Split({"image": pictures, "label": torch.zeros(5, dtype=torch.int64)})
    features = condense(model, split).tensor("image")
    assert features.shape == (5, 1024) and torch.equal(model.train()(pictures), model(features))
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        "network.network.fc.weight",
        "network.network.fc.bias",
    }
    assert list(plain_weights(model))[-2:] == ["network.fc.weight", "network.fc.bias"]
    assert head_of(model) == "network.fc"
    plain = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)))
    assert condense(plain, split) is split


@pytest.mark.parametrize(
    ("model", "mistake"),
    [
        ("resnet18 pretrained=IMAGENET1K_V7", "no such weights for resnet18; Known: IMAGENET1K_V1"),
        ("vgg16 pretrained=IMAGENET1K_FEATURES", "no such weights for vgg16"),
        ("resnet18 pretrained=true stem=small", "model.stem: The weights are for the standard stem"),
        ("resnet18 freeze=true", "model.freeze: the weights are random; set model.pretrained = true"),
        ("compact freeze=true", "model.freeze: the weights are random; go on from a model by --init"),
        ("resnet18 freeze=['layer9'] pretrained=true", "model.freeze: The network has no part called 'layer9'"),
        ("resnet18 freeze=[] pretrained=true", "model.freeze: No part is named"),
        ("resnet18 freeze=3 pretrained=true", "model.freeze"),
    ],
)
def test_mistakes_are_found_before_anything_is_fetched(model: str, mistake: str, tmp_path: Path) -> None:
    name, *arguments = model.split()
    with pytest.raises(RecipeError, match=re.escape(mistake)):
        flambeau.train(tmp_path, model=name, settings=[f"model.{text}" for text in arguments], quiet=True)


def test_grey_pictures_become_colour_and_never_the_other_way_round(pictures: Path) -> None:
    settings = ["model.pretrained=true", "images.channels=1"]
    with pytest.raises(RecipeError, match="the weights are for colour pictures"):
        flambeau.train(pictures, model=NAME, settings=settings, quiet=True)


@pytest.mark.parametrize(
    ("name", "size", "mean"),
    [("resnet18", [224, 224], IMAGENET), ("inception_v3", [299, 299], [0.5] * 3), ("vit_h_14", [518, 518], IMAGENET)],
)
def test_pictures_are_as_the_weights_want_them(name: str, size: list[int], mean: list[float]) -> None:
    wanted = Network(name).inputs({"pretrained": True})
    assert wanted["size"] == size and wanted["channels"] == 3 and wanted["mean"] == pytest.approx(mean)
    assert Network(name).inputs({}) == {}


def test_inceptions_normalisation_is_what_torchvision_turns_its_usual_one_into() -> None:
    from torchvision import models

    theirs = models.googlenet(init_weights=False, transform_input=True)
    pixels = torch.rand(2, 3, 4, 4)
    usual = (pixels - torch.tensor(IMAGENET).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    assert torch.allclose(theirs._transform_input(usual), (pixels - 0.5) / 0.5, atol=1e-6)


def test_older_names_and_other_sizes_are_turned_into_todays() -> None:
    from torchvision import models

    data = {"classes": ["a", "b"], "size": [64, 64], "channels": 3}
    with torch.device("meta"):
        vit, dense = Network("vit_b_32")(data), Network("densenet121")(data)
    old = {"encoder.pos_embedding": torch.randn(1, 50, 768)}
    assert family_of("vit_b_32").convert(vit, old)["encoder.pos_embedding"].shape == (1, 5, 768)
    renamed = family_of("densenet121").convert(dense, {"features.denseblock1.denselayer1.norm.1.weight": torch.ones(1)})
    assert list(renamed) == ["features.denseblock1.denselayer1.norm1.weight"]
    assert next(iter(renamed)) in models.densenet121().state_dict()


@pytest.mark.parametrize(("name", "head"), [("resnet18", "fc"), ("vit_b_32", "heads.head"), ("vgg11", "classifier.6")])
def test_the_head_is_the_last_layer(name: str, head: str) -> None:
    with torch.device("meta"):
        assert head_of(Network(name)({"classes": ["a", "b"], "size": [64, 64], "channels": 3})) == head


STILL = ["optimizer.lr=1e-9", "optimizer.weight_decay=0", "log.tensorboard=false"]


def test_a_model_of_ones_own_goes_on_with_other_classes(trained: Path, pictures: Path, tmp_path: Path) -> None:
    run = flambeau.train(pictures, init=trained, settings=STILL, epochs=1, device="cpu", out=tmp_path / "r", quiet=True)
    before, after = flambeau.load(trained), flambeau.load(run)
    assert after.classes == ["bright", "dark"] and after.description.architecture == before.description.architecture
    assert (after.facts["size"], after.facts["channels"]) == ([8, 8], 1)
    assert after.facts["mean"] == pytest.approx(before.facts["mean"])
    old, new = before.network.state_dict(), after.network.state_dict()
    assert torch.allclose(new["network.1.weight"], old["network.1.weight"], atol=1e-6)
    assert new["network.3.weight"].shape == (2, 16)
    assert run.recipe.initial.model == str((trained / "model.safetensors").absolute())


def test_the_head_is_kept_where_the_classes_are_the_same(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = flambeau.train("digits", init=trained / "model.safetensors", settings=STILL, epochs=1, out=out, quiet=True)
    old, new = flambeau.load(trained).network.state_dict(), flambeau.load(run).network.state_dict()
    assert torch.allclose(new["network.3.weight"], old["network.3.weight"], atol=1e-6)


def test_weights_that_do_not_fit_are_named(trained: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"network.1.weight 16x64 instead of 5x64; network.1.bias 16 instead of 5"):
        flambeau.train(pictures, init=trained, settings=["model.widths=[5]"], out=tmp_path / "run", quiet=True)
    with pytest.raises(ModelError, match="no such file"):
        flambeau.train(pictures, init=tmp_path / "absent.safetensors", quiet=True)


def test_a_small_folder_starts_from_scratch_and_says_what_would_fetch_weights(pictures: Path, tmp_path: Path) -> None:
    given = {"epochs": 1, "device": "cpu", "quiet": True}
    run = flambeau.train(pictures, settings=["train.batch_size=16"], out=tmp_path / "run", **given)
    [note] = [note for note in run.info["notes"] if "from scratch" in note]
    assert run.recipe.model.name == "compact" and "which fetches 45 MB" in note
    assert note.endswith(f"{pictures} --model resnet18 --set model.pretrained=true --set model.freeze=true")
    named = flambeau.train(pictures, model="compact", out=tmp_path / "named", **given)
    assert not any("from scratch" in note for note in named.info["notes"])


def test_a_small_folder_starts_from_weights_that_are_there(pictures: Path, cache: Path) -> None:
    task, recipe = catalog.task("image-classification"), resolve(str(pictures), None)
    assert task.start is not None
    cache.mkdir(parents=True)
    (cache / task.start.file).write_bytes(b"")  # it is looked into when training begins
    found, dataset = started(recipe, datasets.opened(recipe), task)
    assert found.model.arguments() == {"pretrained": True} and found.model.freeze and found.model.name == "resnet18"
    assert found.images.size == (224, 224) and found.images.mean == pytest.approx(IMAGENET)
    assert "--model compact" in dataset.info["notes"][-1]
    many = replace(task, start=replace(task.start, below=48))
    assert started(recipe, dataset, many) == (recipe, dataset)


@pytest.mark.parametrize(
    ("asked", "free"),
    [
        ({}, True),
        ({"source": "digits"}, False),
        ({"source": None}, False),
        ({"source": "mine.py:Data"}, False),
        ({"settings": ["model.width=8"]}, False),
        ({"settings": ["images.size=32"]}, False),
        ({"settings": ["train.epochs=2"]}, True),
        ({"recipe": "pictures"}, False),
        ({"init": "run"}, False),
        ({"model": "lenet"}, False),
    ],
)
def test_whoever_names_a_network_gets_it(asked: dict[str, Any], free: bool) -> None:
    given = {"source": "photos", "recipe": None, "model": None, "init": None, "settings": [], **asked}
    assert is_free(**given) is free


def test_what_few_pictures_start_from_is_as_published() -> None:
    start = catalog.task("image-classification").start
    assert start is not None
    weights = Network(start.model["name"]).weights({"pretrained": True})
    assert weights is not None and (weights.path.name, round(weights.megabytes)) == (start.file, start.megabytes)


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the Hub does for one file."""

    content = b""

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        known = self.path.startswith("/timm/resnet10t.c3_in1k/resolve/main/model.safetensors")
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(self.content) if known else 0))
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)


TIMM = """
import sys, torch
from flambeau.errors import ModelError
from flambeau.models.frozen import freeze
from flambeau.models.timm_networks import Network

network, asked = Network("resnet10t"), {"pretrained": True}
facts = {"classes": ["a", "b"], "size": [32, 32], "channels": 3}
try:
    print(network.fetch(asked))
except ModelError as error:
    print(error)
    sys.exit()
for frozen in (False, True):
    built = network(facts, pretrained=True)
    built = freeze(built, True, torch.rand(2, 3, *facts["size"])) if frozen else built
    network.begin(built, facts, asked)
    print({float(value.unique()) for name, value in built.state_dict().items() if name.endswith("conv1.0.weight")})
"""


@pytest.mark.slow
def test_weights_of_timm_come_from_the_hub_or_its_mirror(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    state = timm.create_model("resnet10t").state_dict()
    state["conv1.0.weight"].fill_(0.25)
    handler = type("Made", (Hub,), {"content": safetensors.torch.save(state)})

    def run() -> str:
        address = f"http://127.0.0.1:{running.server_address[1]}"
        environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", TIMM]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        out = run()
        assert "timm/resnet10t.c3_in1k of timm" in out and "licence of the weights: apache-2.0" in out
        assert out.splitlines()[1:] == ["{0.25}", "{0.25}"]
        [blob] = (tmp_path / "hub").rglob("blobs/*")
        blob.write_bytes(b"damaged")
        assert "The file of weights is damaged" in run()
        running.shutdown()
        thread.join()
