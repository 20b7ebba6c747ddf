"""One cell of the table: a number of members, a way to stack them, and what is measured of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.stack.bench import BATCH, TAUGHT, Bench
from benchmarks.stack.forecast import changes, forecast, predictions
from benchmarks.stack.members import Member
from benchmarks.stack.roster import Covariances, asked, chosen, judged, plain, solo
from benchmarks.stack.stacks import STACKS, composed
from counterpoise.lora import Adapter
from counterpoise.lora.algebra import Retention, retention

PLANTED = (
    ("a woman", "skin"),
    ("a boss", "presentation"),
    ("a cleaner", "skin"),
    ("a nurse", "presentation"),
)
WORTH = 0.25  # members whose own effect is less are counted out: a share of next to nothing says nothing
Draw = Callable[[Sequence[str], Sequence[int]], np.ndarray]


@final
@dataclass(frozen=True, slots=True)
class Team:
    """The first n members, their adapters and calibration inputs, and the inputs to leave alone."""

    members: Sequence[Member]
    adapters: Sequence[Adapter]
    covariances: Sequence[Covariances]
    neutral: Covariances


def cell(bench: Bench, name: str, team: Team, base: dict[str, Any]) -> dict[str, Any]:
    """All figures of one stack; W0 is proven to be back afterwards. base: `plain_figures`."""
    before = bench.host.fingerprint()
    stack, started = STACKS[name], time.process_time()
    chosen_ones = chosen(bench, len(team.members))
    report = [Retention(1.0, 0.0)] * len(chosen_ones)
    alone = changes(bench, *zip(*[(team.members[i], team.adapters[i]) for i in chosen_ones], strict=True))
    expected: list[float | None] = [None] * len(chosen_ones)
    if stack.method == "routed":
        said = {"rank": sum(u.rank for a in team.adapters for u in a.layers.values())}
        for i, adapter in enumerate(team.adapters):
            bench.host.mount(adapter, name=str(i))
        draw: Draw = lambda prompts, seeds: routed(bench, team.members, prompts, seeds)  # noqa: E731
    else:
        made = composed(stack, team.adapters, team.covariances, team.neutral)
        said = {"rank": sum(u.rank for u in made.layers.values())}
        own = [team.adapters[i] for i in chosen_ones]
        seen = [team.covariances[i] for i in chosen_ones]
        report = list(retention(made, own, covariances=seen))
        bench.host.mount(made, allow_extreme=True)
        draw = bench.draw
        for k, i in enumerate(chosen_ones):
            expected[k] = forecast(alone[k], lambda i=i: predictions(bench, team.members[i]))
    composing = time.process_time() - started
    try:
        effects = _effects(bench, team, chosen_ones, list(zip(report, expected, strict=True)), draw=draw)
        quality = _quality(bench, draw, base)
        bias = _bias(bench, draw, base)
        mounted = _milliseconds(bench, draw, team.members)
        memory = bench.host.factor_bytes
        folded = None
        if stack.method != "routed":
            bench.host.fold()
            folded = _milliseconds(bench, draw, team.members)
    finally:
        bench.host.restore()
    return {
        "n": len(team.members),
        "stack": name,
        "says": stack.says,
        **said,
        **effects,
        **quality,
        **bias,
        "compose_seconds": round(composing, 2),
        "mounted_ms": mounted,
        "folded_ms": folded,
        "base_ms": base["ms"],
        "factor_bytes": memory,
        "restored": bench.host.fingerprint() == before,
    }


def _effects(
    bench: Bench, team: Team, measured: Sequence[int], report: Sequence[Any], *, draw: Draw
) -> dict[str, Any]:
    """What is left of each measured member's effect, and how well the report had it."""
    prompts: list[str] = []
    seeds: list[int] = []
    for i in measured:
        more = asked(bench, team.members[i])
        prompts += more[0]
        seeds += more[1]
    pictures = np.split(draw(prompts, seeds), len(measured))
    rows = []
    for i, drawn, (said, expected) in zip(measured, pictures, report, strict=True):
        member = team.members[i]
        rates = solo(bench, member, team.adapters[i])  # found on disk
        rate = judged(bench, member, drawn, plain(bench, member)).rate
        effect = rates["solo"] - rates["base"]
        row = {"member": member.name, "kind": member.kind, "rate": rate, **rates}
        row |= {
            "kept_inputs": said.kept,
            "disturbance": said.disturbance,
            "forecast": expected,
            "share": (rate - rates["base"]) / effect if effect >= WORTH else None,
        }
        rows.append(row)
    worth = [row for row in rows if row["share"] is not None]
    shares = [row["share"] for row in worth]
    return {
        "members": rows,
        "measured": len(worth),
        "kept": _mean(shares),
        "kept_capped": _mean([min(1.0, max(0.0, share)) for share in shares]),
        "kept_error": float(np.std(shares, ddof=1) / len(shares) ** 0.5) if len(shares) > 1 else None,
        "members_keeping_90": _mean([float(share >= 0.9) for share in shares]),
        "rank_correlation_kept": correlation(worth, "kept_inputs", -1.0),
        "rank_correlation_disturbance": correlation(worth, "disturbance", 1.0),
        "rank_correlation_forecast": correlation(worth, "forecast", 1.0),
    }


