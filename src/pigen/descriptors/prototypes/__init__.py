"""Frameworks: which known one a structure has, and which structures are duplicates.

pymatgen's `StructureMatcher` decides; what is here keeps almost all of the work from it.
"""
