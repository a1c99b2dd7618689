"""What a request cost, by the price list that genai-prices brings along: no network, never an exception."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse


def cost_microusd(response: ModelResponse, model: str, base_url: str, provider: str = "") -> int:
    """Millionths of a dollar; 0 when the price is not known. A server is known by its address: what a server
    of your own takes for a model of the same name nobody knows. `provider` counts where there is none."""
    from genai_prices import calc_price

    where: dict[str, Any] = {"provider_api_url": base_url} if base_url else {"provider_id": provider}
    for name in dict.fromkeys((response.model_name or model, model)):
        try:
            price = calc_price(
                response.usage,
                name,
                **where,
                genai_request_timestamp=response.timestamp,
                price_context=response.provider_details,
            )
            return max(0, round(price.total_price * 1_000_000))
        except Exception:  # an unknown model, server or unit; a bill is never worth an answer
            continue
    return 0


def is_own_server(base_url: str) -> bool:
    """Whether the address is one of a known provider's, so not a compatible server of somebody else's."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        return bool(base_url and get_snapshot().find_provider(None, None, base_url))
    except LookupError:
        return False
