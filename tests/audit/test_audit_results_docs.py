"""docs/results.md names every field of every record that results.json holds."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from counterpoise.audit import results

DOCS = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
HEADS = {
    "Finding": "findings",
    "Claim": "claims",
    "Rate": "rates",
    "Disparity": "rates",
    "Contrast": "contrasts",
    "Reached": "reached",
    "Drift": "drifts",
    "Coverage": "coverage",
    "PublishedScore": "claims",
    "Measured": "findings",
}


@pytest.mark.parametrize("record", HEADS)
def test_every_field_is_explained_where_its_record_is(record: str) -> None:
    (section,) = [part for part in DOCS.split("\n## ")[1:] if part.startswith(f"`{HEADS[record]}`")]
    named = set(re.findall(r"`([a-z_*]+)`", section))
    missing = {field.name for field in fields(getattr(results, record))} - named
    assert not missing


def test_every_list_has_its_section() -> None:
    heads = re.findall(r"^## (.*)$", DOCS, re.MULTILINE)
    assert all(any(f"`{field.name}`" in head for head in heads) for field in fields(results.Findings))
