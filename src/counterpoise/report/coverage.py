"""What the evidence consists of, and what it cannot say."""

from __future__ import annotations

from counterpoise.report import text
from counterpoise.report.data import ReportData
from counterpoise.report.sections import arms_of
from counterpoise.report.tables import Cell, Table

_ALWAYS = (
    "Attributes are what a judge perceives in drawn pictures. They are not facts about any person, "
    "and nobody's identity can be read from a picture.",
    "Categories are as coarse as the judge's values. People who fit none of them are counted as one "
    "of them or as no reading; binary labels hide those who are neither.",
    "The prompts are a sample. Verdicts hold for these prompts; only findings about the model speak "
    "for more, and only for prompts like these.",
    "The pictures are of these weights, settings and seeds. Another sampler, guidance or adapter "
    "needs its own audit.",
    "Fair here means: within the stated tolerance of the stated target. Whether that target is just "
    "is not measured.",
    "Undecided is neither fair nor biased: there is too little evidence for either.",
)


def limits_of(data: ReportData) -> list[str]:
    """This audit's own limits, what its records show, and what no audit of this kind can say."""
    found = list(data.limits)
    corrected = any(c.corrected for c in data.claims) or any(
        c.corrected_difference or c.corrected_ratio for c in data.contrasts
    )
    if data.claims or data.contrasts or data.rates or data.reached or data.drifts:
        found.append(
            "Where an interval with the judge's error stands, it rests on labelled pictures like these; "
            "every other figure takes the judge at its word."
            if corrected
            else "The judge's error is not in these figures: the audit had no confusion card."
        )
    if data.findings and all(f.tolerance is None for f in data.findings if f.kind != "reachability"):
        found.append("No tolerance was set, so no distribution and no disparity can be called fair.")
    if [c for c in data.coverage if c.drawn < c.planned] and data.stopping != "sequential":
        found.append("The run is not complete: some planned pictures were not drawn when this was written.")
    return [*dict.fromkeys([*found, *_ALWAYS])]


def coverage_table(data: ReportData) -> Table | None:
    """Pictures by arm: planned, drawn, and of those blank, failed, duplicates; readings that were none."""
    if not data.coverage:
        return None
    asked = {arm: [c for c in data.claims if c.arm == arm and c.n > 0] for arm in arms_of(data)}
    rows = []
    for c in data.coverage:
        claims = asked.get(c.arm, [])
        unread = (
            Cell(str(sum(k.abstained for k in claims)), f"of {sum(k.n for k in claims)} in claims")
            if claims
            else Cell(text.NOT_MEASURED)
        )
        figures = (c.planned, c.drawn, c.blank, c.failed, c.duplicates)
        rows.append([Cell(text.clip(c.arm, 60), arm=c.arm), *(Cell(str(n)) for n in figures), unread])
    notes = (
        "Blank: one colour all over, never shown to the judge. Judge failed: an error, not a doubt. "
        "Duplicates: repeat another picture of their prompt. No reading: the judge abstained; "
        "these stay in every denominator.",
    )
    columns = ("arm", "planned", "drawn", "blank", "judge failed", "duplicates", "no reading")
    return Table("Pictures by arm; columns after “drawn” count among those drawn", columns, rows, notes)
