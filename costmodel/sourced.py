"""Numbers with their sources, as hardware profiles hold them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from costmodel.table import DTYPES, KINDS
from space.errors import did_you_mean


def _known(what: str, names: tuple[str, ...]) -> Any:
    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"unknown {what} {value!r}{did_you_mean(value, names)}; known: {', '.join(names)}")
        return value

    return AfterValidator(check)


DtypeName = Annotated[str, _known("element type", DTYPES)]
KindName = Annotated[str, _known("operator class", ("default", *KINDS))]


class Strict(BaseModel):
    """A mapping without other keys than its own; numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Sourced(Strict):
    """A number that isn't negative, and where it comes from (`assumption: ...` where nobody has published it)."""

    value: float = Field(ge=0)
    source: str = Field(min_length=3)


class Positive(Sourced):
    """A number above zero with its source."""

    value: float = Field(gt=0)


class Share(Sourced):
    """A share of a peak, above 0 and at most 1, with its source."""

    value: float = Field(gt=0, le=1)
