"""The class of each case: by the folder it lies in, or by its own row of a table."""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from s2dc_core.data.layout import Case, Problem
from s2dc_core.data.manifests import Manifest

SEPARATORS = ",;\t|"

Rows = list[dict[str, str]]


def with_targets(manifest: Manifest, root: Path, cases: list[Case], problems: list[Problem]) -> list[Case]:
    """The cases with their classes, from a table or the layout; those without one, or with two, are left out and named.

    Raises:
        ValueError: if the table is not there or cannot be read, or it cannot be told which of its columns names cases.
    """
    if manifest.classes:
        known = manifest.classes["values"]
        given = _from_tables(manifest, root, [case.parts[manifest.classes["key"]] for case in cases])
        where = f"in {manifest.classes['file']}"
    elif any("class" in case.parts for case in cases):
        known = {name: number for number, name in manifest.label_names.items()}
        given = [[case.parts.get("class")] for case in cases]
        where = "as the name of its folder"
    else:
        return cases
    found = []
    for case, values in zip(cases, given, strict=True):
        unknown = [value for value in values if value not in known]
        if not values:
            problems.append(Problem("missing", manifest.name, case.name, f"no class: it has no row {where}"))
        elif unknown:
            none = f"no class: {unknown[0]!r} {where} is none of {', '.join(known)}"
            problems.append(Problem("missing", manifest.name, case.name, none))
        elif len({known[value] for value in values}) > 1:
            which = 'say which row counts by "where" in the manifest\'s classes, such as {"Visit": "bl"}'
            both = f"the classes {' and '.join(values)} {where}: {which}"
            problems.append(Problem("ambiguous", manifest.name, case.name, both))
        else:
            found.append(case._replace(target=known[values[0]]))
    return found


def _from_tables(manifest: Manifest, root: Path, keys: Sequence[str]) -> list[list[str]]:
    """For each key of a case the different entries of its rows in the column of the class.

    An empty entry counts only where a case has no other.
    """
    rule, named = manifest.classes, manifest.classes.get("key_column")
    files = sorted(path for path in root.rglob("*") if path.is_file() and fnmatch(path.name, rule["file"]))
    tables = {file: rows for file in files if (rows := _read(file, rule["column"])) and (named or "") in (*rows[0], "")}
    if not tables:
        key = f"column {named} holds the {rule['key']}, and " if named else ""
        wanted = f"{rule['file']} under {root} whose {key}column {rule['column']} holds {', '.join(rule['values'])}"
        raise ValueError(f"{manifest.name} needs a table {wanted}")
    found: list[list[str]] = [[] for _ in keys]
    for file, rows in tables.items():
        rows = _chosen(file, rows, rule.get("where", {}))
        column = named or _key_column(file, rows, rule, keys)
        for values, more in zip(found, _entries(rows, column, rule, keys), strict=True):
            values += [value for value in more if value not in values]
    return [list(filter(None, values)) or values for values in found]


def _read(file: Path, column: str) -> Rows:
    """The rows of a table that has a column, whatever separates its entries; none of another table."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        for separator in SEPARATORS:
            read = csv.reader(io.StringIO(text), delimiter=separator)
            heads, *rows = [[entry.strip() for entry in row] for row in read] or [[]]
            if column in heads:
                return [dict(zip(heads, row + [""] * len(heads), strict=False)) for row in rows if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} cannot be read as a table: {error}: save it as CSV in UTF-8") from error
    return []


def _chosen(file: Path, rows: Rows, where: Mapping[str, str]) -> Rows:
    """The rows whose entries are as the manifest's `where` has them."""
    for column in where:
        if column not in rows[0]:
            raise ValueError(f"{file} has no column {column}, by which rows are chosen: it has {', '.join(rows[0])}")
    return [row for row in rows if all(row[column] == value for column, value in where.items())]


def _key_column(file: Path, rows: Rows, rule: Mapping, keys: Sequence[str]) -> str:
    """The column that names the cases, of a table for which the manifest does not say it.

    It is the one that holds all keys, or, if none does, the only one that holds some. Columns that lead to the same
    classes are as good as one.
    """
    columns = [column for column in (rows[0] if rows else ()) if column != rule["column"]]
    entries = {column: _entries(rows, column, rule, keys) for column in columns}
    holding = [column for column in columns if all(entries[column])] or [c for c in columns if any(entries[c])]
    if any(entries[column] != entries[holding[0]] for column in holding):
        mend = 'name it as "key_column" in the manifest\'s classes'
        raise ValueError(f"{file}: the {rule['key']} may be in its columns {' and '.join(holding)}: {mend}")
    return (holding or [""])[0]


def _entries(rows: Rows, column: str, rule: Mapping, keys: Sequence[str]) -> list[list[str]]:
    """For each key the different entries in the column of the class of the rows that have it in another column.

    A key is found as it is written, or else, if no other key and no other entry reads alike, in other letters or as the
    same number (7, 007 and 7.0).
    """
    numbers = {_plain(value): value for value in rule["values"] if _plain(value).isdigit()}
    written: dict[str, list[str]] = {}
    for row in rows:
        value = row[rule["column"]]
        known = value if value in rule["values"] else numbers.get(_plain(value), value)
        written.setdefault(row.get(column, ""), []).append(known)
    written.pop("", None)
    alike, mine = Counter(map(_plain, written)), Counter(map(_plain, keys))
    plain = {_plain(entry): values for entry, values in written.items() if alike[_plain(entry)] == 1}
    by_sense = [plain.get(_plain(key), []) if mine[_plain(key)] == 1 else [] for key in keys]
    return [list(dict.fromkeys(written.get(key, other))) for key, other in zip(keys, by_sense, strict=True)]


def _plain(text: str) -> str:
    """What is left of an entry without the differences that a spreadsheet makes."""
    number = re.fullmatch(r"0*(\d+)(\.0+)?", text)
    return number[1] if number else text.casefold()
