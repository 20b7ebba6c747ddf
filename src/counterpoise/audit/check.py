"""Does a spec fit the measurer that will answer it? Checked before the first picture is drawn."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import UsageError
from ..measure.reading import Measurer
from .load import nearest
from .spec import AuditSpec


def check_spec(spec: AuditSpec, measurer: Measurer) -> None:
    """UsageError (one line, nearest valid name) if a question asks for what the measurer cannot read."""
    for i, claim in enumerate(spec.claims):
        _attribute(f"claim[{i}].attribute", claim.attribute, measurer)
        if claim.target != "uniform":
            _values(f"claim[{i}].target", claim.target, (claim.attribute, measurer))
    for i, disparity in enumerate(spec.disparities):
        _attribute(f"disparity[{i}].attribute", disparity.attribute, measurer)
        _values(f"disparity[{i}].value", [disparity.value], (disparity.attribute, measurer))


def _attribute(path: str, attribute: str, measurer: Measurer) -> None:
    if attribute not in measurer.attributes:
        raise UsageError(
            f"{path} is {attribute!r:.80}, which measurer {measurer.name} does not read; "
            f"{nearest(attribute, measurer.attributes)}",
            code="E_ATTRIBUTE",
        )


def _values(path: str, values: Iterable[str], where: tuple[str, Measurer]) -> None:
    attribute, measurer = where
    for value in values:
        if value not in measurer.attributes[attribute]:
            raise UsageError(
                f"{path} names {value!r:.80}, which is no value of {attribute}; "
                f"{nearest(value, measurer.attributes[attribute])}",
                code="E_VALUE",
            )
