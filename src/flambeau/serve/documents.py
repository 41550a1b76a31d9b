"""What the OpenAPI document says of requests and answers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Problem(BaseModel):
    """What is wrong with a request."""

    error: str
    """In a sentence or more, with what to do."""
    details: dict[str, Any] = {}
    """The same in parts: ``type``, ``problem``, ``where``, ``expected``, ``received``, ``remedy``."""


class ServerMetadata(BaseModel):
    """The server, in the terms of the protocol."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """One tensor of a model; -1 is any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model, in the terms of the protocol."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Readiness(BaseModel):
    """Whether requests are answered."""

    ready: bool


class Liveness(BaseModel):
    """Whether the server runs at all."""

    live: bool


class ModelReadiness(BaseModel):
    """Whether requests to a model are answered."""

    name: str
    ready: bool


class Names(BaseModel):
    """The names of all models."""

    models: list[str]


class Predictions(BaseModel):
    """Answers as ``flambeau predict`` gives them, one for each input."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    predictions: list[dict[str, Any]]


class SampleRequest(BaseModel):
    """What new examples are wanted; a model uses what means something to it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    n: int = Field(1, ge=1, le=64, description="How many.")
    prompt: str = Field("", max_length=10_000, description="The text to go on from.")
    length: int = Field(200, ge=1, le=2000, description="The most tokens of a text.")
    temperature: float = Field(
        1.0, ge=0, le=10, allow_inf_nan=False, description="Divides the logits; 0 takes the most probable token."
    )
    top_k: int | None = Field(None, ge=1, le=1_000_000, description="Draws among so many most probable tokens only.")
    seed: int = Field(0, ge=0, lt=2**53, description="Of the draws; equal ones give equal examples.")


class Samples(BaseModel):
    """New examples: texts under ``text``, or one picture with a grid under ``png``, as base64."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    samples: list[dict[str, str]]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an operation, for its ``responses``."""
    about = {
        400: "The request is not understood, or an input cannot be read.",
        401: "The token is missing or wrong.",
        404: "There is no such model or version.",
        408: "The body did not arrive in time.",
        413: "The body is too large.",
        415: "The body is of another kind.",
        500: "The server failed, and its log says why.",
        421: "The server is addressed by a name that it does not answer to.",
        503: "Too many requests wait, or the server is shutting down; Retry-After says when to come again.",
        504: "The answer was not ready by the deadline.",
    }
    return {status: {"model": Problem, "description": about[status]} for status in statuses}


ALWAYS = (401, 421)
LOOKED_UP = (*ALWAYS, 404)
COMPUTED = (*LOOKED_UP, 400, 408, 413, 415, 500, 503, 504)

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
}

INFER_REQUEST = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["inputs"],
                "properties": {
                    "id": {"type": "string"},
                    "parameters": {"type": "object"},
                    "inputs": {"type": "array", "items": _TENSOR},
                    "outputs": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["name"],
                            "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
                        },
                    },
                },
            }
        },
        "application/octet-stream": {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": "The JSON, of which the header Inference-Header-Content-Length says how long it is, and "
                "the tensors behind it.",
            }
        },
    },
}

INFER_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The outputs; in binary behind the JSON where that was asked for.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model_name", "outputs"],
                    "properties": {
                        "model_name": {"type": "string"},
                        "model_version": {"type": "string"},
                        "id": {"type": "string"},
                        "outputs": {"type": "array", "items": _TENSOR},
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}

_BINARY = {"schema": {"type": "string", "format": "binary"}}

PREDICT_REQUEST = {
    "required": True,
    "content": {
        "image/*": _BINARY,
        "audio/*": _BINARY,
        "application/octet-stream": _BINARY,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"input": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
        "text/plain": {"schema": {"type": "string"}},
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["inputs"],
                "properties": {"inputs": {"type": "array", "items": {"type": ["string", "integer"]}}},
                "description": "Texts, numbers of nodes, or files in base64.",
            }
        },
    },
}

SAMPLE_REQUEST = {"required": True, "content": {"application/json": {"schema": SampleRequest.model_json_schema()}}}
