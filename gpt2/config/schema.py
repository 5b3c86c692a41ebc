"""The base class of all sections: mappings from YAML or JSON, typed, frozen and validated."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpt2.common.errors import InputError

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
TextList = Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]  # a list in YAML; a tuple cannot be changed


class Section(BaseModel):
    """A mapping that refuses unknown keys, does not convert types and cannot be changed.

    The string below a field is its description.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def parse(section: type[Section], raw: object, where: str):
    """Validates `raw`, the content of a YAML or JSON file, as `section`.

    Raises InputError that names the file `where`, the first wrong key, its value and what is allowed, and counts the
    other mistakes.
    """
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        mistakes: dict[str, list[str]] = {}  # by key: the explanation, or one for each type that the key may have
        for found in error.errors(include_url=False):
            parts = [str(part) for part in found["loc"] if not re.match(r"constrained-|\w+\[", str(part))]  # of a type
            mistakes.setdefault(".".join(parts) or "the file", []).append(_explain(section, found))
        (key, (first, *types)), *others = mistakes.items()
        explained = ", or ".join([first, *(explanation.partition(": ")[2] for explanation in types)])
        more = f" (and {len(others)} more)" if others else ""
        raise InputError(f"{where}: {key} {explained}{more}") from None


def _explain(section: type[Section], error: dict) -> str:
    """Describes a pydantic error: what is wrong with the value, and what is allowed."""
    if error["type"] == "missing":
        return "is missing"
    value = f"= {error['input']!r}"
    if error["type"] != "extra_forbidden":
        return f"{value}: {error['msg'].removeprefix('Value error, ')}"
    for name in error["loc"][:-1]:
        section = section.model_fields[name].annotation if issubclass(section, Section) else None
        if not isinstance(section, type):  # a mapping or list of sections
            return f"{value}: an unknown key"
    return f"{value}: an unknown key; expected one of {', '.join(section.model_fields)}"
