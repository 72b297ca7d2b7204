"""The one OpenAPI document: the management routes as FastAPI knows them, and the raw AuthZEN endpoints beside them.

Rules of the room: what the raw endpoints answer is described by the models here and compared with real answers by a
test; the standard's shapes are open (unknown members are ignored), so these models are too.
Left to others: answering (`decisions`, `routes`).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from policy_engine.api.access import SCOPES_MEMBER, ProblemDocument, problem_responses
from policy_engine.api.checks.described import PROXY_KEY, check_paths
from policy_engine.api.decisions import EVALUATION, EVALUATIONS
from policy_engine.api.searches import PATHS
from policy_engine.limits import LIMITS
from policy_engine.services.queries import Sought

_REF: Final = "#/components/schemas/{model}"
_STATUSES: Final = (400, 401, 403, 405, 413, 500, 503)
_ANYWHERE: Final = (400, 503)
"""What any route may answer: the head is refused, or too much is under way. Where it takes a body, also 413."""


Name = Annotated[str, Field(min_length=1, max_length=LIMITS.id_characters)]


def _absent() -> Any:
    """Stand for a member that may be left out and is not null. No model of these is ever made; they are described."""


class Open(BaseModel):
    """A shape of the standard: members beyond those named are ignored."""

    model_config = ConfigDict(extra="allow")


class Entity(Open):
    """Subject (`person` or `service`) or resource (`model`)."""

    type: Name
    id: Name
    properties: dict[str, Any] = {}


class Action(Open):
    """What is to be done: `infer`, `fine_tune`, `download_weights`, `list`, or what the policy declares."""

    name: Name
    properties: dict[str, Any] = {}


class Place(Open):
    """Where the person is. An absent `anonymiser` means that none was detected."""

    country: Name | None = None
    region: Name | None = None
    anonymiser: bool = False


class EvaluationContext(Open):
    """What the engine reads from `context`: whom the subject acts for, where the person and the serving place are."""

    tenant: Name | None = None
    location: Name | Place | None = None
    serving_region: Name | None = None


class EvaluationRequest(Open):
    """AuthZEN Access Evaluation request."""

    subject: Entity
    action: Action
    resource: Entity
    context: EvaluationContext = EvaluationContext()


class EvaluationItem(Open):
    """One question of a batch; a member left out is taken from the top level, a member given replaces it whole."""

    subject: Entity = Field(default_factory=_absent)
    action: Action = Field(default_factory=_absent)
    resource: Entity = Field(default_factory=_absent)
    context: EvaluationContext = Field(default_factory=_absent)


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
    """A stable code, the rule's label and id, a sentence for the end user, the citation, ids of orders."""

    model_config = ConfigDict(extra="forbid")

    code: str
    rule: str | None = None
    rule_id: str | None = None
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


class SoughtEntity(Open):
    """The kind of subject or resource that is sought: its type. An id and properties are ignored."""

    type: Name


class PageAsked(Open):
    """Which page: the `next_token` of the one before, and how many results at most, the same on every page."""

    token: str | None = Field(None, min_length=1, max_length=LIMITS.search_token_characters)
    limit: int | None = Field(None, ge=0)


class SearchBase(Open):
    """What every search may say beside what is fixed and what is sought."""

    context: EvaluationContext = EvaluationContext()
    page: PageAsked | None = None


class SubjectSearch(SearchBase):
    """AuthZEN Subject Search request: who may do this?"""

    subject: SoughtEntity
    action: Action
    resource: Entity


class ResourceSearch(SearchBase):
    """AuthZEN Resource Search request: what may this subject do this to?"""

    subject: Entity
    action: Action
    resource: SoughtEntity


class ActionSearch(SearchBase):
    """AuthZEN Action Search request: what may this subject do to this? An `action` is ignored."""

    subject: Entity
    resource: Entity


class EntityFound(BaseModel):
    """A subject or resource that may be asked for, and will be allowed while nothing changes."""

    model_config = ConfigDict(extra="forbid")

    type: str
    id: str


