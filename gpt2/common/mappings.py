"""Nested mappings."""


def flat(value: object, name: str = "") -> dict[str, object]:
    """The leaves of nested mappings by dotted name, below `name`."""
    if not isinstance(value, dict):
        return {name: value}
    prefix = f"{name}." if name else ""
    return {key: leaf for child, below in value.items() for key, leaf in flat(below, f"{prefix}{child}").items()}
