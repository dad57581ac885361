"""Experiments: one TOML file → frozen, validated dataclasses."""

from pigen.experiment.settings import (
    LABELS,
    DataConfig,
    DiffusionConfig,
    Experiment,
    FilterConfig,
    LossConfig,
    ModelConfig,
    PseudoRandomConfig,
    SampleConfig,
    TrainConfig,
)

__all__ = [
    "LABELS",
    "DataConfig",
    "DiffusionConfig",
    "Experiment",
    "FilterConfig",
    "LossConfig",
    "ModelConfig",
    "PseudoRandomConfig",
    "SampleConfig",
    "TrainConfig",
]
