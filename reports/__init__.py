"""Figures and tables from asv result files; imports neither torch nor the packages measured."""
