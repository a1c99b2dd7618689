"""A provider's errors told apart, as class words with advice (`domain.failures`).

Source: pydantic-ai's error categories; transport errors that slip through as the client library's own
count as connection faults. Client faults (4xx, validation) are never retried.
"""

import asyncio

from agent_session.models.base import ModelFault


def fault_of(error: Exception, model: str) -> ModelFault:
    """The fault that an exception of a model call means. Its text goes to the log only."""
    if isinstance(error, ModelFault):
        return error
    from pydantic_ai import exceptions as known

    message = f"{model}: {type(error).__name__}: {error}"
    wait = float(getattr(error, "retry_after", None) or 0.0)
    transient_kinds = (
        (known.ModelRateLimitError, "rate_limit"),
        (known.ModelUnavailableError, "overloaded"),
        (known.ModelServerError, "provider_error"),
        (known.ModelTimeoutError, "time_out"),
        (known.ModelRequestTimeout, "time_out"),
        (known.ModelConnectionError, "connection"),
        (known.UnexpectedModelBehavior, "bad_answer"),
    )
    client_kinds = (
        (known.ModelQuotaExceededError, "quota"),
        (known.ModelAuthenticationError, "authentication"),
        (known.ModelContextWindowExceededError, "context_overflow"),
        (known.ContentFilterError, "content_filter"),
        (known.ModelRequestRejectedError, "bad_request"),
        (known.UserError, "model_setup"),
    )
    for kind, word in client_kinds:
        if isinstance(error, kind):
            return ModelFault(word, message, transient=False)
    for kind, word in transient_kinds:
        if isinstance(error, kind):
            return ModelFault(word, message, transient=True, retry_after_s=wait)
    if isinstance(error, known.ModelHTTPError):
        transient = error.status_code >= 500 or error.status_code in (408, 409, 425, 429)
        return ModelFault("provider_error" if transient else "bad_request", message, transient=transient)
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        return ModelFault("time_out", message, transient=True)
    if isinstance(error, OSError) or "httpx" in type(error).__module__ or "anyio" in type(error).__module__:
        return ModelFault("connection", message, transient=True)
    if "botocore" in type(error).__module__:  # Bedrock's client has its own
        kind = "authentication" if "Credential" in type(error).__name__ else "model_setup"
        return ModelFault(kind, message, transient=False)
    return ModelFault("bad_answer", message, transient=True)
