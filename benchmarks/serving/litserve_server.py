"""LitServe as its documentation has it, with the settings that matter to speed as options.

    python litserve_server.py MODEL PORT [--batch N] [--wait SECONDS] [--workers N] [--servers N] [--fast-queue]

`POST /predict` takes `{"image": [[...]]}`, or `{"image": "..."}`, a file in base64: it takes no body that is a file.
"""

from __future__ import annotations

import argparse
from typing import Any

import litserve as ls
from network import Network, of_numbers, of_text


class One(ls.LitAPI):
    """One request at a time."""

    def __init__(self, model: str, **options: Any) -> None:
        super().__init__(**options)
        self.path = model

    def setup(self, device: str) -> None:
        self.network = Network(self.path)

    def decode_request(self, request):  # an annotation would be taken for a FastAPI parameter
        sent = request["image"]
        return of_text(sent) if isinstance(sent, str) else of_numbers(sent)

    def predict(self, x: Any) -> Any:
        return self.network.answers([x])[0]

    def encode_response(self, output: Any) -> Any:
        return output


class Several(One):
    """Requests that wait together."""

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def predict(self, x: Any) -> Any:
        return self.network.answers(list(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("port", type=int)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--wait", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--fast-queue", action="store_true")
    options = parser.parse_args()
    kind = One if options.batch == 1 else Several
    api = kind(options.model, max_batch_size=options.batch, batch_timeout=options.wait)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=options.workers, fast_queue=options.fast_queue)
    server.run(
        host="127.0.0.1",
        port=options.port,
        num_api_servers=options.servers,
        log_level="error",
        access_log=False,
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