class ActionFound(BaseModel):
    """An action of this kind."""

    model_config = ConfigDict(extra="forbid")

    name: str


class PageProperties(BaseModel):
    """`complete` is false where nothing says what else there is, so that more may be allowed than is listed."""

    model_config = ConfigDict(extra="forbid")

    complete: Literal[False]


class PageGiven(BaseModel):
    """Where the next page begins, empty at the end, and how many results are in this one."""

    model_config = ConfigDict(extra="forbid")

    next_token: str
    count: int
    properties: PageProperties | None = None


class SearchBaseAnswer(BaseModel):
    """`page` is there when it was asked for, when there is a next page, and when the listing cannot be complete."""

    model_config = ConfigDict(extra="forbid")

    page: PageGiven | None = None


class EntitiesFound(SearchBaseAnswer):
    """What a subject or resource search found, in order of the ids."""

    results: list[EntityFound]


class ActionsFound(SearchBaseAnswer):
    """What an action search found, in order of the names."""

    results: list[ActionFound]


_MODELS: Final[tuple[type[BaseModel], ...]] = (
    EvaluationRequest,
    EvaluationsRequest,
    DecisionAnswer,
    BatchAnswer,
    SubjectSearch,
    ResourceSearch,
    ActionSearch,
    EntitiesFound,
    ActionsFound,
    ProblemDocument,
)
_SEARCHES: Final = {
    Sought.SUBJECT: ("SubjectSearch", "EntitiesFound"),
    Sought.RESOURCE: ("ResourceSearch", "EntitiesFound"),
    Sought.ACTION: ("ActionSearch", "ActionsFound"),
}
_SEARCH_HEADERS: Final = {
    "Policy-Engine-Epoch": "The epoch that this page was found under; another page may have another one.",
    "Policy-Engine-Release": "The release of that epoch; absent when none is active.",
    "Policy-Engine-Valid-For-Ms": "How long the page may be used before it is asked for again.",
    "Policy-Engine-Decision-Ids": "The id of the entry of this page in the log.",
}
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
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "pe_… or JWT"}}
    decided = "The decision. A deny is 200 as well."
    single = _operation("Access Evaluation", "EvaluationRequest", ["DecisionAnswer"], decided, {})
    answers = ["BatchAnswer", "DecisionAnswer"]
    batch = _operation("Access Evaluations", "EvaluationsRequest", answers, decided, _BATCH_HEADERS)
    document["paths"] |= {EVALUATION: {"post": single}, EVALUATIONS: {"post": batch}}
    for path, sought in PATHS.items():
        asked, found = _SEARCHES[sought]
        says = "A page of what is allowed; it grants nothing. Nothing and nobody known is an empty one."
        operation = _operation(f"{sought.capitalize()} Search", asked, [found], says, _SEARCH_HEADERS)
        document["paths"][path] = {"post": operation}
    for operations in document["paths"].values():
        for verb, operation in operations.items():
            for status, told in problem_responses(*_ANYWHERE, *((413,) if verb == "post" else ())).items():
                operation["responses"].setdefault(str(status), told)
    components["securitySchemes"]["proxy"] = PROXY_KEY
    for path, methods in document["paths"].items():
        if path.startswith(("/v1/", "/access/")):
            for operation in methods.values():
                operation["security"] = [{"key": []}]
    document["paths"] |= check_paths()
    return document


def _operation(summary: str, asked: str, answered: list[str], says: str, headers: dict[str, str]) -> dict[str, Any]:
    refs = [{"$ref": _REF.format(model=name)} for name in answered]
    good: dict[str, Any] = {
        "description": says,
        "content": {"application/json": {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}},
    }
    if headers:
        good["headers"] = {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}
    return {
        "tags": ["authzen"],
        "summary": f"AuthZEN {summary}",
        "operationId": summary.lower().replace(" ", "_"),
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
