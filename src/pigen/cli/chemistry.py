"""The options that say what a composition must be, of filter and sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pigen.cli.options import EXISTING

_Verb = TypeVar("_Verb", bound=Callable[..., Any])


class KnownType(click.ParamType[Path]):
    """The name of a shipped list of compositions, or a path that exists."""

    name = "known"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """As a path; BadParameter if there is nothing of that name."""
        from pigen.runtime.resources import KNOWN_LISTS

        return Path(value) if str(value) in KNOWN_LISTS else EXISTING.convert(value, param, ctx)


_LISTS = ("elements_required", "elements_allowed", "elements_excluded")
_OPTIONS = (
    click.option("--elements", "elements_required", metavar="Li,O", help="Elements it must hold."),
    click.option(
        "--elements-one-of",
        multiple=True,
        metavar="O,S",
        help="Elements of which it must hold one or more. Repeatable.",
    ),
    click.option("--elements-allowed", metavar="Li,O,…", help="It holds no other elements."),
    click.option("--elements-excluded", metavar="Pb,…", help="Elements it must not hold."),
    click.option(
        "--n-elements", metavar="N|LO:HI", help="How many elements; both ends are included."
    ),
    click.option(
        "--charge-balanced",
        is_flag=True,
        help="Charges can balance, by SMACT's rules and mixed valence; alloys are counted apart.",
    ),
    click.option(
        "--stoichiometry",
        metavar="CLASSES=AMOUNTS",
        help="Amounts of classes of elements, e.g. Ca,Sr:transition_metal:O=1:1:3.",
    ),
)


known_option = click.option(
    "--known",
    metavar="mp|training|PATH",
    type=KnownType(),
    help="Known compositions: those of the Materials Project (mp), of the training set of the "
    "shipped models (training), a list of formulas (.txt), or structures.",
)


def chemistry_options(command: _Verb) -> _Verb:
    """Add the options; `chemistry_settings` takes their values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chemistry_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Settings of `ChemistryConfig`, as TOML has them, taken out of a verb's options."""
    found: dict[str, Any] = {}
    for name in _LISTS:
        text = options.pop(name)
        if text is not None:
            found[name] = _names(text)
    groups = options.pop("elements_one_of")
    if groups:
        found["elements_one_of"] = [_names(text) for text in groups]
    window = options.pop("n_elements")
    if window is not None:
        found["n_elements"] = _whole_window(window)
    if options.pop("charge_balanced"):
        found["charge_balanced"] = True
    amounts = options.pop("stoichiometry")
    return found | ({} if amounts is None else {"stoichiometry": amounts})


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _whole_window(text: str) -> int | list[int]:
    """A whole number, or ``LO:HI`` with an end left open; UsageError for anything else."""
    from pigen.crystal.elements import MAX_Z

    low, colon, high = (part.strip() for part in text.partition(":"))
    parts = [low or "1", high or str(MAX_Z)] if colon else [low]
    if not all(part.isdecimal() for part in parts) or text.strip() == ":":
        raise click.BadParameter(f"{text!r}: expected N or LO:HI", param_hint="--n-elements")
    numbers = [int(part) for part in parts]
    return numbers if colon else numbers[0]
