"""The denoiser: an e3nn-equivariant network over types, coordinates and lattice."""
