"""Crystals, the elements, and what follows from their geometry alone."""
