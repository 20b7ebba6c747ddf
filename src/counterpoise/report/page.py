"""One self-contained report.html: audit results in, a file that opens from anywhere out.

The page asks nothing of any network (a content security policy forbids it), runs no script, and shows
hostile text literally: every value passes `visible` and then Jinja's escaping on its way in.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from counterpoise.errors import UsageError
from counterpoise.files import write_atomic
from counterpoise.report import palette
from counterpoise.report.answers import contrasts_table, drifts_table, judge_tables, reached_table
from counterpoise.report.charts import curve
from counterpoise.report.coverage import coverage_table, limits_of
from counterpoise.report.data import Proof, ReportData
from counterpoise.report.groups import rate_panels
from counterpoise.report.ledger import findings_table, meaning, tallies_table
from counterpoise.report.regulation import forms
from counterpoise.report.sections import arms_of, prompt_sections, summary
from counterpoise.report.text import NOT_MEASURED, clip, number, visible
from counterpoise.report.verdict import verdict_sentence

MOST_BYTES = 2_000_000
_ROOMS = (1.0, 0.4, 0.1, 0.01)  # of the room for claims, should they be of unusual length
_PICTURES = re.compile('src="data:[^"]*"')


def write_report(data: ReportData, path: Path) -> None:
    """Write the report to `path`, whole or not at all; folders on the way are made.

    Raises UsageError if `path` is a folder or two records claim one place, RefusedInputError if a
    picture is not a PNG, EnvironmentLackError if the disk refuses.
    """
    write_page(report_html(data), path)


def write_page(text: str, path: Path) -> None:
    """Write a page whole or not at all; errors as `write_report`'s."""
    page = text.encode("utf-8")
    if path.is_dir():
        raise UsageError(
            f"report: {path} is a folder; expected a file such as {path}/report.html", code="E_PATH"
        )
    write_atomic(path, [page])


def report_html(data: ReportData) -> str:
    """The whole page as text, at most MOST_BYTES without its pictures; the same data give the same text."""
    page = ""
    for room in _ROOMS:
        page = _page(data, room)
        if len(_PICTURES.sub("", page).encode("utf-8")) <= MOST_BYTES:
            break
    return page


def _page(data: ReportData, room: float) -> str:
    drawing, table = summary(data)
    prompts, left_out = prompt_sections(data, room)
    panels, panels_left_out = rate_panels(data.rates, data.disparities)
    sure = data.confidence
    return rendered(
        "report.html.j2",
        data=data,
        verdict=data.verdict or verdict_sentence(data.findings, data.claims, confidence=sure),
        slots=palette.slots(arms_of(data)),
        ledger=findings_table(data.findings, sure),
        tallies=tallies_table(data.findings),
        meaning=meaning(data.findings),
        summary_drawing=drawing,
        summary_table=table,
        prompts=prompts,
        prompts_left_out=left_out,
        rates=panels,
        rates_left_out=panels_left_out,
        contrasts=contrasts_table(data.contrasts, data.findings, sure),
        reached=reached_table(data.reached, data.findings, sure),
        drifts=drifts_table(data.drifts, data.findings, sure),
        confusions=judge_tables(data.cards, sure),
        coverage=coverage_table(data),
        loss_drawing=curve(data.losses, label="Chart: training loss by step.") if data.losses else None,
        forms=forms(data),
        limits=limits_of(data),
    )


def rendered(template: str, **values: Any) -> str:
    """A template of this room as text, with the common style and its digest for the content policy."""
    style = palette.style() + "\n" + _template("style.css")
    digest = b64encode(sha256(style.encode("utf-8")).digest()).decode("ascii")
    common = {"style": Markup(style), "style_digest": digest, "NOT_MEASURED": NOT_MEASURED}
    return _environment().get_template(template).render(**values, **common).lstrip()


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        loader=FunctionLoader(_template),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"clip": clip, "number": number}
    environment.tests["digest"] = lambda figure: len(figure) >= 32 and set(figure) <= set("0123456789abcdef")
    environment.globals["hashes_equal"] = _hashes_equal
    return environment


def _finalize(value: Any) -> Any:
    """Nothing invisible reaches the page, whatever template line it comes through."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _hashes_equal(proof: Proof) -> bool | None:
    """Whether all of a proof's hashes are one hash; None if it has fewer than two."""
    hashes = [f for f in proof.figures.values() if len(f) == 64 and set(f) <= set("0123456789abcdef")]
    return len(set(hashes)) == 1 if len(hashes) > 1 else None


def _template(name: str) -> str:
    return files("counterpoise.report").joinpath("templates", name).read_text(encoding="utf-8")
