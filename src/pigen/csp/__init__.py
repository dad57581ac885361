"""From generated structures to crystal structure prediction: seeds, searches, what they found."""
