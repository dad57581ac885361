"""Every table and figure of the paper from one command, at a scale that the machine can take."""