def correlation(rows: Sequence[Any], key: str, sign: float) -> float | None:
    """Spearman's of what the report says that members lose and what they lost; None where all are alike.

    Nobody loses more than all: a rate below the base's is no further loss, only the luck of a few pictures
    or other members' work.
    """
    said = [sign * row[key] for row in rows if row[key] is not None]
    lost = [1.0 - min(1.0, max(0.0, row["share"])) for row in rows if row[key] is not None]
    if len(set(said)) < 3 or len(set(lost)) < 3:
        return None
    return float(spearmanr(said, lost).statistic)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _quality(bench: Bench, draw: Draw, base: dict[str, Any]) -> dict[str, Any]:
    """Prompt-following, and how far the same prompts' pictures are from the base's, in the reader's features
    (in units of the mean distance between two of the base's pictures)."""
    asked_for = bench.following()
    pictures = draw([p for p, _, _ in asked_for], range(100_000, 100_000 + len(asked_for)))
    read = bench.reader(pictures)
    right = sum(row[a].value == v for row, (_, a, v) in zip(read, asked_for, strict=True)) / len(asked_for)
    unread = np.mean([reading.value is None for row in read for reading in row.values()])
    features = bench.features(pictures)
    found = {"following": right, "abstained": float(unread), "diversity": _diversity(features)}
    if base:
        apart = (features - base["features"]).norm(dim=1).mean()
        found["distance"] = float(apart / base["diversity"])
        found["diversity"] /= base["diversity"]
        found["following_of_base"] = right / base["following"]
        found["following_n"] = len(asked_for)
    else:
        found["features"] = features
    return found


def _diversity(features: torch.Tensor) -> float:
    return float(torch.pdist(features).mean())


def _bias(bench: Bench, draw: Draw, base: dict[str, Any]) -> dict[str, Any]:
    """Shares of the planted associations, and their total variation distance from the base's, the mean."""
    n, templates = bench.sizes.shares, bench.table.templates[TAUGHT]
    shares: dict[str, dict[str, float]] = {}
    for phrase, attribute in PLANTED:
        prompts = [templates[i % 4].format(phrase) for i in range(n)]
        read = [row[attribute].value for row in bench.reader(draw(prompts, range(200_000, 200_000 + n)))]
        values = bench.table.attributes[attribute]
        shares[f"{phrase}, {attribute}"] = {v: read.count(v) / n for v in values}
    if not base:
        return {"shares": shares}
    apart = [sum(abs(own[v] - base["shares"][key][v]) for v in own) / 2 for key, own in shares.items()]
    return {"shares": shares, "bias_shift": float(np.mean(apart))}


def _milliseconds(bench: Bench, draw: Draw, members: Sequence[Member]) -> float:
    """Processor time an image, over one batch: everything is warm by now."""
    n = min(BATCH, bench.sizes.following)
    prompts = [f"a portrait of {members[i % len(members)].phrase}" for i in range(n)]
    started = time.process_time()
    draw(prompts, range(n))
    return round((time.process_time() - started) / n * 1000, 2)


def plain_figures(bench: Bench, members: Sequence[Member]) -> dict[str, Any]:
    """The bare model's figures, which the stacks' are compared with."""
    found = {**_quality(bench, bench.draw, {}), **_bias(bench, bench.draw, {})}
    return {**found, "ms": _milliseconds(bench, bench.draw, members)}


def routed(
    bench: Bench, members: Sequence[Member], prompts: Sequence[str], seeds: Sequence[int]
) -> np.ndarray:
    """Every member is mounted; a picture's row of strengths has those whose phrase its prompt ends with."""
    painter = bench.painter(min(BATCH, len(prompts)))
    rows = [_row(members, prompt) for prompt in prompts]
    with _rows(bench, [{}]):
        painter.embed([""])
    for prompt, row in zip(prompts, rows, strict=True):
        with _rows(bench, [row]):
            painter.embed([prompt])
    size = painter.batch_size
    parts = []
    for start in range(0, len(prompts), size):
        part = slice(start, start + size)
        full = rows[part] + [rows[part][-1]] * (size - len(rows[part]))
        with _rows(bench, full):
            parts.append(painter(prompts[part], seeds[part]))
    return np.concatenate(parts)


def _row(members: Sequence[Member], prompt: str) -> dict[str, float]:
    """Members by the words that call them; "a boss" calls nobody where the prompt goes on."""
    return {str(i): 1.0 for i, member in enumerate(members) if prompt.endswith(f" {member.phrase}")}


@contextmanager
def _rows(bench: Bench, rows: Sequence[dict[str, float]]) -> Iterator[None]:
    with bench.host.per_sample(rows):
        yield
