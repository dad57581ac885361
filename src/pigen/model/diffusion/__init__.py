"""Corruption processes of types A, coordinates F and lattice L. None knows a network."""
