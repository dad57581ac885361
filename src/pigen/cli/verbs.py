"""The verbs of ``pigen``: where each lives and its line in the help, in the order of work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """Where a verb lives (``module:attribute``) and its one line in ``pigen --help``."""

    target: str
    summary: str


SECTIONS: dict[str, dict[str, Verb]] = {
    "An experiment from end to end": {
        "init": Verb("pigen.cli.init:init", "Make a folder with a commented experiment."),
        "run": Verb("pigen.cli.run:run", "Run an experiment: sample, filter, table."),
        "predict": Verb(
            "pigen.cli.predict:predict", "Say what a composition looks like, by energy."
        ),
        "report": Verb("pigen.cli.report:report", "Write an HTML page of a run or a bundle."),
    },
    "Train and sample": {
        "data": Verb("pigen.cli.fetch:data", "Download public data sets."),
        "label": Verb("pigen.cli.label:label", "Compute descriptor columns for structures."),
        "train": Verb("pigen.cli.model:train", "Train a model on labelled structures."),
        "sample": Verb("pigen.cli.model:sample", "Draw new crystals from a trained model."),
        "compare": Verb(
            "pigen.cli.compare:compare", "Compare generated structures with real ones."
        ),
    },
    "Filter and relax": {
        "filter": Verb("pigen.cli.filter:filter", "Keep the structures that pass the criteria."),
        "match": Verb("pigen.cli.match:match", "Find the nearest known entry of structures."),
        "prototypes": Verb(
            "pigen.cli.prototypes:prototypes", "Match known frameworks; find duplicates."
        ),
        "energy": Verb("pigen.cli.energy:energy", "Relax structures and give their energies."),
        "hull": Verb(
            "pigen.cli.hull:hull", "References of compounds, and energies above their hull."
        ),
    },
    "Search and check": {
        "rank": Verb("pigen.cli.rank:rank", "Rank structures: what to calculate first."),
        "csp-seed": Verb("pigen.cli.csp:csp_seed", "Write folders for structure prediction."),
        "csp-run": Verb("pigen.cli.csp:csp_run", "Search for structures by basin hopping."),
        "csp-collect": Verb("pigen.cli.csp_collect:csp_collect", "Read what the searches reached."),
        "dft-export": Verb("pigen.cli.dft:dft_export", "Write VASP inputs of candidates."),
        "dft-collect": Verb("pigen.cli.dft:dft_collect", "Read finished VASP calculations."),
    },
    "Tables of the paper": {
        "table": Verb("pigen.cli.run:table", "Print a table of the paper from finished runs."),
        "reproduce": Verb("pigen.cli.reproduce:reproduce", "Make every table and figure."),
    },
    "Structures and what filters rest on": {
        "import": Verb("pigen.cli.data:import_", "Read structure files into a bundle."),
        "export": Verb("pigen.cli.data:export", "Write a bundle as CIF, extxyz, CSV or POSCAR."),
        "show": Verb("pigen.cli.data:show", "Summarise a bundle."),
        "merge": Verb("pigen.cli.merge:merge", "Put the parts of a job array together."),
        "known": Verb("pigen.cli.label:known", "List compositions, for filter --known."),
        "spp-fit": Verb("pigen.cli.label:spp_fit", "Fit pair potentials, for filter --spp-table."),
    },
    "This installation": {
        "doctor": Verb("pigen.cli.doctor:doctor", "Check packages, device and package data."),
        "completion": Verb("pigen.cli.completion:completion", "Print the shell completion."),
    },
}
"""Heading in ``pigen --help`` → its verbs."""

VERBS: dict[str, Verb] = {name: verb for verbs in SECTIONS.values() for name, verb in verbs.items()}
"""All verbs by name."""
