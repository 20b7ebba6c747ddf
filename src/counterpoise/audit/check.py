"""Does a spec fit the measurer that will answer it? Checked before the first picture is drawn."""

from __future__ import annotations

from counterpoise.audit.plan import plan_of
from counterpoise.audit.spec import AuditSpec
from counterpoise.measure.reading import Measurer


def check_spec(spec: AuditSpec, measurer: Measurer) -> AuditSpec:
    """The spec bound to its measurer: slots named as attributes have that attribute's values.

    UsageError (one line, nearest valid name) if a question asks for what the measurer cannot read.
    """
    return plan_of(spec, measurer.attributes, judge=f"measurer {measurer.name}").spec
