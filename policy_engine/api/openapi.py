"""The one OpenAPI document: the management routes as FastAPI knows them, and the raw decision endpoints beside them.

Rules of the room: what the raw endpoints answer is described by the models here and compared with real answers by a
test; the standard's shapes are open (unknown members are ignored), so these models are too.
Left to others: answering (`decisions`, `routes`).
"""

from __future__ import annotations

from typing import Any, Final, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from policy_engine.api.access import SCOPES_MEMBER, ProblemDocument, problem_responses
from policy_engine.api.decisions import EVALUATION, EVALUATIONS
from policy_engine.limits import LIMITS

_REF: Final = "#/components/schemas/{model}"
_STATUSES: Final = (400, 401, 403, 405, 413, 500, 503)


class Open(BaseModel):
    """A shape of the standard: members beyond those named are ignored."""

    model_config = ConfigDict(extra="allow")


class Entity(Open):
    """Subject (`person` or `service`) or resource (`model`)."""

    type: str = Field(min_length=1, max_length=LIMITS.id_characters)
    id: str = Field(min_length=1, max_length=LIMITS.id_characters)
    properties: dict[str, Any] = {}


class Action(Open):
    """What is to be done: `infer`, `fine_tune`, `download_weights`, `list`, or what the policy declares."""

    name: str = Field(min_length=1, max_length=LIMITS.id_characters)
    properties: dict[str, Any] = {}


class Place(Open):
    """Where the person is. An absent `anonymiser` means that none was detected."""

    country: str | None = None
    region: str | None = None
    anonymiser: bool = False


class EvaluationContext(Open):
    """What the engine reads from `context`: whom the subject acts for, where the person and the serving place are."""

    tenant: str | None = None
    location: str | Place | None = None
    serving_region: str | None = None


class EvaluationRequest(Open):
    """AuthZEN Access Evaluation request."""

    subject: Entity
    action: Action
    resource: Entity
    context: EvaluationContext = EvaluationContext()


class EvaluationItem(Open):
    """One question of a batch; a member left out is taken from the top level, a member given replaces it whole."""

    subject: Entity | None = None
    action: Action | None = None
    resource: Entity | None = None
    context: EvaluationContext | None = None


class EvaluationOptions(Open):
    """How a batch is carried out; `explain` asks for a context beside each decision, `receipts` for those of allows."""

    evaluations_semantic: Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"] = "execute_all"
    explain: bool = False
    receipts: bool = False


class EvaluationsRequest(EvaluationItem):
    """AuthZEN Access Evaluations request. Without items it is a single evaluation."""

    evaluations: list[EvaluationItem] = Field([], max_length=LIMITS.evaluations_count)
    options: EvaluationOptions = EvaluationOptions()


class ReasonGiven(BaseModel):
    """A stable code, the rule's label, a sentence for the end user, the citation, and the ids of orders behind it."""

    model_config = ConfigDict(extra="forbid")

    code: str
    rule: str | None = None
    message: str | None = None
    authority: str | None = None
    orders: list[str] | None = None


class ReceiptGiven(BaseModel):
    """What a caller keeps of an allow to prove a later deletion: the leaf hash of its entry, a path, a signed note."""

    model_config = ConfigDict(extra="forbid")

    v: Literal[1]
    seq: int
    leaf: str
    path: list[str]
    valid_for_ms: int
    note: str


class DecisionContext(BaseModel):
    """Why, under which release and epoch, and for how long. While the log is away: reasons alone."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = None
    reasons: list[ReasonGiven]
    missing: list[str]
    alternatives: list[str]
    release: str | None = None
    epoch: int | None = None
    valid_for_ms: int
    message: str | None = None
    receipt: ReceiptGiven | None = None


class DecisionAnswer(BaseModel):
    """AuthZEN decision. A deny is an answer like any other: 200 with `decision: false`."""

    model_config = ConfigDict(extra="forbid")

    decision: bool
    context: DecisionContext


class ItemError(BaseModel):
    """Why an item could not be decided."""

    model_config = ConfigDict(extra="forbid")

    status: int
    message: str


class RefusedItem(BaseModel):
    """The context of an item that was refused."""

    model_config = ConfigDict(extra="forbid")

    error: ItemError


class ReceiptedItem(BaseModel):
    """The context of an allow for which only the receipt was asked."""

    model_config = ConfigDict(extra="forbid")

    receipt: ReceiptGiven


class BatchItem(BaseModel):
    """One answer of a batch; lean unless it was refused, or explanations or receipts were asked for."""

    model_config = ConfigDict(extra="forbid")

    decision: bool
    context: DecisionContext | RefusedItem | ReceiptedItem | None = None


class BatchAnswer(BaseModel):
    """Answers in the order asked, ending where the semantic ends."""

    model_config = ConfigDict(extra="forbid")

    evaluations: list[BatchItem]


_MODELS: Final[tuple[type[BaseModel], ...]] = (
    EvaluationRequest,
    EvaluationsRequest,
    DecisionAnswer,
    BatchAnswer,
    ProblemDocument,
)
_BATCH_HEADERS: Final = {
    "Policy-Engine-Epoch": "The oldest epoch among the decisions; absent when nothing was decided.",
    "Policy-Engine-Release": "The release of that epoch.",
    "Policy-Engine-Valid-For-Ms": "How long the answers may be used: the shortest of them.",
    "Policy-Engine-Decision-Ids": "The id of each decision, in order; `-` for an item without one.",
}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the document for the application's routes and the decision endpoints."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes, description=app.description)
    _, schemas = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REF)
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas["$defs"])
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "pe_…"}}
    document["paths"][EVALUATION] = {"post": _operation("EvaluationRequest", "DecisionAnswer", "evaluation", {})}
    batch = _operation("EvaluationsRequest", None, "evaluations", _BATCH_HEADERS)
    document["paths"][EVALUATIONS] = {"post": batch}
    for path, methods in document["paths"].items():
        if path.startswith(("/v1/", "/access/")):
            for operation in methods.values():
                operation["security"] = [{"key": []}]
    return document


def _operation(asked: str, answered: str | None, noun: str, headers: dict[str, str]) -> dict[str, Any]:
    names = [answered] if answered else ["BatchAnswer", "DecisionAnswer"]
    refs = [{"$ref": _REF.format(model=name)} for name in names]
    good: dict[str, Any] = {
        "description": "The decision. A deny is 200 as well.",
        "content": {"application/json": {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}},
    }
    if headers:
        good["headers"] = {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}
    return {
        "tags": ["authzen"],
        "summary": f"AuthZEN Access E{noun[1:]}",
        "operationId": f"access_{noun}",
        SCOPES_MEMBER: ["decide"],
        "parameters": [
            {"name": "X-Request-ID", "in": "header", "required": False, "schema": {"type": "string", "maxLength": 256}}
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _REF.format(model=asked)}}},
        },
        "responses": {"200": good, **{str(s): r for s, r in problem_responses(*_STATUSES).items()}},
    }
