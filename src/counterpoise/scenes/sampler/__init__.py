"""Draws scenes with stock pipelines, each person from a prompt of their own, inside a box of their own."""
