"""Experiments: one TOML file → frozen, validated dataclasses."""

from pigen.config.chemistry import ChemistryConfig
from pigen.config.dump import dump_experiment
from pigen.config.filters import CRITERION_LABELS, FilterConfig
from pigen.config.load import load_experiment, shipped_experiments
from pigen.config.settings import (
    LABELS,
    DataConfig,
    DiffusionConfig,
    EnergyConfig,
    Experiment,
    ImportConfig,
    LossConfig,
    ModelConfig,
    PseudoRandomConfig,
    RelaxConfig,
    SampleConfig,
    SubstitutionConfig,
    TrainConfig,
)

__all__ = [
    "CRITERION_LABELS",
    "LABELS",
    "ChemistryConfig",
    "DataConfig",
    "DiffusionConfig",
    "EnergyConfig",
    "Experiment",
    "FilterConfig",
    "ImportConfig",
    "LossConfig",
    "ModelConfig",
    "PseudoRandomConfig",
    "RelaxConfig",
    "SampleConfig",
    "SubstitutionConfig",
    "TrainConfig",
    "dump_experiment",
    "load_experiment",
    "shipped_experiments",
]
