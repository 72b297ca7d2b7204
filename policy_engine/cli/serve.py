"""`policy-engine serve`: open the engine, print once the keys of an empty database's sample world, serve until told."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from policy_engine.cli import output
from policy_engine.cli.process import end_with_terminal
from policy_engine.cli.session import read_settings
from policy_engine.errors import InputRefused, StartRefused

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine
    from policy_engine.settings import Settings

_EXAMPLE = {
    "subject": {"type": "person", "id": "alice"},
    "action": {"name": "infer"},
    "resource": {"type": "model", "id": "fable-5"},
    "context": {"tenant": "acme", "location": "US", "serving_region": "US"},
}


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; by default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; by default 8181.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; more than one needs PostgreSQL.")] = None,
    database: Annotated[str | None, typer.Option(metavar="URL", help="sqlite:///FILE or postgresql://…")] = None,
    policies: Annotated[Path | None, typer.Option(metavar="DIR", help="The policies folder.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port for Envoy's checks over gRPC; else none.")] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate chain (PEM) to serve over TLS with; else in clear.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's key (PEM).")] = None,
) -> None:
    """Serve decisions over HTTP (AuthZEN) and the management routes, until the process is told to end."""
    from policy_engine import logs
    from policy_engine.bootstrap import open_engine

    settings = read_settings(
        host=host,
        port=port,
        workers=workers,
        database=database,
        policies=policies,
        grpc_port=grpc_port,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
    )
    if settings.workers > 1 and not settings.on_postgres:
        raise InputRefused(
            "more than one worker needs PostgreSQL; an SQLite file has one writing process", where="--workers"
        )
    logs.configure(level="info")
    run = _server()
    _require_doors(settings)
    if settings.workers > 1:
        _serve_many(settings)
    _require_free(settings.host, settings.port)
    engine = open_engine(settings, serving=True)
    # The server restores this handler and raises the signal again when it has finished: then the engine is closed.
    signal.signal(signal.SIGTERM, _end)
    end_with_terminal(_end_too)
    try:
        _announce(engine, settings)
        run(engine)
    finally:
        engine.close()


def _serve_many(settings: Settings) -> NoReturn:
    """Check and fill the database once, then leave it to the workers."""
    from policy_engine.bootstrap import open_engine
    from policy_engine.cli.workers import bound, serve_many

    with bound(settings.host, settings.port) as listener:
        engine = open_engine(settings, serving=True)
        try:
            _announce(engine, settings)
        finally:
            engine.close()
        raise typer.Exit(serve_many(settings, listener))


def _server() -> Any:
    """Return the function that serves an engine. Raises `StartRefused` without the extra that holds the server."""
    try:
        from policy_engine.api.server import run
    except ModuleNotFoundError as missing:
        raise StartRefused(
            f"serving needs the extra `server` ({missing.name} is missing): pip install 'policy-engine[server]'"
        ) from None
    return run


def _require_doors(settings: Settings) -> None:
    """Raise `StartRefused` when TLS or gRPC is asked for and cannot be, before the database is touched."""
    from policy_engine.api.certificate import certificate_of
    from policy_engine.api.checks.listening import require_possible

    certificate_of(settings)
    require_possible(settings)
    if settings.grpc_port:
        _require_free(settings.grpc_host, settings.grpc_port)


def _require_free(host: str, port: int) -> None:
    """Raise `StartRefused` when the address cannot be listened on, before the database is touched."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError:
        raise StartRefused(
            f"cannot listen on {host} port {port}: another process does, or the address is not this machine's"
        ) from None


def _announce(engine: Engine, settings: Settings) -> None:
    """Print where it serves and, on the start that made them, the sample keys with a request to paste."""
    import structlog

    scheme = "http" if settings.tls_certificate is None else "https"
    url = f"{scheme}://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{settings.port}"
    output.data(f"Serving on {url} from {settings.shown_database}.")
    if settings.grpc_port is not None:
        output.data(f"Serving Envoy's checks over gRPC on {settings.grpc_host} port {settings.grpc_port}.")
    if engine.sample_keys:
        output.data("Sample keys, printed this once:")
        for key in engine.sample_keys:
            output.data(f"  {key.label:<18}{key.secret}")
        output.data("A request to paste:")
        output.data(
            f"  curl -s {url}/access/v1/evaluation -H 'Authorization: Bearer {engine.sample_keys[0].secret}' "
            f"-H 'Content-Type: application/json' -d '{json.dumps(_EXAMPLE)}'"
        )
    state = engine.store.state()
    structlog.get_logger().info(
        "service.started",
        host=settings.host,
        port=settings.port,
        release=state.release,
        epoch=state.epoch,
        sample=state.sample,
        process=os.getpid(),
    )


def _end(number: int, frame: Any) -> None:
    sys.exit(0)


def _end_too(number: int, frame: Any) -> None:
    """End as by SIGTERM, which the server answers by finishing what is under way."""
    signal.raise_signal(signal.SIGTERM)
