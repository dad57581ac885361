"""Reading CIF: PIGEN's reader against pymatgen's CifParser, on the same texts in the same run.

    python benchmarks/read_cif.py structures.csv.gz [--n 500]

Prints structures per second of each and the ratio.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

from pymatgen.io.cif import CifParser

from pigen.io import Limits, read
from pigen.io.cif_text import to_cif
from pigen.io.formats import parse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--n", type=int, default=500)
    arguments = parser.parse_args()
    bundle = read(arguments.source).select(slice(0, arguments.n))
    texts = [to_cif(c, i) for c, i in zip(bundle.crystals, bundle.ids, strict=True)]

    started = time.perf_counter()
    for text in texts:
        parse(text, "cif", Limits())
    ours = time.perf_counter() - started

    warnings.simplefilter("ignore")  # pymatgen remarks on every P 1 file
    started = time.perf_counter()
    for text in texts:
        CifParser.from_str(text).parse_structures(primitive=False)
    theirs = time.perf_counter() - started

    for name, seconds in (("pigen.read", ours), ("pymatgen", theirs)):
        print(f"{name:<12} {len(texts) / seconds:9.0f} structures/s")
    print(f"ratio        {theirs / ours:9.1f}")


if __name__ == "__main__":
    main()
