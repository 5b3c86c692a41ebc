"""Plain text, and the lines of any text file, in UTF-8 and perhaps compressed.

A plain text is read as Python reads text: without a byte order mark, and every end of a line is "\\n".
"""

import io
import lzma
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Literal

import pyarrow as pa

from gpt2.common.errors import InputError, first_line

PLAIN = (".txt", ".md")
ARROW_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
COMPRESSED = (*ARROW_CODECS, ".xz")
UNREADABLE = (ValueError, OSError, EOFError, lzma.LZMAError, pa.ArrowException)  # what a damaged file raises


def format_of(path: Path) -> str:
    """The suffix in lower case, without that of a compression: .jsonl for A.JSONL.gz."""
    name = Path(path.name.lower())
    return Path(name.stem).suffix if name.suffix in COMPRESSED else name.suffix


def opened(path: Path) -> BinaryIO:
    """Opens a file to read its bytes, decompressed if its suffix is that of a compression."""
    suffix = path.suffix.lower()
    if suffix == ".xz":
        return lzma.open(path)
    if suffix in ARROW_CODECS:
        return io.BufferedReader(pa.CompressedInputStream(open(path, "rb"), ARROW_CODECS[suffix]))
    return open(path, "rb")


def lines(stream: BinaryIO) -> Iterator[str]:
    """The lines with their ends, without a byte order mark. Raises ValueError with the first byte that is not UTF-8."""
    offset = 0
    with stream:
        for line in stream:
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                reason = f"byte 0x{line[error.start]:02x} at offset {offset + error.start} is not UTF-8"
                raise ValueError(reason) from None
            yield text if offset else text.removeprefix("\ufeff")
            offset += len(line)


def documents(stream: BinaryIO, where: str, unit: Literal["file", "paragraph"]) -> Iterator[str]:
    """The plain text as one document, or each block between blank lines, without the blank ones.

    Raises InputError with `where`, the name of the file, if it is damaged or not UTF-8.
    """
    try:
        universal = (part for line in lines(stream) for part in io.StringIO(line, newline=None))
        if unit == "file":
            text = "".join(universal)
            if text.strip():
                yield text
            return
        for blank, block in groupby(universal, key=lambda line: not line.strip()):
            if not blank:
                yield "".join(block).removesuffix("\n")
    except UNREADABLE as error:
        if getattr(error, "errno", None):
            raise
        raise InputError(f"{where}: cannot be read: {first_line(error)}") from None
