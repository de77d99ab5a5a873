"""In which line of a TOML or JSON file a value stands: the parsers of the standard library do not say.

A scan of text that has already been parsed, run only when there is something to complain about.
"""

from __future__ import annotations

from typing import Final

Path = tuple[str | int, ...]

_SPACE: Final = " \t\r\n"
_ENDS_BARE: Final = ",]}\r\n#"


class Lines:
    """Line numbers by path, ``("campaign", 2, "daily_budget")``; JSON keys given twice are in ``repeated``."""

    def __init__(self, text: str, *, json: bool) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._json = json
        self._line_of: dict[Path, int] = {(): 1}
        self._counts: dict[Path, int] = {}
        self.repeated: list[Path] = []
        if json:
            self._skip()
            self._value(())
        else:
            self._document()

    def of(self, path: Path) -> int:
        """The line of the path, or of the nearest thing around it."""
        while path not in self._line_of:
            path = path[:-1]
        return self._line_of[path]

    # -- characters -------------------------------------------------------------------------------------------

    def _peek(self, n: int = 1) -> str:
        return self._text[self._at : self._at + n]

    def _step(self, n: int = 1) -> str:
        taken = self._text[self._at : self._at + n]
        self._at += n
        self._line += taken.count("\n")
        return taken

    def _skip(self, space: str = _SPACE) -> None:
        """Blanks and comments."""
        while self._at < len(self._text):
            c = self._peek()
            if c in space:
                self._step()
            elif c == "#" and not self._json and "\n" in space:
                while self._peek() not in ("", "\n"):
                    self._step()
            else:
                return

    def _note(self, path: Path) -> None:
        if path in self._line_of and self._json:
            self.repeated.append(path)
        self._line_of.setdefault(path, self._line)

    def _string(self) -> str:
        quote = self._peek()
        if self._peek(3) == quote * 3 and not self._json:
            self._step(3)
            start = self._at
            while self._peek(3) != quote * 3 or self._peek(4) == quote * 4:
                self._step(2 if self._peek() == "\\" and quote == '"' else 1)
                assert self._at <= len(self._text), "an open string in text that was parsed"
            body = self._text[start : self._at]
            self._step(3)
            return body
        self._step()
        start = self._at
        while self._peek() != quote:
            self._step(2 if self._peek() == "\\" and quote == '"' else 1)
            assert self._at <= len(self._text), "an open string in text that was parsed"
        body = self._text[start : self._at]
        self._step()
        return body

    # -- structure --------------------------------------------------------------------------------------------

    def _value(self, path: Path) -> None:
        c = self._peek()
        if c == "[":
            self._step()
            self._skip()
            n = 0
            while self._peek() != "]":
                self._line_of.setdefault((*path, n), self._line)
                self._value((*path, n))
                n += 1
                self._skip()
                if self._peek() == ",":
                    self._step()
                    self._skip()
            self._step()
        elif c == "{":
            self._step()
            self._skip()
            while self._peek() != "}":
                self._pair(path)
                self._skip()
                if self._peek() == ",":
                    self._step()
                    self._skip()
            self._step()
        elif c in ('"', "'"):
            self._string()
        else:
            while self._peek() not in _ENDS_BARE and self._at < len(self._text):
                self._step()

    def _key(self) -> list[str]:
        """One key, dotted in TOML."""
        parts = [self._key_part()]
        while not self._json:
            self._skip(" \t")
            if self._peek() != ".":
                break
            self._step()
            self._skip(" \t")
            parts.append(self._key_part())
        return parts

    def _key_part(self) -> str:
        if self._peek() in ('"', "'"):
            return self._string()
        start = self._at
        while self._at < len(self._text) and (self._peek().isalnum() or self._peek() in "_-"):
            self._step()
        assert self._at > start, "no key where the parser found one"
        return self._text[start : self._at]

    def _pair(self, path: Path) -> None:
        line = self._line
        keys = self._key()
        for depth in range(1, len(keys)):
            self._line_of.setdefault((*path, *keys[:depth]), line)
        path = (*path, *keys)
        self._note(path)
        self._skip()
        self._step()  # "=" or ":"
        self._skip()
        self._value(path)

    def _inside(self, keys: list[str]) -> Path:
        """A TOML header's path: through the newest element of every array of tables on the way."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _document(self) -> None:
        table: Path = ()
        while True:
            self._skip()
            if self._at >= len(self._text):
                return
            if self._peek() != "[":
                self._pair(table)
                continue
            line = self._line
            double = self._peek(2) == "[["
            self._step(2 if double else 1)
            self._skip(" \t")
            keys = self._key()
            self._skip(" \t")
            self._step(2 if double else 1)
            if double:
                array: Path = (*self._inside(keys[:-1]), keys[-1])
                self._line_of.setdefault(array, line)
                self._counts[array] = self._counts.get(array, 0) + 1
                table = (*array, self._counts[array] - 1)
            else:
                table = self._inside(keys)
            self._line_of.setdefault(table, line)
