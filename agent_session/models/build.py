"""From `provider:model` to a pydantic-ai model: which of our extras brings which provider, and errors that
say what to install or to set. Must not send a request.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, cast

from agent_session.models.as_it_is import send_as_it_is
from agent_session.models.base import ModelFault
from agent_session.settings import Settings

if TYPE_CHECKING:
    from pydantic_ai.models import Model as ProviderModel

#: provider prefix → the extra of ours that brings its package; "" where the two built-in ones are enough
EXTRAS: dict[str, str] = {
    **dict.fromkeys(
        (
            *("anthropic", "openai", "openai-chat", "openai-responses", "azure", "azure-responses"),
            *("alibaba", "cerebras", "crusoe", "deepseek", "fireworks", "github-copilot", "heroku", "litellm"),
            *("meta", "moonshotai", "nebius", "ollama", "openrouter", "ovhcloud", "sambanova", "snowflake"),
            *("together", "vercel", "vllm", "zai"),
        ),
        "",
    ),
    **{"google": "google", "google-cloud": "google", "bedrock": "bedrock", "bedrock-mantle": "bedrock"},
    **{name: name for name in ("groq", "mistral", "cohere", "huggingface", "xai")},
}
OLD_NAMES = {"google-gla": "google", "google-vertex": "google-cloud"}  #: pydantic-ai 1 called them so
ADDRESS_ARGUMENTS = ("base_url", "api_base", "azure_endpoint")  #: what providers call their address
VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")


def provider_of(name: str) -> str:
    """The provider's prefix, in today's spelling."""
    prefix = name.partition(":")[0]
    return OLD_NAMES.get(prefix, prefix)


def build_model(name: str, settings: Settings) -> ProviderModel:
    """Errors: ModelFault (model_setup) that says what to install or to set."""
    prefix, _, model = name.partition(":")
    provider = provider_of(name)
    if provider not in EXTRAS or not model:
        raise _fault(
            f"model.name {name!r}: {f'there is no provider {prefix!r}' if model else 'no provider is named'}. "
            f"Write it as provider:model, with one of {', '.join(sorted(EXTRAS))}; or `offline`"
        )
    try:
        from pydantic_ai.models import infer_model

        made = infer_model(f"{provider}:{model}", lambda kind: _provider(kind, name, settings.model.base_url))
        send_as_it_is(made)
        return made
    except ModelFault:
        raise
    except ImportError as error:
        extra = EXTRAS[provider]
        wanted = f"agent-session[{extra}]" if extra else "agent-session"
        raise _fault(
            f'model.name {name!r} needs a package that is not installed: pip install "{wanted}" '
            f"({str(error).split(', you can')[0]})"
        ) from error
    except Exception as error:
        raise _fault(f"model.name {name!r} cannot be used: {_advice(error)}") from error


def address_of(model: ProviderModel) -> str:
    """Where its requests go; empty where the library cannot say."""
    try:
        return model.base_url or ""
    except Exception:  # Hugging Face's chooses a server a request
        return ""


def _provider(kind: str, name: str, base_url: str) -> Any:
    from pydantic_ai.providers import infer_provider_class

    made = infer_provider_class(kind)
    arguments: dict[str, Any] = {}
    if base_url:
        takes = inspect.signature(made.__init__).parameters
        address = next((one for one in ADDRESS_ARGUMENTS if one in takes), None)
        if address is None:
            raise _fault(f"model.base_url: the provider of model.name {name!r} has a fixed address. Unset it")
        arguments[address] = base_url
    elif kind == "litellm":  # without an address it would send everything to OpenAI's
        raise _fault(f"model.name {name!r} needs model.base_url: the address of your LiteLLM proxy")
    return _without_retries(made(**arguments))


def _without_retries(provider: Any) -> Any:
    """One attempt is one request: Temporal retries."""
    client = getattr(provider, "client", None)
    if hasattr(client, "max_retries"):
        cast(Any, client).max_retries = 0
    return provider


def _advice(error: Exception) -> str:
    """What the library says, without its advice for programmers; the environment variables always."""
    if "region_name" in str(error):  # Amazon's, which names only its argument
        return "set the environment variable AWS_DEFAULT_REGION"
    variables = list(dict.fromkeys(VARIABLE.findall(re.sub(r"\([^)]*\)", "", str(error)))))
    if variables:
        return f"set the environment variable {' or '.join(variables)}"
    return str(error).split(" or ")[0]


def _fault(message: str) -> ModelFault:
    return ModelFault("model_setup", message, transient=False)
