"""The protocol and the plain ways, as clients use them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http
from PIL import Image
from serving import Client, serving

import flambeau
from flambeau.model import Model


def png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Five pictures of digits, uint8 ``(5, 8, 8, 1)``."""
    column = flambeau.datasets.load("digits").splits["train"].tensor("image")
    return column[:5].permute(0, 2, 3, 1).contiguous().numpy()


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    found = flambeau.load(trained)
    assert isinstance(found, Model)
    return found


@pytest.fixture(scope="module")
def client(trained: Path) -> Iterator[Client]:
    with serving(f"digits={trained}", f"digits={trained}", f"again={trained / 'model.safetensors'}") as found:
        yield found


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compressed", [None, "gzip", "deflate"])
def test_tritons_client_gets_what_predict_gives(
    client: Client, model: Model, images: np.ndarray, binary: bool, compressed: str | None
) -> None:
    with tritonclient.http.InferenceServerClient(f"localhost:{client.port}") as triton:
        tensor = tritonclient.http.InferInput("image", images.shape, "UINT8")
        tensor.set_data_from_numpy(images, binary_data=binary)
        wanted = [
            tritonclient.http.InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "class")
        ]
        found = triton.infer(
            "digits",
            [tensor],
            outputs=wanted,
            request_id="7",
            request_compression_algorithm=compressed,
            response_compression_algorithm=compressed,
        )
    expected = model.predict(list(images))
    named = [answer["class"] for answer in expected]
    said = [value.decode() if isinstance(value, bytes) else value for value in found.as_numpy("class")]
    assert said == named
    tops = found.as_numpy("probabilities").max(1)
    assert np.allclose(tops, [answer["probability"] for answer in expected], atol=1e-5)
    assert found.get_response()["id"] == "7"


def test_tritons_client_finds_health_and_metadata(client: Client) -> None:
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{client.port}") as triton:
        assert triton.is_server_live()
        assert triton.is_server_ready()
        assert triton.is_model_ready("digits")
        assert triton.is_model_ready("digits", "2")
        assert not triton.is_model_ready("digits", "3")
        assert triton.get_server_metadata()["name"] == "flambeau"
        about = triton.get_model_metadata("digits")
    assert about["versions"] == ["1", "2"]
    assert about["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, -1]}]
    assert [output["name"] for output in about["outputs"]] == ["probabilities", "class"]


def test_files_in_bytes_tensors_are_pictures(client: Client, model: Model, images: np.ndarray) -> None:
    files = np.array([[png(image[:, :, 0])] for image in images], dtype=object)
    with tritonclient.http.InferenceServerClient(f"localhost:{client.port}") as triton:
        tensor = tritonclient.http.InferInput("image", files.shape, "BYTES")
        tensor.set_data_from_numpy(files)
        found = triton.infer("digits", [tensor], model_version="1")
    assert found.get_response()["model_version"] == "1"
    tops = [answer["probability"] for answer in model.predict(list(images))]
    assert np.allclose(found.as_numpy("probabilities").max(1), tops, atol=1e-5)


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_a_picture_as_the_body_is_classified(client: Client, model: Model, images: np.ndarray, kind: str) -> None:
    reply = client.post("/v2/models/digits/classify?top=2", png(images[0, :, :, 0]), kind)
    assert reply.status == 200
    assert reply.json["model_version"] == "2"
    [found], wanted = reply.json["predictions"], model.predict(images[0], top=2)
    assert found["class"] == wanted["class"]
    assert [entry["class"] for entry in found["classes"]] == [entry["class"] for entry in wanted["classes"]]
    assert found["probability"] == pytest.approx(wanted["probability"], abs=1e-5)


def test_several_pictures_in_a_form_are_answered_in_order_with_their_names(
    client: Client, model: Model, images: np.ndarray
) -> None:
    parts = []
    for number, image in enumerate(images):
        head = f'--b\r\ncontent-disposition: form-data; name="f"; filename="{number}.png"\r\n\r\n'
        parts.append(head.encode() + png(image[:, :, 0]) + b"\r\n")
    body = b"".join(parts) + b"--b--\r\n"
    reply = client.post("/v2/models/digits/predict?abstain_below=0.99", body, "multipart/form-data; boundary=b")
    assert reply.status == 200, reply.body
    found = reply.json["predictions"]
    wanted = model.predict(list(images), abstain_below=0.99)
    assert [row["name"] for row in found] == [f"{number}.png" for number in range(len(images))]
    assert [row["class"] for row in found] == [row["class"] for row in wanted]
    assert [row["abstains"] for row in found] == [row["abstains"] for row in wanted]


def test_a_bad_picture_among_good_ones_is_named(client: Client, images: np.ndarray) -> None:
    head = b'--b\r\ncontent-disposition: form-data; name="f"; filename="x"\r\n\r\n'
    body = head + png(images[0, :, :, 0]) + b"\r\n" + head + b"no picture\r\n--b--\r\n"
    reply = client.post("/v2/models/digits/predict", body, "multipart/form-data; boundary=b")
    assert reply.status == 400
    assert list(reply.json["details"]["rows"]) == ["1"]
    assert "on-bad" not in reply.body.decode()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/nothing", 404),
        ("/v2/models/digit/ready", 404),
        ("/v2/models/digits/versions/9", 404),
        ("/v2/models/digits/versions/x/ready", 404),
        ("/nowhere", 404),
        ("/v2/models/digits/infer", 405),
    ],
)
def test_what_is_not_there_says_so(client: Client, path: str, status: int) -> None:
    reply = client.get(path)
    assert reply.status == status
    if path == "/v2/models/digit/ready":
        assert "Did you mean digits?" in reply.json["error"]


