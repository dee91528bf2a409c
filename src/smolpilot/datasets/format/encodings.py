"""Text files in other encodings than UTF-8: read all the same, since their content is whole."""

from __future__ import annotations

import codecs

BYTE_ORDER_MARK = "begins with a byte order mark"
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_text(content: bytes) -> tuple[str, str]:
    """(text, what is odd about its encoding); plain UTF-8 is not odd. Bytes that are no UTF-8 are Windows-1252."""
    if content.startswith(UTF16):
        return content.decode("utf-16", errors="replace"), "is UTF-16"
    odd = BYTE_ORDER_MARK if content.startswith(codecs.BOM_UTF8) else ""
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf-8"), odd
    except UnicodeDecodeError:
        text = content.decode("utf-8", errors="surrogateescape")
    return "".join(map(_western, text)), "is not UTF-8"


def _western(letter: str) -> str:
    if not "\udc80" <= letter <= "\udcff":
        return letter
    return bytes([ord(letter) - 0xDC00]).decode("cp1252", errors="replace")
