"""The asv suites: what a step costs in time and memory, against N and T."""
