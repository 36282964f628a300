"""The error family: the class is the code; what the client is told and what is logged are two fields."""

from typing import ClassVar


class YimenError(Exception):
    """An error with a stable code. `message` is public ASCII English; `detail` goes to the log only."""

    code: ClassVar[str] = "server_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str = "", *, detail: str = "") -> None:
        super().__init__(message or self.code)
        self.message = message or self.code
        self.detail = detail


class ConfigError(YimenError):
    """The server must not start like this."""

    code = "config_error"


class InvalidInput(YimenError):
    code = "invalid_request"
    status = 400


class Forbidden(YimenError):
    code = "forbidden"
    status = 403


class CsrfFailed(Forbidden):
    code = "csrf_failed"


class NotFound(YimenError):
    code = "not_found"
    status = 404


class MethodNotAllowed(YimenError):
    """`allow` lists the methods for the Allow header (RFC 9110 section 15.5.6)."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, allow: str) -> None:
        super().__init__()
        self.allow = allow


class Conflict(YimenError):
    code = "conflict"
    status = 409


class TooLarge(YimenError):
    code = "too_large"
    status = 413


class InteractionExpired(YimenError):
    """The paused request is gone, spent, or belongs to another browser."""

    code = "interaction_expired"
    status = 400


class TooManyRequests(YimenError):
    """The caller has used up what it may do in a time; `retry_after` in seconds (RFC 6585 section 4)."""

    code = "too_many_requests"
    status = 429

    def __init__(self, *, retry_after: int, detail: str = "") -> None:
        super().__init__(detail=detail)
        self.retry_after = retry_after


class Unavailable(YimenError):
    """A store does not answer; nothing was changed. The caller may try again after `retry_after` seconds."""

    code = "temporarily_unavailable"
    status = 503
    retry_after: int = 1


class Overloaded(Unavailable):
    """A bounded queue is full."""
