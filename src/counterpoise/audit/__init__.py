"""Audits: a spec (the question) and arms (ways of drawing) in; evidence on disk and findings out.

In short (`enter()` gives a context manager that yields a drawer):

    spec = load_spec("spec.toml")
    findings = run_audit(spec, [(arm, enter), ...], measurer=measurer, folder="runs/demo")
    with read_run("runs/demo") as evidence:
        results_json("runs/demo/results.json", findings, evidence)
"""

from counterpoise.audit.analysis import analyse
from counterpoise.audit.check import check_spec
from counterpoise.audit.chunks import read_chunks
from counterpoise.audit.evidence import Evidence, Picture, root_digest
from counterpoise.audit.export import results_dict, results_json
from counterpoise.audit.folder import open_run, read_run
from counterpoise.audit.items import ClaimItem, DisparityItem, DriftItem, Plan, ReachItem
from counterpoise.audit.load import drift_spec, load_spec, make_spec, with_n
from counterpoise.audit.plan import bind_spec, plan_of
from counterpoise.audit.results import (
    Claim,
    Contrast,
    Coverage,
    Disparity,
    Drift,
    Finding,
    Findings,
    Rate,
    Reached,
)
from counterpoise.audit.run import Limits, run_audit
from counterpoise.audit.spec import AuditSpec, spec_warnings
from counterpoise.audit.stopping import undecided
from counterpoise.audit.tables import observations_csv, observations_parquet
from counterpoise.audit.verify import verify_run

__all__ = [
    "AuditSpec",
    "Claim",
    "ClaimItem",
    "Contrast",
    "Coverage",
    "Disparity",
    "DisparityItem",
    "Drift",
    "DriftItem",
    "Evidence",
    "Finding",
    "Findings",
    "Limits",
    "Picture",
    "Plan",
    "Rate",
    "ReachItem",
    "Reached",
    "analyse",
    "bind_spec",
    "check_spec",
    "drift_spec",
    "load_spec",
    "make_spec",
    "observations_csv",
    "observations_parquet",
    "open_run",
    "plan_of",
    "read_chunks",
    "read_run",
    "results_dict",
    "results_json",
    "root_digest",
    "run_audit",
    "spec_warnings",
    "undecided",
    "verify_run",
    "with_n",
]
