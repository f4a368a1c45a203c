"""Rows of an older schema as rows of the present one.

Schema 2 changed identities: they leave out what is a default (`bench.plan.identity`). Everything
that an identity is made of stands in a row, but for the defaults of its method. Where nobody knows
those (another machine's plugin, an old version of it) the row keeps its schema and its id, until
somebody does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.plan.defaults import protocol_defaults
from bench.plan.identity import NAMES, cell_id, differing, digest
from bench.rows.row import SCHEMA, Row
from bench.rows.row_values import MEASURED
from bench.rows.settings import defaults_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.plan.cells import Cell

PROTOCOL_VERSION = 1
"""Of all rows of schema 1."""


def upgraded(row: Row) -> Row:
    """The row in the present schema, under its new id and with the old one in `formerly`."""
    if row.schema == SCHEMA:
        return row
    defaults = _defaults(row)
    if defaults is None:
        return row
    cell = cell_id(
        row,
        PROTOCOL_VERSION,
        params=differing(row.params, defaults),
        protocol=differing(row.protocol_fields, protocol_defaults(PROTOCOL_VERSION)),
    )
    return replace(row, schema=SCHEMA, cell=cell, formerly=row.cell)


def former_id(cell: Cell) -> str:
    """What a cell was called in schema 1: a cell that only failed has no row to tell it."""
    names = {name: getattr(cell, name) for name in NAMES}
    return digest({**names, "params": dict(cell.params), "protocol": cell.protocol.identity()})


def _defaults(row: Row) -> Mapping[str, Any] | None:
    if row.kind != MEASURED:
        return {}  # maps made elsewhere: nothing that they were made with has a default
    return defaults_of("methods", row.method, row.method_version)
