# SPDX-License-Identifier: Apache-2.0
"""Exported index blocks (ic_cache_export) of several layers, compared with each other."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import indexcache as ic

from .checked import InputError
from .overlap import Overlap

MAGIC = b"ICIX"
_HEADER = struct.Struct("<4sIQQiiiI24x")  # ic_export_header


@dataclass(frozen=True)
class Block:
    """The publication of one layer; the arrays lie in the file's bytes."""

    path: str
    layer: int
    rows: int
    k: int
    schedule_hash: int
    numerics_id: int
    lengths: memoryview
    indices: memoryview


def read_block(path: str | os.PathLike[str]) -> Block:
    """A file that begins with an ic_export_header."""
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) < _HEADER.size or data[:4] != MAGIC:
        raise InputError(
            f'{path}: is no exported block: it does not begin with "ICIX" and a header of {_HEADER.size} bytes'
        )
    _, version, schedule_hash, numerics_id, layer, rows, k, _ = _HEADER.unpack_from(data)
    if version != 1:
        raise InputError(f"{path}: is an exported block of version {version}; this program reads version 1")
    if rows < 0 or k < 1:
        raise InputError(f"{path}: its header has {rows} rows of {k} indices; at least 0 and 1 are allowed")
    needed = _HEADER.size + 4 * rows + 4 * rows * k
    if len(data) < needed:
        raise InputError(f"{path}: has {len(data)} bytes; {rows} rows of {k} indices need {needed}: it is cut off")
    # Copied into memory that is aligned for the library.
    body = ic.empty(needed - _HEADER.size).memoryview().cast("B")
    body[:] = data[_HEADER.size : needed]
    split = 4 * rows
    block = Block(path, layer, rows, k, schedule_hash, numerics_id, body[:split].cast("i"), body[split:].cast("i"))
    _check_rows(block)
    return block


def _check_rows(block: Block) -> None:
    """The library compares lists as a cache publishes them, and takes it that they are such."""
    for row, length in enumerate(block.lengths):
        if not 0 <= length <= block.k:
            raise InputError(f"{block.path}: row {row} has {length} indices; 0 to {block.k} are allowed")
        indices = block.indices[row * block.k : row * block.k + length].tolist()
        if indices != sorted(set(indices)) or (indices and indices[0] < 0):
            raise InputError(f"{block.path}: row {row} is no list of ascending positions")


def overlap_of_blocks(paths: Sequence[str], note: Callable[[str], None]) -> Overlap:
    """Compares every pair of layers, by the library. note: what is odd about the files, but no reason to stop."""
    blocks = sorted((read_block(path) for path in paths), key=lambda block: block.layer)
    first = blocks[0]
    for before, block in zip(blocks, blocks[1:]):
        if block.layer == before.layer:
            raise InputError(
                f"{before.path} and {block.path} are both of layer {block.layer}; one block per layer is wanted"
            )
    for block in blocks[1:]:
        for what, here, there in (("rows", block.rows, first.rows), ("indices per row", block.k, first.k)):
            if here != there:
                raise InputError(
                    f"{block.path} has {here} {what}; {first.path} has {there}: they are not of one forward"
                )
    if not first.rows:
        raise InputError(f"{first.path} has no rows: there is nothing to compare")
    if len({block.numerics_id for block in blocks}) > 1:
        note("note: the blocks were selected by different arithmetics; a few of the differences come from that")
    if len({block.schedule_hash for block in blocks}) > 1:
        note("note: the blocks were made under different schedules, so their layers saw different inputs")
    context = ic.Context("cpu")
    views = [ic.IndexView(context, _matrix(block), block.lengths) for block in blocks]
    recall_row, jaccard_row = ic.empty(first.rows, "f32"), ic.empty(first.rows, "f32")
    recall: list[list[float | None]] = [[None] * len(blocks) for _ in blocks]
    jaccard: list[list[float | None]] = [[None] * len(blocks) for _ in blocks]
    for i, reader in enumerate(views):
        for j, source in enumerate(views):
            ic.index_overlap(context, reader, source, recall=recall_row, jaccard=jaccard_row)
            recall[i][j] = sum(recall_row.tolist()) / first.rows
            jaccard[i][j] = sum(jaccard_row.tolist()) / first.rows
    return Overlap(
        layers=tuple(block.layer for block in blocks),
        recall=tuple(map(tuple, recall)),
        jaccard=tuple(map(tuple, jaccard)),
        k=first.k,
        rows=first.rows,
    )


def _matrix(block: Block) -> memoryview:
    return block.indices.cast("B").cast("i", (block.rows, block.k))
