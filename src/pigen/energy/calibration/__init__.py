"""What DFT would say of a relaxed structure: an estimate with its error, fitted to DFT's."""

from pigen.energy.calibration.estimate import (
    ESTIMATE_COLUMNS,
    Calibration,
    load_calibration,
    with_estimate,
)

__all__ = ["ESTIMATE_COLUMNS", "Calibration", "load_calibration", "with_estimate"]
