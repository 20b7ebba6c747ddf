"""Drawn scenes, box by box: what a judge reads against what was planned, with intervals over pictures.

In: pictures that carry plans, and a judge. Out: figures (each with its interval, its n and its method, or the
reason why it was not measured), and what bars say of them. docs/scenes.md defines every figure.
"""
