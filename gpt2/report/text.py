"""Makes text from data sets and models safe to show."""

# Control characters other than white space become their visible pictures. What cannot be encoded, and what would
# reorder the surrounding text, becomes the replacement character.
_BIDI_CONTROLS = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_PRINTABLE = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000), *_BIDI_CONTROLS], 0xFFFD),
}


def printable(text: str) -> str:
    """The text with every character visible, and valid in HTML, SVG and UTF-8."""
    return text.translate(_PRINTABLE)


def shortened(text: str, longest: int) -> str:
    """At most `longest` characters of the text, with an ellipsis where it was cut."""
    return text if len(text) <= longest else text[:longest].rstrip() + " …"
