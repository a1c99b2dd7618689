"""Failures cross Temporal without messages, causes and stack traces: they may hold anything (I2, I3).

What a person should know travels as a `FailureEnvelope` in the details; the rest is in the log.
"""

from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.exceptions import ApplicationError, FailureError


class StrippedFailures(DefaultFailureConverter):
    """Type and details pass; words do not."""

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        if not isinstance(exception, FailureError):
            kind = type(exception).__name__
            exception = ApplicationError(kind, type=kind)
        super().to_failure(exception, payload_converter, failure)
        _strip(failure)


def _strip(failure: Failure) -> None:
    failure.stack_trace = ""
    if failure.HasField("application_failure_info"):
        failure.message = failure.application_failure_info.type or "failure"
        failure.ClearField("cause")
    elif failure.HasField("cause"):
        _strip(failure.cause)
