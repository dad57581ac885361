"""A door to DFT: VASP inputs out, energies back in."""
