"""Every task over HTTP: what a server answers is what the model answers."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conduct import close, inputs, trained
from serving import Client, serving
from small_data import case

from flambeau import catalog
from flambeau.tasks.wires import texts_array


@pytest.mark.parametrize("name", catalog.task_names())
def test_a_server_answers_as_the_model_does(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp()
    run = trained(name, base)
    model = run.model
    task = catalog.task(name)
    raws = inputs(task, case(name), base)
    wanted = model.predict(raws)
    with serving(f"it={run.path}") as client:
        found = client.post("/v2/models/it/predict", {"inputs": [_in_json(raw) for raw in raws]})
        assert found.status == 200, found.body
        assert close(found.json["predictions"], wanted)
        _check_tensors(client, model, raws, wanted)


def _in_json(raw: Any) -> Any:
    """Files in base64, texts and numbers as they are."""
    if isinstance(raw, Path):
        return base64.b64encode(raw.read_bytes()).decode()
    return int(raw) if str(raw).isdigit() else raw


def _check_tensors(client: Client, model: Any, raws: list[Any], wanted: list[Any]) -> None:
    """The same by the protocol: shapes are as the metadata says, values as the model's."""
    metadata = client.get("/v2/models/it").json
    wire = model.task.wire(model.facts)
    if wire.text:
        data, datatype, shape, parameters = list(raws), "BYTES", [len(raws)], {}
    elif wire.files:
        data = [base64.b64encode(raw.read_bytes()).decode() for raw in raws]
        datatype, shape, parameters = "BYTES", [len(raws)], {"content_type": "base64"}
    else:
        data, datatype, shape, parameters = [int(raw) for raw in raws], "INT64", [len(raws)], {}
    [slot] = metadata["inputs"]
    tensor = {"name": slot["name"], "datatype": datatype, "shape": shape, "data": data, "parameters": parameters}
    reply = client.post("/v2/models/it/infer", {"id": "7", "inputs": [tensor]})
    assert reply.status == 200, reply.body
    answer = reply.json
    assert answer["id"] == "7"
    arrays = wire.tensors(wanted)
    assert [output["name"] for output in answer["outputs"]] == [slot["name"] for slot in metadata["outputs"]]
    for output, slot in zip(answer["outputs"], metadata["outputs"], strict=True):
        expected = arrays[output["name"]]
        assert output["datatype"] == slot["datatype"]
        assert output["shape"] == list(expected.shape)
        assert all(side in (-1, length) for side, length in zip(slot["shape"], output["shape"], strict=True))
        if expected.dtype == object:
            assert texts_array(output["data"]).tolist() == expected.reshape(-1).tolist()
        else:
            found = np.array(output["data"], dtype=np.float32).reshape(expected.shape)
            assert np.allclose(found, expected, atol=1e-5)
