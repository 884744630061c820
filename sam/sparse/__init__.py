"""Sparse access to a memory: what makes a step of SAM cost O(1) memory and the index's time."""
