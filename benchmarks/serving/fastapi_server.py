"""A server as a careful person writes it by hand: FastAPI, one picture at a time, the work on threads.

    python fastapi_server.py MODEL PORT

`POST /predict` takes `{"image": [[...]]}`, `POST /picture` a file.
"""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from network import Network, of_file, of_numbers
from pydantic import BaseModel

app = FastAPI()
network = Network(sys.argv[1])


class Picture(BaseModel):
    image: list[list[int]]


@app.post("/predict")
def predict(picture: Picture) -> dict[str, Any]:
    return network.answers([of_numbers(picture.image)])[0]


@app.post("/picture")
async def predict_file(request: Request) -> dict[str, Any]:
    content = await request.body()
    return await run_in_threadpool(lambda: network.answers([of_file(content)])[0])


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
