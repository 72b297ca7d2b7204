"""Zoe, whom the attacks on erasure and retention are about."""

from __future__ import annotations

from tests.services.erasedsamples import Office

ZOE = "zoe-7731"


def there(office: Office) -> bool:
    """Return whether Zoe is still there: row, bodies and keys."""
    return office.store.row("persons", ZOE) is not None and office.mark((office.publics()[0]["log"], 2)) is None
