"""Remedies side by side: each prepared, drawn by one audit on shared seeds, timed, judged by one rule.

In: a model, a goal, the names of remedies. Out: a `SideBySide`, from which the page is made, and everything
on disk, so that the same call goes on where a killed one stopped.
"""

from counterpoise.remedies.side_by_side.records import Outcome, SideBySide, Timing
from counterpoise.remedies.side_by_side.run import side_by_side

__all__ = ["Outcome", "SideBySide", "Timing", "side_by_side"]
