"""Compiles what the roles import, and removes all other bytecode: that of everything would be a fifth of the image,
and with none of it every start would compile again, as the root file system is read-only. Run by the Containerfile.

`unchecked-hash`: the same sources give the same bytes, whatever their dates.
"""

import importlib
import os
import pkgutil
import py_compile
import shutil
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

PACKAGES = ("agent_session", "channels")
#: imported by our code only when it is needed
LAZILY = (
    "anthropic",
    "openai",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "pydantic_ai.direct",
    "pydantic_ai.models.anthropic",
    "pydantic_ai.models.openai",
    "pydantic_ai.providers.anthropic",
    "pydantic_ai.providers.openai",
    "redis.asyncio",
    "slack_sdk.socket_mode.aiohttp",
    "slack_sdk.web.async_client",
    "temporalio.contrib.opentelemetry",
)


def every_module() -> list[str]:
    found: list[str] = []
    for name in PACKAGES:
        package = importlib.import_module(name)
        found += [name, *(one.name for one in pkgutil.walk_packages(package.__path__, f"{name}."))]
    return [name for name in found if not name.endswith("__main__")]


def load(names: list[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:  # an extra that this image is built without
            print(f"not compiled: {name} ({error})", file=sys.stderr)


def remove_bytecode() -> None:
    """Of our packages and of Python's own."""
    for root in (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")):
        for folder in Path(root).rglob("__pycache__"):
            shutil.rmtree(folder)


def compile_loaded(modules: list[ModuleType]) -> int:
    done = 0
    for module in modules:
        source = getattr(module, "__file__", None)
        if source and source.endswith(".py") and Path(source).exists():
            py_compile.compile(source, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
            done += 1
    return done


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    load([*every_module(), *LAZILY])
    remove_bytecode()
    print(f"{compile_loaded(list(sys.modules.values()))} modules compiled")
    sys.stdout.flush()
    os._exit(0)  # native threads may outlive the interpreter
