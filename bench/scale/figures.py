"""The numbers that all arithmetic begins with: each with its unit, and where it is from. Values only.

`inputs.json` has two parts: what was `measured` (written by `python -m bench.scale measure`), and what is `assumed`
(written by people, with a source; change it and print the tables again).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INPUTS = Path(__file__).with_name("inputs.json")


class NoFigure(KeyError):
    """A figure that inputs.json lacks."""


@dataclass(frozen=True)
class Figure:
    """One number; `source` says how it was measured, or who says so and when."""

    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class Inputs:
    """Figures by name."""

    about: Mapping[str, Any]
    measured: Mapping[str, Figure]
    assumed: Mapping[str, Figure]
    #: measured quantiles, seconds
    quantiles: Mapping[str, tuple[float, ...]]

    def __call__(self, name: str) -> float:
        """Its value. Errors: NoFigure."""
        found = self.measured.get(name) or self.assumed.get(name)
        if found is None:
            raise NoFigure(f"inputs.json has no figure {name!r}: python -m bench.scale measure, or write it there")
        return found.value


def read(path: Path = INPUTS) -> Inputs:
    """Errors: OSError, ValueError."""
    plain = json.loads(path.read_text())
    return Inputs(
        plain["about"],
        {name: Figure(*given) for name, given in plain["measured"].items()},
        {name: Figure(*given) for name, given in plain["assumed"].items()},
        {name: tuple(given) for name, given in plain["quantiles"].items()},
    )


def write_measured(
    about: Mapping[str, Any],
    measured: Mapping[str, Figure],
    quantiles: Mapping[str, tuple[float, ...]],
    path: Path = INPUTS,
) -> None:
    """Put new measurements in the place of those of the same names; assumptions stay as they are."""
    plain: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"measured": {}, "assumed": {}}
    plain["about"] = dict(about)
    plain.setdefault("quantiles", {}).update(
        {name: [round(one, 5) for one in them] for name, them in quantiles.items()}
    )
    plain["measured"].update({name: [one.value, one.unit, one.source] for name, one in measured.items()})
    order = {name: plain[name] for name in ("about", "measured", "quantiles", "assumed")}
    path.write_text(json.dumps(order, indent=1) + "\n")


def rounded(value: float) -> float:
    """As many digits as can be meant: three."""
    return float(f"{value:.3g}")
