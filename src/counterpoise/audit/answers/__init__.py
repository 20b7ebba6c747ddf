"""Every hypothesis of a spec, weighed on a run's evidence: one file a kind, one panel over all.

In: a plan's items and stored readings. Out: findings with their rows. `hypotheses.py` lists what is asked,
`claims.py`, `contrasts.py`, `reach.py` and `drifts.py` answer, `panel.py` decides all together.
"""
