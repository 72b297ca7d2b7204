"""`python -m benchmarks.cut_clients PORT COUNT`: opens streams, says `open`, and prints when each had its end.

The clients of `cut`, in a process of their own so that reading a thousand streams costs the server nothing.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time

SECRET = "a-secret-that-only-the-proxy-knows"  # noqa: S105  of a proxy that is this file
WAIT_SECONDS = 60.0
BODY = b'{"model":"fable-5","stream":true}'
REQUEST = (
    b"POST /v1/chat/completions?%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"X-Proxy-Secret: " + SECRET.encode() + b"\r\nX-User: alice\r\nX-Tenant: acme\r\nX-Country: US\r\n"
    b"Content-Length: %d\r\n\r\n%s"
)


async def client(port: int, opened: asyncio.Semaphore, *, silent: bool) -> float:
    """Return when the stream had its error. Raises what a stream raises that does not open or ends otherwise."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(REQUEST % (b"silent=1" if silent else b"", len(BODY), BODY))
        seen = await reader.readuntil(b"data: one\n\n")
        opened.release()
        while b"model_suspended" not in seen:
            piece = await reader.read(65_536)
            if not piece:
                raise ConnectionError("a stream ended without its error")
            seen = seen[-4_096:] + piece
        return time.monotonic()
    finally:
        writer.close()


async def main(port: int, count: int) -> None:
    """Open the streams, say so, and print the ends."""
    opened = asyncio.Semaphore(0)
    async with asyncio.timeout(WAIT_SECONDS):
        tasks = [asyncio.create_task(client(port, opened, silent=bool(number % 2))) for number in range(count)]
        for _ in range(count):
            await opened.acquire()
        print("open", flush=True)
        print(json.dumps(await asyncio.gather(*tasks)), flush=True)


def allow_files(count: int) -> None:
    """Raise the limit of open files as far as this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 100 if hard == resource.RLIM_INFINITY else min(count + 100, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    allow_files(2 * int(sys.argv[2]))
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
