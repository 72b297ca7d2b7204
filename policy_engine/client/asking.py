"""Asking a decision point, and getting a permission whose budget counts from before the question was sent.

Rules of the room: a connection of its own for each question; whatever is not a readable answer in time is no answer,
and without an answer nothing is allowed. Left to others: batches, connection pools, retries.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Final

from policy_engine.client.clock import Clock, budget_clock
from policy_engine.client.connection import Address, answer_of
from policy_engine.client.heard import Heard
from policy_engine.client.permission import Answer, Permission, Question

EVALUATION: Final = "/access/v1/evaluation"
ANSWER_BYTES_MAX: Final = 1_048_576
ANSWER_SECONDS: Final = 5.0


class Unanswered(Exception):
    """There is no readable answer, so nothing is allowed."""


class DecisionPoint:
    """A decision point as one enforcement point asks it; share `heard` with its `Listener`."""

    def __init__(
        self,
        address: Address,
        heard: Heard | None = None,
        *,
        clock: Clock = budget_clock,
        timeout_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.heard = Heard() if heard is None else heard
        self._address = address
        self._clock = clock
        self._timeout_seconds = timeout_seconds

    def ask(self, body: Mapping[str, Any]) -> Permission:
        """Ask with an AuthZEN body and return what the answer permits. Raises `Unanswered`."""
        model, action = str(body["resource"]["id"]), str(body["action"]["name"])
        content = json.dumps(body).encode("utf-8")
        headers = {**self._address.headers, "Content-Type": "application/json"}
        question = Question.of(model, action, self.heard, self._clock)
        until = time.monotonic() + self._timeout_seconds
        connection = self._address.connection(self._timeout_seconds)
        try:
            connection.request("POST", self._address.path(EVALUATION), content, headers)
            response = answer_of(connection, until)
            said = response.read(ANSWER_BYTES_MAX)
            if response.status != 200:
                raise Unanswered(f"the decision point answered {response.status}")
            return question.answered(Answer.read(json.loads(said)))
        except (OSError, HTTPException, ValueError, RecursionError):
            raise Unanswered("the decision point gave no readable answer") from None
        finally:
            connection.close()
