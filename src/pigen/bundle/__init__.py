"""The bundle: crystals with named columns, verdicts and provenance, in memory and as HDF5."""

from pigen.bundle.columns import Column, strings
from pigen.bundle.counts import Rate
from pigen.bundle.criteria import Criterion
from pigen.bundle.digest import content_digest
from pigen.bundle.memory import (
    EVERY_ONE,
    KEEPS,
    SURVIVORS,
    Bundle,
    Reject,
    Verdict,
    count_rejects,
)
from pigen.bundle.reading import BundleInfo, ColumnInfo, bundle_info, iter_bundle, read_bundle
from pigen.bundle.stage import KeepingAll, OverStructures, divide, over_structures
from pigen.bundle.writing import BundleWriter, write_bundle

__all__ = [
    "EVERY_ONE",
    "KEEPS",
    "SURVIVORS",
    "Bundle",
    "BundleInfo",
    "BundleWriter",
    "Column",
    "ColumnInfo",
    "Criterion",
    "KeepingAll",
    "OverStructures",
    "Rate",
    "Reject",
    "Verdict",
    "bundle_info",
    "content_digest",
    "count_rejects",
    "divide",
    "iter_bundle",
    "over_structures",
    "read_bundle",
    "strings",
    "write_bundle",
]
