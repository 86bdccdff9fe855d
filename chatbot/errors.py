"""Everything that can go wrong, each with a stable code that clients may rely on.

ParleyError (internal)
├── InvalidRequest · PromptTooLong · PayloadTooLarge · UnsupportedType
├── NotAuthenticated · NotPermitted · NotFound
├── TurnInProgress · IdempotencyConflict
├── QuotaExceeded · RateLimited
├── ModelError
│   ├── ModelFailed
│   │   └── OtherModel
│   └── ModelBusy · ModelUnavailable · ModelTimeout
├── StorageFull
└── ExtractionFailed

HTTP statuses and close codes are not here: apps/edge/errors.py holds the only table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class ParleyError(Exception):
    """Base of all. `message` is a sentence for the person who meets it; it never holds a secret or a prompt.

    retry_after: seconds until asking again may succeed. fields: a sentence for each rejected input field. limit: which
    limit forbids it: name, limit, remaining, and reset in seconds. standing: where the asker stands with every limit,
    for the door that tells it.
    """

    code: ClassVar[str] = "internal"
    default_message: ClassVar[str] = (
        "Something went wrong on our side. It was logged and can be found by its request id."
    )

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        fields: Mapping[str, str] | None = None,
        limit: Mapping[str, Any] | None = None,
        standing: Sequence[Any] = (),
    ) -> None:
        self.message = message or self.default_message
        self.retry_after = retry_after
        self.fields = dict(fields) if fields else None
        self.limit = dict(limit) if limit else None
        self.standing = standing
        super().__init__(self.message)


class InvalidRequest(ParleyError):
    code = "invalid_request"
    default_message = "The request is not valid."


class PromptTooLong(ParleyError):
    code = "prompt_too_long"
    default_message = "The question does not fit into the model's context window."


class PayloadTooLarge(ParleyError):
    code = "payload_too_large"
    default_message = "The upload is larger than allowed."


class UnsupportedType(ParleyError):
    code = "unsupported_type"
    default_message = "This kind of file cannot be read."


class NotAuthenticated(ParleyError):
    code = "not_authenticated"
    # One sentence whatever is wrong: a caller must not learn which part of a credential was right.
    default_message = "Valid credentials are required."


class NotPermitted(ParleyError):
    code = "not_permitted"
    default_message = "These credentials do not allow this."


class NotFound(ParleyError):
    code = "not_found"
    default_message = "There is no such thing here."


class TurnInProgress(ParleyError):
    code = "turn_in_progress"
    default_message = "This conversation is still answering the previous question."


class IdempotencyConflict(ParleyError):
    code = "idempotency_conflict"
    default_message = "This idempotency key was already used for a different request."


class QuotaExceeded(ParleyError):
    code = "quota_exceeded"
    default_message = "A quota is used up."


class RateLimited(ParleyError):
    code = "rate_limited"
    default_message = "Too many requests in a short time."


class ModelError(ParleyError):
    """An inference server let us down; subclasses say how.

    at_fault: False where it did what it should with what it was sent, such as refusing a wrong key: that says nothing
    of its health. status: the HTTP status with which it refused, None where that is not how it failed.
    """

    at_fault: bool = True
    status: int | None = None


class ModelFailed(ModelError):
    code = "model_failed"
    default_message = "The model server failed while answering."


class OtherModel(ModelFailed):
    """An embedding server makes other vectors than are expected of it. Asking again does not help."""


class ModelBusy(ModelError):
    code = "model_busy"
    default_message = "Every model server is busy."


class ModelUnavailable(ModelError):
    """asleep: it could be started, as rented servers can."""

    asleep: bool = False
    code = "model_unavailable"
    default_message = "No model server can be reached."


class ModelTimeout(ModelError):
    code = "model_timeout"
    default_message = "The model server took too long."


class StorageFull(ParleyError):
    code = "storage_full"
    default_message = "There is no room left to store this."


class ExtractionFailed(ParleyError):
    """A file's text could not be taken out of it: why a document failed, or why an attachment is refused."""

    code = "parser"
    default_message = "The file could not be read."
