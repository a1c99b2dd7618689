"""What every part of the settings tree is made of."""

import json
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_settings import NoDecode


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _names(value: object) -> object:
    """A list as TOML or JSON has it, or names between commas, as is usual in an environment."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [name.strip() for name in value.split(",") if name.strip()]


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
