"""What the page asks for beside answers, and new examples over HTTP."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Small
from PIL import Image
from serving import Client, serving

import flambeau
from flambeau.model import Model
from flambeau.serve.aside import Aside
from flambeau.serve.batching import Overloaded
from flambeau.serve.bodies import Refused
from flambeau.serve.limits import Limits


@pytest.fixture(scope="module")
def client(trained: Path) -> Iterator[Client]:
    with serving(f"digits={trained}") as found:
        yield found


def model_at(path: Path) -> Model:
    found = flambeau.load(path)
    assert isinstance(found, Model)
    return found


def settled(client: Client, path: str) -> Any:
    """What is read in the background, once it is there."""
    until = time.monotonic() + 60
    while (found := client.get(path).json)["state"] == "loading":
        assert time.monotonic() < until, f"{path} is never ready."
        time.sleep(0.02)
    return found


def opened(url: str) -> Image.Image:
    start, _, rest = url.partition(",")
    assert start == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(rest)))


def test_the_page_may_load_and_run_nothing_of_others(client: Client) -> None:
    index = client.get("/")
    assert index.status == 200
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    policy = index.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    text = index.body.decode()
    for name in ("page.css", "page.js", "icon.svg"):
        assert f"/page/static/{name}" in text
        reply = client.get(f"/page/static/{name}")
        assert reply.status == 200
        assert client.get(f"/page/static/{name}", if_none_match=reply.headers["etag"]).status == 304
    assert "http://" not in text
    assert "https://" not in text
    assert client.get("/page/static/nothing.js").status == 404


def test_the_card_says_what_the_model_says(client: Client, trained: Path) -> None:
    [told] = client.get("/page/models").json["models"]
    model = model_at(trained)
    assert (told["name"], told["form"], told["classes"]) == ("digits", "picture", model.classes)
    assert told["card"]["scores"] == model.scores
    assert told["card"]["data"]["hash"] == model.description.data["hash"]
    assert 'name = "mlp"' in told["card"]["recipe"]
    assert told["shows"] == {"examples": True, "looks": True, "samples": False, "confusion": True}


def test_examples_are_test_rows_of_every_class_and_can_be_asked_about(client: Client, trained: Path) -> None:
    found = settled(client, "/page/models/digits/examples")["examples"]
    model = model_at(trained)
    assert {example["truth"] for example in found} == set(model.classes)
    assert all(opened(example["picture"]).size == (8, 8) for example in found)
    reply = client.get("/page/models/digits/examples/3")
    assert reply.headers["content-type"] == "image/png"
    pixels = np.asarray(Image.open(io.BytesIO(reply.body)))
    test = flambeau.evaluate(model)  # reads the same split
    assert test.examples > len(found)
    answer = client.post("/v2/models/digits/predict", reply.body, "image/png").json["predictions"][0]
    assert answer["class"] == model.predict(pixels)["class"]
    assert client.get("/page/models/digits/examples/99").status == 404
    assert client.get("/page/models/digits/examples/x").status == 400


def test_the_confusion_is_that_of_an_evaluation(client: Client, trained: Path) -> None:
    found = settled(client, "/page/models/digits/confusion")
    wanted = flambeau.evaluate(trained).evaluation.sums["confusion"]
    assert found["matrix"] == wanted.tolist()
    assert found["rows"] == found["of"] == int(wanted.sum())


def test_a_picture_is_shown_as_the_model_sees_it(client: Client) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20), (255, 0, 0)).save(buffer, "JPEG")
    [seen] = client.post("/page/models/digits/look", buffer.getvalue(), "image/jpeg").json["insights"]
    assert "8 × 8 pixels, grey" in seen["about"]
    assert opened(seen["picture"]).size == (8, 8)
    refused = client.post("/page/models/digits/look", b"no picture", "image/png")
    assert refused.status == 400
    assert refused.json["details"]["rows"]["0"]["problem"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "word"),
    [
        ({"n": 0}, None, 400, "n"),
        ({"n": 65}, None, 400, "n"),
        ({"temperature": -1}, None, 400, "temperature"),
        ({"temperature": "hot"}, None, 400, "temperature"),
        ({"top_k": 0}, None, 400, "top_k"),
        ({"seed": 2**60}, None, 400, "seed"),
        ({"wish": 1}, None, 400, "wish"),
        ('{"temperature": NaN}', "application/json", 400, "temperature"),
        ('{"prompt": "\\ud800"}', "application/json", 400, ""),
        ("[]", "application/json", 400, ""),
        ("{}", "text/plain", 415, "application/json"),
        ("{}", "application/json", 400, "makes no new examples"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(
    client: Client, body: Any, kind: str | None, status: int, word: str
) -> None:
    reply = client.post("/v2/models/digits/sample", body, kind)
    assert (reply.status, word in reply.json["error"]) == (status, True)


def test_the_page_stays_within_the_limits(trained: Path) -> None:
    with serving(f"digits={trained}", limits=Limits(body=2000)) as client:
        assert client.post("/page/models/digits/look", bytes(3000), "image/png").status == 413
        assert client.post("/v2/models/digits/sample", b"{" + bytes(3000), "application/json").status == 413


def test_only_the_pages_own_files_are_open_without_the_token(trained: Path) -> None:
    with serving(f"digits={trained}", token="secret") as client:
        for path in ("/", "/page/static/page.js"):
            assert client.get(path).status == 200
        for path in ("/page/models", "/page/models/digits/examples", "/page/static"):
            assert client.get(path).status == 401
        assert client.get("/page/static/../models").status == 404
        assert client.post("/page/models/digits/look", b"").status == 401
        assert client.get("/page/models", authorization="Bearer secret").status == 200


def test_long_work_is_done_one_by_one_and_few_wait() -> None:
    held, running = threading.Event(), []

    def work(number: int) -> int:
        running.append(number)
        assert held.wait(20)
        return number

    async def main() -> None:
        aside = Aside(2, deadline=0.2)
        first, second = (asyncio.create_task(aside.run(lambda n=n: work(n))) for n in range(2))
        await asyncio.sleep(0.05)
        assert running == [0]
        with pytest.raises(Overloaded):
            await aside.run(lambda: work(2))
        with pytest.raises(Refused, match=r"within 0\.2 s"):
            await first
        with pytest.raises(Refused):
            await second
        # What has begun is not forgotten before it ends; what had not begun never does.
        held.set()
        await asyncio.sleep(0.05)
        assert await aside.run(lambda: 3) == 3
        assert running == [0]

    asyncio.run(main())


@pytest.mark.slow
def test_data_that_is_gone_is_said_to_be(small: Small) -> None:
    run = small("text-classification")
    table = run.parent / "reviews.csv"
    away = table.rename(table.with_suffix(".away"))
    try:
        with serving(f"texts={run}") as client:
            for section in ("examples", "confusion"):
                found = settled(client, f"/page/models/texts/{section}")
                assert found["state"] == "absent"
                assert "There are no examples, for the data cannot be read" in found["reason"]
            asked = client.post("/v2/models/texts/predict", "the goal", "text/plain")
            assert asked.status == 200
    finally:
        away.rename(table)


@pytest.mark.slow
def test_what_spoke_for_the_class_is_shown_over_the_picture(small: Small) -> None:
    run = small("image-classification")
    picture = sorted((run.parent / "pictures" / "left").iterdir())[0]
    with serving(f"pictures={run}") as client:
        seen, heat = client.post("/page/models/pictures/look", picture.read_bytes(), "image/png").json["insights"]
        answer = client.post("/v2/models/pictures/predict", picture.read_bytes(), "image/png").json["predictions"][0]
        assert f"What spoke for {answer['class']}" in heat["about"]
        assert (opened(seen["picture"]).mode, opened(heat["picture"]).mode) == ("L", "RGB")
        assert opened(seen["picture"]).size == opened(heat["picture"]).size == (16, 16)
        pixels = np.asarray(opened(heat["picture"])).astype(int)
        assert (pixels[..., 0] - pixels[..., 1]).max() > 50  # red somewhere


@pytest.mark.slow
def test_attention_is_shown_piece_by_piece(small: Small) -> None:
    run = small("translation")
    with serving(f"translator={run}") as client:
        [look] = client.post("/page/models/translator/look", "we saw some rain", "text/plain").json["insights"]
        text = client.post("/v2/models/translator/predict", "we saw some rain", "text/plain").json
        said = "".join(look["rows"]).replace("</s>", "").replace("·", " ").strip()
        assert said == text["predictions"][0]["translation"].strip()
        assert "".join(look["columns"]).replace("·", " ").strip() == "we saw some rain</s>"
        weights = np.array(look["weights"])
        assert weights.shape == (len(look["rows"]), len(look["columns"]))
        assert np.allclose(weights.sum(1), 1, atol=0.01)


@pytest.mark.slow
def test_new_examples_are_those_that_the_command_makes(small: Small) -> None:
    from flambeau.workflow.sampling import sample

    gan, book = small("gan"), small("language-model")
    with serving(f"gan={gan}", f"book={book}") as client:
        [made] = client.post("/v2/models/gan/sample", {"n": 4, "seed": 7}).json["samples"]
        [wanted] = sample(gan, n=4, seed=7)
        assert not isinstance(wanted, str)
        assert base64.b64decode(made["png"]) == wanted.png
        wish = {"n": 2, "prompt": "the soup", "length": 20, "temperature": 0.7, "top_k": 5, "seed": 3}
        reply = client.post("/v2/models/book/versions/1/sample", wish).json
        assert [made["text"] for made in reply["samples"]] == sample(book, **wish)
        assert reply["model_name"] == "book"
        many = client.post("/v2/models/book/sample", {"n": 64, "length": 2000})
        assert (many.status, "too many tokens" in many.json["error"]) == (400, True)


@pytest.mark.slow
def test_an_exported_file_says_what_it_cannot(trained: Path, tmp_path: Path) -> None:
    from flambeau.export.writing import export_model

    export_model(trained, tmp_path / "digits.onnx", "onnx")
    with serving(tmp_path / "digits.onnx") as client:
        [told] = client.get("/page/models").json["models"]
        assert told["exported"]
        assert not any(told["shows"].values())
        assert told["card"]["scores"] == model_at(trained).scores
        for reply in (
            client.get("/page/models/digits/examples"),
            client.get("/page/models/digits/confusion"),
            client.post("/page/models/digits/look", b"", "image/png"),
            client.post("/v2/models/digits/sample", {}),
        ):
            assert reply.status == 400
            assert "Serve the run or its model.safetensors" in reply.json["error"]


@pytest.mark.slow
def test_sounds_and_nodes_have_examples_that_can_be_asked_about(small: Small) -> None:
    with serving(f"sounds={small('sound-classification')}", f"nodes={small('node-classification')}") as client:
        sounds = settled(client, "/page/models/sounds/examples")["examples"]
        reply = client.get("/page/models/sounds/examples/0")
        assert reply.headers["content-type"] == "audio/wav"
        assert client.post("/v2/models/sounds/predict", reply.body, "audio/wav").status == 200
        [heard] = client.post("/page/models/sounds/look", reply.body, "audio/wav").json["insights"]
        assert opened(heard["picture"]).mode == "L"
        assert {example["truth"] for example in sounds} == {"low", "middle", "high"}
        nodes = settled(client, "/page/models/nodes/examples")["examples"]
        assert client.post("/v2/models/nodes/predict", {"inputs": [int(nodes[0]["text"])]}).status == 200
