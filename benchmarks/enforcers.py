"""The engines side by side: ours, stock pycasbin and cedarpy, each built from the same rows and asked the same way.

Rules of the room: what can be prepared before a request is prepared before it (cedarpy gets its policies, entities and
requests parsed or written already), so that the timed call is the one that a user's request waits for. An engine that
cannot serve a shape says so in one sentence (`NotMeasured`) and the run goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import cedar_text
from benchmarks.shapes import Request, Row, Shape

OURS, STOCK, CEDAR = "CompiledEnforcer", "stock pycasbin", "cedarpy"
ENGINES = (OURS, STOCK, CEDAR)


class NotMeasured(RuntimeError):
    """An engine does not serve a shape, or not in reasonable time; the message says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A built engine. `ask(*prepare(request))` is the call that is timed, `allowed` reads its result afterwards."""

    name: str
    ask: Callable[..., Any]
    prepare: Callable[[Request], tuple[Any, ...]]
    allowed: Callable[[Any], bool]
    build_seconds: float


def write(shape: Shape, rows: Iterable[Row], folder: Path) -> tuple[str, str]:
    """Write a model and its rows as Casbin reads them and return the two paths."""
    model, policy = folder / f"{shape.name}.conf", folder / f"{shape.name}.csv"
    model.write_text(shape.model, encoding="utf-8")
    policy.write_text("\n".join(", ".join(row) for row in rows) + "\n", encoding="utf-8")
    return str(model), str(policy)


def build(name: str, shape: Shape, rows: list[Row], folder: Path) -> Engine:
    """Return the named engine over the rows. Raises `NotMeasured`."""
    if name == CEDAR:
        return _cedar(shape, rows)
    paths = write(shape, rows, folder)
    began = perf_counter()
    enforcer = compiled(*paths) if name == OURS else _stock(*paths)
    seconds = perf_counter() - began
    return Engine(name, enforcer.enforce, lambda request: request, bool, seconds)


def compiled(model: str, policy: str) -> Any:
    """Return our enforcer over two files. Raises `NotMeasured` with the sentence of the refusal."""
    from policy_engine.errors import LoadRefused
    from policy_engine.rules import CompiledEnforcer

    try:
        return CompiledEnforcer(model, policy)
    except LoadRefused as error:
        text = str(error).replace(model, Path(model).name).replace(policy, Path(policy).name)
        raise NotMeasured(text) from error


def _stock(model: str, policy: str) -> Any:
    from policy_engine.rules.stock import stock_enforcer

    return stock_enforcer(model, policy)


def _cedar(shape: Shape, rows: list[Row]) -> Engine:
    try:
        import cedarpy
    except ImportError as error:
        raise NotMeasured("cedarpy is not installed; run `make setup`") from error
    text, graph = cedar_text.policies(shape.name, rows), cedar_text.entities(rows)
    began = perf_counter()
    policies = cedarpy.PolicySet.from_str(text)
    entities = cedarpy.Entities.from_json_str(graph)
    seconds = perf_counter() - began

    def prepare(request: Request) -> tuple[Any, ...]:
        return cedar_text.request(shape.name, request), policies, entities

    return Engine(CEDAR, cedarpy.is_authorized, prepare, _permitted, seconds)


def _permitted(result: Any) -> bool:
    """Return Cedar's answer. Raises when a policy erred: then the two languages do not say the same."""
    if result.diagnostics.errors:
        raise RuntimeError(f"a Cedar policy erred: {result.diagnostics.errors[0]}")
    return bool(result.allowed)
