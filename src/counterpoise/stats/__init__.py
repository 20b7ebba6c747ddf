"""Estimates with intervals and evidence for decisions; numpy and scipy only, every function with its source.

Counts and shares come in; `Estimate`s, logarithms of e-values, decisions and plain floats go out. Misuse is a
ValueError: what users wrote has been checked before it gets here. docs/statistics.md explains the methods.
"""

from counterpoise.stats.association import Association, association_test
from counterpoise.stats.betting import log_wealth, mean_interval
from counterpoise.stats.clusters import clustered_distance, clustered_score, clustered_shares
from counterpoise.stats.distance import fair_floor, floor_corrected, total_variation, total_variation_bounds
from counterpoise.stats.eprocess import in_simplex_sequence, log_e_path, log_e_target, log_e_target_worst
from counterpoise.stats.estimate import Estimate
from counterpoise.stats.fixed import p_outside, p_target, p_within
from counterpoise.stats.judge import (
    card_bounds,
    corrected_disparity,
    corrected_shares,
    reading_bounds,
    true_share_bounds,
)
from counterpoise.stats.multiplicity import closed_e_bh, e_bh, e_holm, p_from_e
from counterpoise.stats.paired import (
    Pairs,
    log_e_paired,
    log_e_paired_difference,
    log_e_paired_ratio,
    paired_difference,
    paired_ratio,
    with_missing,
)
from counterpoise.stats.power import Plan, plan
from counterpoise.stats.proportions import clopper_pearson, multinomial_intervals
from counterpoise.stats.published import METRICS, PublishedMetric, Score, published_scores
from counterpoise.stats.ratio import risk_ratio
from counterpoise.stats.sequences import distance_sequence, share_bounds, share_sequence
from counterpoise.stats.tolerance import log_e_outside, log_e_within
from counterpoise.stats.unpaired import log_e_difference, log_e_ratio, rate_difference, rate_ratio
from counterpoise.stats.verdict import Decision, Verdict, interval_decision, panel_decisions, verdict

__all__ = [
    "METRICS",
    "Association",
    "Decision",
    "Estimate",
    "Pairs",
    "Plan",
    "PublishedMetric",
    "Score",
    "Verdict",
    "association_test",
    "card_bounds",
    "clopper_pearson",
    "closed_e_bh",
    "clustered_distance",
    "clustered_score",
    "clustered_shares",
    "corrected_disparity",
    "corrected_shares",
    "distance_sequence",
    "e_bh",
    "e_holm",
    "fair_floor",
    "floor_corrected",
    "in_simplex_sequence",
    "interval_decision",
    "log_e_difference",
    "log_e_outside",
    "log_e_paired",
    "log_e_paired_difference",
    "log_e_paired_ratio",
    "log_e_path",
    "log_e_ratio",
    "log_e_target",
    "log_e_target_worst",
    "log_e_within",
    "log_wealth",
    "mean_interval",
    "multinomial_intervals",
    "p_from_e",
    "p_outside",
    "p_target",
    "p_within",
    "paired_difference",
    "paired_ratio",
    "panel_decisions",
    "plan",
    "published_scores",
    "rate_difference",
    "rate_ratio",
    "reading_bounds",
    "risk_ratio",
    "share_bounds",
    "share_sequence",
    "total_variation",
    "total_variation_bounds",
    "true_share_bounds",
    "verdict",
    "with_missing",
]
