"""Verbs to DFT and back: dft-export, dft-collect."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pigen.cli.common import check_output, count_lines, provenance_of, show_result
from pigen.cli.options import (
    EXISTING,
    json_option,
    limit_options,
    output_as,
    sources_argument,
    writing_options,
)
from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # imported when a verb runs
    from pigen.config.files import Limits
    from pigen.energy.dft.export import Exported

MANY = 100
"""Competing phases above which `pigen dft-export` asks."""


@click.command("dft-export")
@sources_argument
@output_as("Folder, to be made.")
@click.option("--competing", is_flag=True, help="Also the phases on the hull of their systems.")
@click.option(
    "--reference",
    type=EXISTING,
    help="Reference with those phases, by `pigen hull build`; the shipped one by default.",
)
@click.option("--yes", is_flag=True, help=f"Write more than {MANY} competing phases unasked.")
@click.option(
    "--preset",
    type=click.Choice(["paper", "mp", "mp-relax"]),
    default="paper",
    show_default=True,
    help="Settings: the paper's; the Materials Project's for single points or for relaxations, "
    "spin polarised, with +U where it has it.",
)
@click.option(
    "--incar", "changes", multiple=True, metavar="TAG=VALUE", help="An INCAR tag, e.g. ISPIN=2."
)
@limit_options
@json_option
def dft_export(
    sources: tuple[Path, ...],
    output: Path,
    competing: bool,
    reference: Path | None,
    yes: bool,
    preset: str,
    changes: tuple[str, ...],
    as_json: bool,
    limits: Limits,
) -> None:
    """Write VASP inputs of relaxed candidates: INCAR, POSCAR, POTCAR.

    The paper's settings are PBE PAW, ENCUT 600, KSPACING 0.3 around Γ, EDIFF 1e-6, NSW 0; those of
    --preset mp and mp-relax are pymatgen's MPStaticSet and MPRelaxSet. Where pymatgen finds no
    library of potentials (PMG_VASP_PSP_DIR), POTCAR.spec names those to take. manifest.csv lists
    the folders. SRC is anything that `pigen import` reads, best the survivors of `pigen filter
    --ehull`.

    \b
    Examples:
        pigen dft-export near_hull.h5 --competing -o vasp
        pigen dft-export best.h5 --preset mp -o vasp
    """
    from pigen.bundle import Bundle
    from pigen.energy.dft.export import export
    from pigen.energy.hull import load_reference
    from pigen.io.sources import Sources
    from pigen.runtime.executor import Where

    if reference is not None and not competing:
        raise UsageError("--reference is of --competing, which is not given")
    tags = dict(_tag(change) for change in changes)
    opened = Sources(sources, limits)
    with opened.executor(Where()) as executor:
        candidates = Bundle.concatenate(list(opened.chunks(executor)))

    exported = export(
        candidates,
        output,
        reference=load_reference(reference) if competing else None,
        preset=preset,
        changes=tags,
        agree=partial(_agree, n_candidates=len(candidates), yes=yes),
        provenance=provenance_of("pigen dft-export", sources),
    )
    counts = {
        "candidates": len(candidates),
        "competing": len(exported.bundle) - len(candidates),
        "competing_without_structure": len(exported.without_structure),
        "without_competing": dict(exported.no_hull.most_common()),
        "with_potcar": exported.n_potcars,
        "output": str(output),
    }
    said = f"{output}: {len(candidates)} candidates, {counts['competing']} competing phases"
    show_result(as_json, counts, said, *_left_to_do(exported, output))


def _left_to_do(exported: Exported, output: Path) -> Iterator[str]:
    from pigen.energy.dft.export import LACKING

    if exported.without_structure:
        yield (
            f"  {len(exported.without_structure)} more competing phases have an energy here but no "
            f"structure; get them elsewhere: {output / LACKING}"
        )
    yield from count_lines(exported.no_hull)
    lacking = len(exported.bundle) - exported.n_potcars
    if lacking:
        yield f"  {lacking} have a POTCAR.spec in place of a POTCAR: no such potentials found"


def _agree(n: int, *, n_candidates: int, yes: bool) -> None:
    """Say how many competing phases there are; ask whether to write them if they are many."""
    click.echo(f"{n} competing phases for {n_candidates} candidates", err=True)
    if n > MANY and not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{n} competing phases are as many calculations; --yes writes them")
        click.confirm("Write them all?", abort=True, err=True)


@click.command("dft-collect")
@click.argument(
    "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR"
)
@click.option(
    "--reference",
    type=EXISTING,
    help="Further compounds with VASP energies at the same settings, by `pigen hull import`.",
)
@output_as("Bundle of the candidates; DIR/collected.h5 by default.", required=False)
@writing_options
def dft_collect(
    folder: Path, reference: Path | None, output: Path | None, force: bool, as_json: bool
) -> None:
    """Read vasprun.xml of finished VASP calculations into e_dft and e_hull_dft.

    DIR is one that `pigen dft-export` made. The hull is that of the competing phases in it, and
    of --reference. What has no energy is kept without one, and counted by its reason.

    \b
    Example:
        pigen dft-collect vasp -o with_dft.h5
    """
    from pigen.bundle import write_bundle
    from pigen.energy.dft.collect import collect
    from pigen.energy.hull import load_reference

    output = output or folder / "collected.h5"
    check_output(output, (), force=force)
    candidates, competing = collect(folder, load_reference(reference) if reference else None)
    write_bundle(output, candidates)
    counts: dict[str, Any] = {"output": str(output)}
    for name, bundle in (("candidates", candidates), ("competing", competing)):
        status = [reason.split(":")[0] for reason in bundle.columns["dft_status"].values]
        failed = Counter(reason for reason in status if reason)
        counts[name] = len(bundle)
        counts[f"{name}_with_energy"] = len(bundle) - failed.total()
        counts[f"{name}_failed"] = dict(failed.most_common())
    reasons = candidates.columns["e_hull_dft_reason"].values
    no_hull = Counter(reason for reason in reasons if reason.startswith("no hull"))
    counts["no_hull"] = dict(no_hull.most_common())
    lines = []
    for name in ("candidates", "competing"):
        lines.append(f"{name}: energies of {counts[f'{name}_with_energy']} of {counts[name]}")
        lines += count_lines(counts[f"{name}_failed"])
    lines += count_lines(counts["no_hull"])
    show_result(as_json, counts, *lines, f"{output}: {candidates.columns['e_hull_dft'].source}")


def _tag(change: str) -> tuple[str, str]:
    key, equals, value = change.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise UsageError(f"--incar {change}: expected TAG=VALUE")
    return key.strip(), value.strip()
