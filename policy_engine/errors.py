"""The error families of the engine: one base, leaves named after what went wrong.

Every refusal is one clear sentence: what was wrong, where, and how to mend it. Errors know nothing of HTTP
or exit codes; `api/problems.py` and `cli/exits.py` map them. A message never holds a personal fact: values that a
caller sent are not echoed, only names of fields, files, lines and ids of orders, releases and models.
"""

from __future__ import annotations


class PolicyEngineError(Exception):
    """Base of every error the engine raises on purpose.

    `code` is stable and machine-readable; `message` is the sentence; `where` names the file, line or field.
    """

    code = "error"

    def __init__(self, message: str, *, where: str | None = None) -> None:
        self.message = message
        self.where = where
        super().__init__(f"{where}: {message}" if where else message)


class InputRefused(PolicyEngineError):
    """A request, document or argument is malformed: nothing of it was applied."""

    code = "input.refused"


class TooLarge(InputRefused):
    """An input exceeds a limit of `limits.py`; the message names the limit with its unit."""

    code = "input.too-large"


class LoadRefused(PolicyEngineError):
    """A release, pack, table or model file is not accepted; the last good release keeps serving."""

    code = "load.refused"


class StartRefused(PolicyEngineError):
    """The engine may not start with this database, folder or key file; nothing was changed."""

    code = "start.refused"


class NotAuthenticated(PolicyEngineError):
    """No key, an unknown key, an expired or a revoked key."""

    code = "caller.not-authenticated"


class IssuerUnavailable(PolicyEngineError):
    """No keys of a token's issuer could be fetched of late, so that nobody knows whose the token is: it lets nobody in.

    It says nothing about the token. A token that is wrong whatever the keys are is `NotAuthenticated`.
    """

    code = "issuer.unavailable"


class NotPermitted(PolicyEngineError):
    """The caller is known, and its scopes, tenants or kind do not cover what it asked."""

    code = "caller.not-permitted"


class NotFound(PolicyEngineError):
    """The named order, release, proposal, person, tenant or model does not exist."""

    code = "not-found"


class Conflict(PolicyEngineError):
    """The state moved, or an id is already taken; nothing was applied."""

    code = "conflict"


class Gone(NotFound):
    """What is asked for was erased or pruned; the message names the entry that did it."""

    code = "gone"


class Overtaken(Conflict):
    """Something was written after the caller looked, and nothing was applied; looking again and repeating may do."""

    code = "conflict.overtaken"


class ApprovalNeeded(PolicyEngineError):
    """The change waits for a second person; `proposal` is the id to approve."""

    code = "approval.needed"

    def __init__(self, message: str, *, proposal: str, where: str | None = None) -> None:
        self.proposal = proposal
        super().__init__(message, where=where)


class StoreUnavailable(PolicyEngineError):
    """The database cannot be read or written, or the outcome of a commit is unknown: nothing is allowed meanwhile."""

    code = "log.unavailable"


class Busy(PolicyEngineError):
    """So many others are being answered that this is not begun: ask again in a moment."""

    code = "busy"


class StoreDamaged(StoreUnavailable):
    """The database answers, and a table, a column, a row or a page of it that must be there is not as it must be."""


class EngineUnavailable(StoreUnavailable):
    """An engine that is asked from afar gave no readable answer in time; only what cannot be a deny raises this."""

    code = "engine.unreachable"


class LogForked(StoreUnavailable):
    """A witness, or our own newest checkpoint, speaks of another tree than the database holds: nothing is allowed.

    The database was rolled back, replaced or rewritten, and what it says is not the whole story. It stays so until
    somebody has looked and restarted.
    """

    code = "log.forked"


class ReplicaCutOff(StoreUnavailable):
    """Nobody may have heard of this process for too long, and others may count it as gone: it allows nothing."""

    code = "replica.cut-off"


class RollbackSuspected(StoreUnavailable):
    """The database is older than one that was served here: it allows nothing until two persons have recovered it."""

    code = "rollback.suspected"


class VerificationFailed(PolicyEngineError):
    """The log, its headers or the registers do not agree with each other; `findings` names each place."""

    code = "log.verification-failed"

    def __init__(self, message: str, findings: tuple[str, ...] = ()) -> None:
        self.findings = findings
        super().__init__(message)
