"""Estimates with intervals; numpy and scipy only, every function with its source."""
