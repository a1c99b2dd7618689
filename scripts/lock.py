"""Print `name==version` for every installed package that the project and its extras need: the
constraints that `make setup` installs with. Works without any tool but pip."""

import re
from importlib.metadata import distribution

ROOT, EXTRAS = "agent-session", ("dev", "otel", "inference-test")


def needed(name: str, extras: tuple[str, ...] = (), seen: dict[str, str] | None = None) -> dict[str, str]:
    seen = {} if seen is None else seen
    try:
        found = distribution(name)
    except Exception:
        return seen  # not for this platform
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen and not extras:
        return seen
    seen[key] = found.version
    for requirement in found.requires or []:
        spec, _, marker = requirement.partition(";")
        if "extra ==" in marker and not any(f"'{extra}'" in marker or f'"{extra}"' in marker for extra in extras):
            continue
        match = re.match(r"\s*([A-Za-z0-9._-]+)\s*(?:\[([^]]*)\])?", spec)
        if match:
            wanted = tuple(extra.strip() for extra in (match.group(2) or "").split(",") if extra.strip())
            needed(match.group(1), wanted, seen)
    return seen


if __name__ == "__main__":
    versions = needed(ROOT, EXTRAS)
    versions.pop(ROOT)
    print("# Constraints for a reproducible environment; written by 'make lock'.")
    for package in sorted(versions):
        print(f"{package}=={versions[package]}")
