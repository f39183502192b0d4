"""Measures, models and perturbations: torch, torchmetrics and numpy only, no host library and no files."""
