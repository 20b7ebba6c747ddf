"""Findings as results.json, and observations as tables: canonical, deterministic, whole.

Times belong elsewhere; where pictures were drawn is told, since they may differ by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from counterpoise.audit.database import store_errors
from counterpoise.audit.evidence import Evidence
from counterpoise.audit.pictures import write_atomically
from counterpoise.audit.results import Findings

SCHEMA = 1


def results_dict(
    findings: Findings, evidence: Evidence, *, extra: Mapping[str, object] | None = None
) -> dict[str, object]:
    """What results.json holds: claims, rates, disparities, coverage, the run's identity, and `extra`.

    extra: the caller's own top-level objects ("fold", "restore"); ValueError if a name is taken.
    """
    content: dict[str, object] = {
        "schema": SCHEMA,
        **asdict(findings),
        "arms": evidence.arms,
        "evidence": {"root": evidence.root, "sources": [asdict(source) for source in evidence.sources()]},
        **evidence.identity,
    }
    taken = sorted(content.keys() & (extra or {}).keys())
    if taken:
        raise ValueError(f"extra objects named {', '.join(taken)}: results.json has its own of that name")
    return {**content, **(extra or {})}


def results_json(
    path: Path | str, findings: Findings, evidence: Evidence, *, extra: Mapping[str, object] | None = None
) -> Path:
    """Write results.json atomically: sorted keys, two-space indent, ASCII, no nan or inf (ValueError).

    The same findings give the same bytes. EnvironmentLackError if the disk refuses.
    """
    path = Path(path)
    content = results_dict(findings, evidence, extra=extra)
    text = json.dumps(content, sort_keys=True, indent=2, allow_nan=False) + "\n"
    with store_errors(path.parent):
        write_atomically(path, text.encode("ascii"))
    return path
