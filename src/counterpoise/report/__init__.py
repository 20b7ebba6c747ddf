"""Audit results in, one self-contained HTML file out; also contact sheets for a quick look."""

from counterpoise.report.contact import contact_sheet
from counterpoise.report.data import Picture, Proof, ReportData
from counterpoise.report.page import report_html, write_report

__all__ = ["Picture", "Proof", "ReportData", "contact_sheet", "report_html", "write_report"]
