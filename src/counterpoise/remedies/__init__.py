"""Repairs: a model and a goal in, an Adapter (or another thing that an Arm can hold) out."""
