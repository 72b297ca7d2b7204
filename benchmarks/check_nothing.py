"""`python -m benchmarks.check_nothing PORT`: the other side of `envoy`: gRPC's own server, and a check that says yes.

It is what somebody writes who begins: the generated messages, an asynchronous method, and nothing behind it.
"""

from __future__ import annotations

import sys
from typing import Any

import grpc.aio
import uvloop
from envoy.service.auth.v3 import external_auth_pb2 as auth

SERVICE = "envoy.service.auth.v3.Authorization"


async def check(request: auth.CheckRequest, context: Any) -> auth.CheckResponse:
    """Let everything pass: an empty response is code 0."""
    return auth.CheckResponse()


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=auth.CheckRequest.FromString,
        response_serializer=auth.CheckResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Check": method}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
