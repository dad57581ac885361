"""Experiments: one TOML file → frozen, validated dataclasses."""

from pigen.config.dump import dump_experiment
from pigen.config.filters import (
    CRITERION_LABELS,
    LESS_IS_BETTER,
    MORE_IS_BETTER,
    ChemistryConfig,
    FilterConfig,
)
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
    "LESS_IS_BETTER",
    "MORE_IS_BETTER",
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
