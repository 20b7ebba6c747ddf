"""The table's rows as one JSON object with its bars, and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.stack.cells import correlation

AT = 128


def summary(rows: Sequence[dict[str, Any]], fingerprint: str) -> dict[str, Any]:
    """Rows, the bars at 128 members, and the report's rank correlation over all members of all naive sums."""
    wide = [row for row in rows if row["n"] == AT]
    merged = [row for row in wide if row["stack"] != "routed"]
    pooled = [m for row in rows if row["stack"] == "sum" and row["n"] > 1 for m in row["members"]]
    pooled = [m for m in pooled if m["share"] is not None]
    return {
        "w0": fingerprint,
        "rows": list(rows),
        "bars": {
            "best stack at 128": _best(wide),
            "best single adapter at 128": _best(merged),
            "naive sum at 128": next((_short(row) for row in wide if row["stack"] == "sum"), None),
            "report against loss, naive sums pooled": {
                "n": len(pooled),
                "by what is kept": correlation(pooled, "kept_inputs", -1.0),
                "by disturbance": correlation(pooled, "disturbance", 1.0),
                "by forecast": correlation(pooled, "forecast", 1.0),
            },
            "W0 restored by bytes": {"stacks": len(rows), "identical": sum(row["restored"] for row in rows)},
        },
    }


def _best(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The row that is least short of both bars together."""
    if not rows:
        return None

    def short(row: dict[str, Any]) -> float:
        return max(0.9 - (row["kept"] or 0.0), 0.0) + max(0.98 - row["following_of_base"], 0.0)

    row = min(rows, key=short)
    return {**_short(row), "passed": short(row) == 0.0}


def _short(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("stack", "kept", "kept_error", "measured", "following_of_base")}


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line a row."""
    shown = {"following": "following_of_base", "distance": "distance", "diversity": "diversity"}
    shown |= {"unread": "abstained", "bias": "bias_shift", "rank corr.": "rank_correlation_disturbance"}
    shown |= {"forecast": "rank_correlation_forecast"}
    return [
        f"{row['n']:4d} {row['stack']:12s} kept {_shown(row['kept'])} +- {_shown(row['kept_error'])} "
        f"(n {row['measured']}), {', '.join(f'{name} {_shown(row[key])}' for name, key in shown.items())}, "
        f"ms mounted {row['mounted_ms']} folded {row['folded_ms']} base {row['base_ms']}, "
        f"W0 {'back' if row['restored'] else 'LOST'}"
        for row in sorted(rows, key=lambda row: (row["n"], row["stack"]))
    ]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
