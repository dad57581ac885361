"""PIGEN: generate crystal structures beyond known motifs and tell which are worth a calculation."""

__version__ = "0.1.0"
