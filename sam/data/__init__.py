"""Data sets: bAbI and Omniglot, from a folder or a checked download."""
