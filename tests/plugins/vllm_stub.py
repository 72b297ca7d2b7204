"""`vllm serve` as far as `--middleware` goes: a server that loads classes by their import path, as vLLM does.

vLLM itself needs accelerators and gigabytes. What it does with the option is this: import the path, and where it is a
class, `app.add_middleware(it)`. The models behind it say what reached them.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os

import uvicorn
from fastapi import FastAPI, Request


def main() -> None:
    """Serve on the port that the test named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--served-model-name")
    parser.add_argument("--middleware", action="append", default=[])
    arguments = parser.parse_args()
    app = FastAPI()

    async def reached(request: Request) -> dict[str, object]:
        body = await request.body()
        return {"reached": arguments.served_model_name, "bytes": len(body)}

    async def well() -> dict[str, object]:
        return {}

    for path in ("/v1/chat/completions", "/v1/responses", "/invocations"):
        app.post(path)(reached)
    app.get("/health")(well)
    for path in arguments.middleware:
        module, _, name = path.rpartition(".")
        loaded = getattr(importlib.import_module(module), name)
        if not inspect.isclass(loaded):
            raise ValueError("not a class")
        app.add_middleware(loaded)
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["STUB_PORT"]), log_level="warning")


if __name__ == "__main__":
    main()
