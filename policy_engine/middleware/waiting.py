"""The steps of a request for doors that wait: WSGI, Django. The same as in `asgi`, on a body that is read whole.

Rules of the room: a body is read up to `limits.guarded_prefix_bytes` and refused if longer, for nothing of it may be
handed on before its end is known to hold no second model, and there is nobody to watch the rest.
Left to others: sockets (`wsgi`, `django`), the settings (`guard`).
"""

from __future__ import annotations

from collections.abc import Callable

from policy_engine.core.bodymodel import BodyProblem, BodyRefused
from policy_engine.core.decision import Decision
from policy_engine.errors import TooLarge
from policy_engine.middleware.guard import Guard
from policy_engine.middleware.head import Head
from policy_engine.middleware.listing import (
    Listed,
    allowed_of,
    models_of,
    pages_exceeded,
    query_behind,
    questions_of,
    shown_to,
)

OF_A_BODY = frozenset(("CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"))
"""What an environ says of a body, which a door that asks for one more page of a listing does not send again."""

LENGTH_DIGITS = 20


def decided(guard: Guard, head: Head, read: Callable[[], bytes]) -> Decision:
    """Return the decision, allowed or not. Raises what says that there can be none."""
    asked = guard.asked(head, guard.subject.identify(head))
    named = guard.named(head)
    in_body = None
    if guard.model.body is not None:
        if head.header("content-length") not in (None, "0") or head.header("transfer-encoding") is not None:
            guard.model.check_media(head)
        body = read()
        if body:
            boundary = guard.model.check_media(head)
            in_body = guard.model.in_whole_body(body, boundary, guard.limits)
    model = guard.resolved(guard.model.agreed(named, in_body, guard.limits))
    return guard.engine.decide(**asked.of(model))


def filtered(guard: Guard, head: Head, listed_for: Callable[[str | None], Listed]) -> Listed:
    """Return what of the application's listing this caller may use. Raises what says that nothing can be shown.

    `listed_for` asks the application, with the client's own query for `None`, and else with the query it is given.
    """
    asked = guard.asked(head, guard.subject.identify(head))
    query: str | None = None
    for _ in range(guard.limits.guarded_listing_pages_count):
        listed = listed_for(query)
        questions = questions_of(guard, asked, models_of(listed, guard.limits))
        decisions = guard.engine.decide_many(list(questions.values())) if questions else []
        found = shown_to(listed, allowed_of(questions, decisions, guard.wording))
        query = query_behind(listed, found, head.query if query is None else query)
        if query is None:
            return found
    raise pages_exceeded(guard.limits)


def declared_length(sent: str) -> int:
    """Return what a `Content-Length` says, 0 where there is none. Raises `BodyRefused` for what is no length."""
    if sent and not (sent.isascii() and sent.isdigit() and len(sent) <= LENGTH_DIGITS):
        raise BodyRefused(BodyProblem.INCOMPLETE)
    return int(sent or 0)


def check_length(length: int, guard: Guard) -> None:
    """Raise `TooLarge` for a body longer than what is read."""
    if length > guard.limits.guarded_prefix_bytes:
        raise TooLarge(f"the body is longer than {guard.limits.guarded_prefix_bytes} bytes")
