"""Audit results in, one self-contained HTML file out; also contact sheets for a quick look."""

from counterpoise.report.contact import contact_sheet
from counterpoise.report.data import Judge, Picture, Proof, ReportData
from counterpoise.report.page import report_html, write_report
from counterpoise.report.verdict import verdict_sentence

__all__ = [
    "Judge",
    "Picture",
    "Proof",
    "ReportData",
    "contact_sheet",
    "report_html",
    "verdict_sentence",
    "write_report",
]
