"""What msgspec raises on bytes that are not what was asked for: more than its own errors."""

from __future__ import annotations

from typing import Final

import msgspec

# A string that is no UTF-8 and a nesting past the interpreter's bound come as Python's errors, not as msgspec's.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
