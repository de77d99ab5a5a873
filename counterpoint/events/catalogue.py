"""The event catalogue: every event, where it goes, who says it and what it holds, as ``docs/events.md``.

``python -m counterpoint.events.catalogue`` writes it; a test holds it current. Written from the code alone: types and
defaults from the structs, prose from their docstrings, a field's meaning from the comment behind it.
"""

from __future__ import annotations

import inspect
import io
import sys
import tokenize
import types
import typing
from pathlib import Path

import msgspec
from msgspec import NODEFAULT

from counterpoint.events.codec import EVENT_TYPES
from counterpoint.events.event import Event
from counterpoint.events.places import PLACES, Place
from counterpoint.events.subjects import DECISIONS, FACTS, MONEY, STREAMS

HEADER = """# Events

Written by `python -m counterpoint.events.catalogue` from `counterpoint/events/`; do not edit.

Events travel in batches (msgpack lists) on the bus. A stream keeps them in order; a subject says what they are about
and who may publish them. An event counts only on its subject: elsewhere it is not read. Every event also has the
fields of the base:

"""

STREAM_NOTES = {
    MONEY: "Money; never shed. When the stream is full publishers wait and spool. Kept 14 days.",
    FACTS: "Telemetry; may be shed, and is counted when it is. Kept 24 hours or until its bytes are used up.",
    DECISIONS: "Policies, proposals, resolutions, signs of life. Kept an hour; last values stay for ever.",
}


def type_name(annotation: object) -> str:
    """A type as one would write it.

    >>> type_name(int | None), type_name(dict[str, float]), type_name(tuple[str, ...])
    ('int or None', 'dict[str, float]', 'tuple[str, ...]')
    """
    if annotation is None or annotation is types.NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(argument) for argument in arguments)
    name = getattr(origin or annotation, "__name__", str(annotation))
    return f"{name}[{', '.join(type_name(argument) for argument in arguments)}]" if arguments else name


def field_notes(kind: type[Event]) -> dict[str, str]:
    """The comments behind fields, by name, of a class and its bases."""
    notes: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if not (isinstance(owner, type) and issubclass(owner, Event)):
            continue
        field = ""
        line: list[tokenize.TokenInfo] = []
        for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(owner)).readline):
            if token.type == tokenize.COMMENT and line:
                names = [part.string for part in line if part.type == tokenize.NAME]
                field = names[0] if len(line) > 1 and line[1].string == ":" else field
                if field in kind.__struct_fields__:
                    note = token.string.lstrip("# ").strip()
                    notes[field] = f"{notes[field]} {note}" if field in notes else note
            elif token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
                line, field = [], ""
            elif token.type not in (tokenize.NL, tokenize.COMMENT):
                line.append(token)
    return notes


def _prose(kind: type[Event]) -> str:
    return inspect.cleandoc(kind.__doc__ or "").replace("``", "`")


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is not NODEFAULT:
        return f"`{field.default!r}`"
    if field.default_factory is not NODEFAULT:
        return f"`{field.default_factory()!r}`"
    return "required"


def _table(kind: type[Event], names: list[str]) -> list[str]:
    notes = field_notes(kind)
    rows = ["| field | type | default | |", "| --- | --- | --- | --- |"]
    for field in msgspec.structs.fields(kind):
        if field.name in names:
            note = notes.get(field.name, "").replace("|", "\\|")
            rows.append(f"| `{field.name}` | {type_name(field.type)} | {_default(field)} | {note} |")
    return rows


def _section(place: Place) -> list[str]:
    kind = place.event
    config = kind.__struct_config__
    subject = f"{place.prefix}.{{{place.key}}}" if place.key else place.prefix
    own = [name for name in kind.__struct_fields__ if name not in Event.__struct_fields__]
    last = " Last value: consumers read the newest per subject when they start." if place.last_value else ""
    return [
        f"### {kind.__name__}",
        "",
        f"`{config.tag}` on `{subject}`, published by {place.publishers}.{last}",
        "",
        *([_prose(kind), ""] if kind.__doc__ else []),
        *_table(kind, own),
        "",
    ]


def render() -> str:
    lines = [*_table(Event, list(Event.__struct_fields__)), "", _prose(Event), ""]
    for stream, note in STREAM_NOTES.items():
        lines += [f"## {stream}", "", f"`{STREAMS[stream]}`. {note}", ""]
        for place in PLACES.values():
            if place.stream == stream:
                assert place.event in EVENT_TYPES
                lines += _section(place)
    return HEADER + "\n".join(lines).rstrip() + "\n"


def main(arguments: list[str]) -> None:
    path = Path(arguments[0] if arguments else "docs/events.md")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(), "utf-8")
    print(f"{path}: {len(PLACES)} events")


if __name__ == "__main__":
    main(sys.argv[1:])
