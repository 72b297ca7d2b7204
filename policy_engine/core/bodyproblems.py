"""Why no model was taken from the body of a request: one reason and one sentence each.

Rules of the room: a sentence never holds what the body says. Left to others: finding out (`bodymodel`, `formmodel`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from policy_engine.errors import InputRefused


class BodyProblem(StrEnum):
    """Why no model was taken from a body."""

    NOT_UTF8 = "not-utf-8"
    NOT_JSON = "not-json"
    NOT_AN_OBJECT = "not-an-object"
    TOO_DEEP = "too-deep"
    TOO_MANY = "too-many"
    MODEL_MISSING = "model-missing"
    MODEL_TWICE = "model-twice"
    MODEL_NOT_TEXT = "model-not-text"
    MODEL_EMPTY = "model-empty"
    MODEL_TOO_LONG = "model-too-long"
    MODEL_NOT_REACHED = "model-not-reached"
    NAME_UNCLEAR = "name-unclear"
    NAME_REFUSED = "name-refused"
    INCOMPLETE = "incomplete"
    MEDIA_TYPE = "media-type"
    NOT_A_FORM = "not-a-form"


SENTENCES: Final = {
    BodyProblem.NOT_UTF8: "the body is not valid UTF-8",
    BodyProblem.NOT_JSON: "the body is not valid JSON",
    BodyProblem.NOT_AN_OBJECT: "the body must be a JSON object, in braces",
    BodyProblem.TOO_DEEP: "the body is nested too deeply",
    BodyProblem.TOO_MANY: "the body has too many members at its top; send fewer",
    BodyProblem.MODEL_MISSING: "the body names no model; name one",
    BodyProblem.MODEL_TWICE: "the body names its model twice; name it once",
    BodyProblem.MODEL_NOT_TEXT: "the model must be a string",
    BodyProblem.MODEL_EMPTY: "the model must not be empty",
    BodyProblem.MODEL_TOO_LONG: "the name of the model is too long",
    BodyProblem.MODEL_NOT_REACHED: "the body does not name its model early enough; put the model first",
    BodyProblem.NAME_UNCLEAR: "a top-level name of the body can be read in two ways; spell names plainly, "
    "in lower case where they name the model",
    BodyProblem.NAME_REFUSED: "the body has a member that could choose another model, which is not accepted here",
    BodyProblem.INCOMPLETE: "the body goes on behind what was seen of it, so its model cannot be known; send it whole",
    BodyProblem.NOT_A_FORM: "the form is not a plain one, so its fields could be read in two ways",
    BodyProblem.MEDIA_TYPE: "the body must be application/json in UTF-8, and not compressed",
}


class BodyRefused(InputRefused):
    """No model may be taken from this body, so nothing may be asked or allowed for it. `reason` says why."""

    code = "body.refused"

    def __init__(self, reason: BodyProblem) -> None:
        self.reason = reason
        super().__init__(SENTENCES[reason])
