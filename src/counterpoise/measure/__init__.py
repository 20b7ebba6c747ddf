"""Judges of pictures: uint8 pictures in, a Reading for every attribute out, or an abstention."""
