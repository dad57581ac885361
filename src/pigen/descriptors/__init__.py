"""Descriptors: every module of this package that registers one is found by itself."""

from pigen.descriptors.evaluate import Settings, column_source, evaluate, resolve_settings
from pigen.descriptors.registry import (
    ColumnSpec,
    DescriptorFunction,
    Evaluated,
    column_specs,
    descriptor,
    descriptor_names,
    get_descriptor,
    load_descriptors,
    loaded_files,
    no_reasons,
)

__all__ = [
    "ColumnSpec",
    "DescriptorFunction",
    "Evaluated",
    "Settings",
    "column_source",
    "column_specs",
    "descriptor",
    "descriptor_names",
    "evaluate",
    "get_descriptor",
    "load_descriptors",
    "loaded_files",
    "no_reasons",
    "resolve_settings",
]
