"""SAM in training: how it learns with each index, and what it asks of it."""
