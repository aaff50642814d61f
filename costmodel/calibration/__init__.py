"""Fitting a profile to measurements, and judging one by them."""
