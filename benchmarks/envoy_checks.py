"""Envoy with our check over gRPC beside Envoy with a check in Python that does nothing: same Envoy, same client.

One Envoy has a listener for each side and answers by itself what a check lets pass, so that nothing else is measured.
The sides take turns, and judged is the median of the rounds' ratios. Every request has a body, which both checks are
shown; ours reads the model from it, decides, and answers when the entry is durable; the log must hold each entry.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import environments, servers, wrk
from benchmarks.over_http import Plan, check_entries
from benchmarks.report import Line

MODELS = ("fable-5", "opus-4-8", "fable-5-1", "summit-4", "open-1")
FACTS = {"subject": "alice", "tenant": "acme", "location": "US", "serving-region": "US"}
CONNECTIONS = 128
BOUND = 0.6


def measure(folder: Path, plan: Plan, say: Callable[[str], None]) -> list[Line]:
    """Run both sides and return the line. Needs wrk, and Envoy in its own environment."""
    wrk.required()
    envoy = environments.envoy()
    bodies = folder / "chats.jsonl"
    message = {"role": "user", "content": "Which of these orders have not been paid, and since when?"}
    lines = [json.dumps({"model": model, "messages": [message], "stream": True}) for model in MODELS]
    bodies.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with ExitStack() as ending:
        nothing, check = servers.free_port(), servers.free_port()
        ending.enter_context(servers.doing_nothing(["benchmarks.check_nothing", str(nothing)], nothing, folder))
        words = [servers.program(), "serve", "--grpc-port", str(check)]
        database = folder / "engine.db"
        engine = ending.enter_context(servers.serving(words, folder / "engine.log", f"sqlite:///{database}", {}))
        theirs, ours = servers.free_port(), servers.free_port()
        config = folder / "envoy.json"
        config.write_text(json.dumps(_configuration({theirs: nothing, ours: check}, engine.key)), encoding="utf-8")
        command = [envoy, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        ending.enter_context(servers.listening(command, ours, folder / "envoy.log"))
        say(f"Envoy with a check, {CONNECTIONS} connections")
        found = _line(bodies, theirs, ours, plan)
        check_entries(servers.Server(engine.url, engine.key, database), int(found.detail["asked"]))
    return [found]


def _line(bodies: Path, theirs: int, ours: int, plan: Plan) -> Line:
    def load(port: int, seconds: int) -> wrk.Load:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        return wrk.post(url, bodies, "none", connections=CONNECTIONS, seconds=seconds)

    for port in (theirs, ours):
        load(port, 1)
    pairs = [(load(theirs, plan.seconds), load(ours, plan.seconds)) for _ in range(plan.rounds)]
    ratios = [own.rate / other.rate for other, own in pairs]
    return Line(
        name=f"Envoy with our check, {CONNECTIONS} connections",
        unit="/s",
        ours=statistics.median(own.rate for _, own in pairs),
        theirs=statistics.median(other.rate for other, _ in pairs),
        figure=statistics.median(ratios),
        bound=BOUND,
        detail={
            "rounds_judged": [round(ratio, 3) for ratio in ratios],
            "asked": sum(own.requests for _, own in pairs),
            "p50_us": statistics.median(own.p50_us for _, own in pairs),
            "p50_us_do_nothing": statistics.median(other.p50_us for other, _ in pairs),
        },
    )


def _configuration(checks: dict[int, int], key: str) -> dict[str, Any]:
    """Return Envoy's configuration: by port of a listener, the port of the check that it asks."""
    return {
        "static_resources": {
            "listeners": [_listener(port, f"check-{at}", key) for port, at in checks.items()],
            "clusters": [_cluster(f"check-{at}", at) for at in checks.values()],
        }
    }


def _listener(port: int, cluster: str, key: str) -> dict[str, Any]:
    extensions = "type.googleapis.com/envoy.extensions.filters"
    check = {
        "@type": f"{extensions}.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "grpc_service": {
            "envoy_grpc": {"cluster_name": cluster},
            "timeout": "5s",
            "initial_metadata": [{"key": "policy-engine-key", "value": key}],
        },
        "with_request_body": {"max_request_bytes": 1_048_576, "pack_as_bytes": True},
    }
    facts = {
        "@type": f"{extensions}.http.ext_authz.v3.ExtAuthzPerRoute",
        "check_settings": {"context_extensions": {f"policy-engine-{name}": value for name, value in FACTS.items()}},
    }
    host = {
        "name": "models",
        "domains": ["*"],
        "routes": [
            {
                "match": {"prefix": "/"},
                "direct_response": {"status": 200, "body": {"inline_string": "{}"}},
                "typed_per_filter_config": {"envoy.filters.http.ext_authz": facts},
            }
        ],
    }
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": cluster,
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": check},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{extensions}.http.router.v3.Router"},
            },
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": cluster, "address": _address(port), "filter_chains": [chain]}


def _cluster(name: str, port: int) -> dict[str, Any]:
    options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