@pytest.mark.parametrize("query", ["top=0", "top=x", "abstain_below=2", "abstain_below=nan"])
def test_a_parameter_that_is_none_gets_a_400(client: Client, images: np.ndarray, query: str) -> None:
    reply = client.post(f"/v2/models/digits/predict?{query}", png(images[0, :, :, 0]), "image/png")
    assert reply.status == 400
    assert query.partition("=")[0] in reply.json["error"]


def test_metrics_count_requests_and_batches(client: Client, images: np.ndarray) -> None:
    client.post("/v2/models/again/predict", png(images[0, :, :, 0]), "image/png")
    client.post("/v2/models/unheard-of/predict", b"", "image/png")
    text = client.get("/metrics").body.decode()
    assert 'flambeau_requests_total{model="again",operation="predict",status="200"} 1.0' in text
    assert 'flambeau_batch_rows_count{model="again",version="1"} 1.0' in text
    assert 'flambeau_waiting_requests{model="again",version="1"} 0.0' in text
    # A name that a client makes up is no label, or anybody could fill the server's memory with them.
    assert "unheard-of" not in text
    assert 'model="unknown"' in text


def test_without_the_token_only_health_is_answered(trained: Path) -> None:
    with serving(f"digits={trained}", token="secret") as client:
        assert client.get("/v2/health/ready").status == 200
        for path in ("/v2", "/v2/models/digits", "/metrics", "/openapi.json", "/nowhere"):
            assert client.get(path).status == 401
            assert client.get(path, authorization="Bearer wrong").status == 401
        assert client.get("/v2", authorization="Bearer secret").status == 200
        # With a token, the server may be addressed by any name.
        assert client.get("/v2", authorization="Bearer secret", host="example.org").status == 200


def test_on_loopback_other_names_are_not_answered(client: Client) -> None:
    assert client.get("/v2", host="localhost:1").status == 200
    assert client.get("/v2", host="[::1]:8000").status == 200
    for name in ("evil.example", "127.0.0.1.evil.example", ""):
        assert client.get("/v2", host=name).status == 421


def test_the_document_describes_every_operation(client: Client) -> None:
    document = json.loads(client.get("/openapi.json").body)
    assert {"/v2/models/{model}/infer", "/v2/models/{model}/predict", "/v2/health/ready"} <= document["paths"].keys()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
