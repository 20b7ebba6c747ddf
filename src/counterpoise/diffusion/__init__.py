"""Loads stock diffusers pipelines and draws cells: (prompt, seed) pairs in, uint8 pictures out."""
