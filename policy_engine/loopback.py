"""A sample world is for a demonstration on one machine: elsewhere it is refused, or served with a loud warning.

Left to others: what a sample is (`bootstrap`), where the service listens (`cli.serve`).
"""

from __future__ import annotations

import ipaddress

import structlog

from policy_engine.errors import StartRefused
from policy_engine.settings import Settings

log = structlog.get_logger(__name__)


def check_loopback(settings: Settings, problem: str) -> None:
    """Refuse a sample on PostgreSQL or on a host that others reach, unless it was asked for. Raises `StartRefused`."""
    if is_loopback(settings.host) and not settings.on_postgres:
        return
    if settings.sample_world != "yes":
        why = "the database is PostgreSQL" if settings.on_postgres else f"{settings.host} is no loopback address"
        raise StartRefused(
            f"{problem}, and {why}: take world/ out and start on an empty database, "
            "or set POLICY_ENGINE_SAMPLE_WORLD=yes for a demonstration",
            where="sample world",
        )
    log.warning("sample.served", host=settings.host)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's own address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
