"""A door to DFT: VASP single points out, energies back in."""
