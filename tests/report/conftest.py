"""The report's tests share one plausible audit."""

from __future__ import annotations

import pytest
from report_samples import plausible_data

from counterpoise.report import ReportData


@pytest.fixture(scope="session")
def plausible() -> ReportData:
    return plausible_data()
