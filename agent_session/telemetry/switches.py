"""What is switched on in this process, for those that must not load it to know."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_session.telemetry.core_metrics import CoreMetrics

core_metrics: "CoreMetrics | None" = None
