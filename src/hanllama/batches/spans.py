"""Copy many spans of token files into one buffer, to pack rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[Any]
Places = NDArray[np.int64]
# Measured costs, which choose between two ways to copy: a slice costs Python 0.6 us; index arrays
# cost 60 us per call and 10 ns per token.
_SLICE_SPAN_US, _GATHER_CALL_US, _GATHER_TOKEN_US = 0.6, 60.0, 0.01
# Tokens copied by index arrays at once: their three int64 temporaries per token stay in the cache.
_GATHER_TOKENS = 1 << 16


def copy_spans(
    arrays: Sequence[Ids],
    file_starts: Places,
    out: Places,
    positions: Places,
    starts: Places,
    lengths: Places,
) -> None:
    """Copy spans of the token space that the files form, end to end.

    Args:
        arrays: the files' tokens.
        file_starts: [files + 1] the start of each in the token space, and the end of the last.
        out: span i is written at `positions[i]`; the rest does not change.
        positions, starts, lengths: [spans], inside the buffer and the token space.
    """
    # side="right" - 1 gives the file of a token; a span ends in the file of its last token.
    ends = starts + lengths
    first = np.searchsorted(file_starts, starts, side="right") - 1
    last = np.searchsorted(file_starts, ends - 1, side="right") - 1
    for i in np.flatnonzero((first != last) & (lengths > 0)).tolist():
        for array, file_start in zip(arrays, file_starts[:-1].tolist(), strict=True):
            low, high = max(int(starts[i]), file_start), min(int(ends[i]), file_start + array.size)
            if low < high:
                at = int(positions[i] - starts[i])
                out[at + low : at + high] = array[low - file_start : high - file_start]
    inside = np.flatnonzero((first == last) & (lengths > 0))
    gather_us = _GATHER_CALL_US + _GATHER_TOKEN_US * int(lengths[inside].sum())
    by_index = gather_us < _SLICE_SPAN_US * inside.size
    if by_index:
        inside = inside[np.argsort(first[inside], kind="stable")]
    files, positions, lengths = first[inside], positions[inside], lengths[inside]
    starts = starts[inside] - file_starts[files]
    if by_index:
        _gather(arrays, out, files, positions, starts, lengths)
        return
    for file, at, start, length in zip(
        files.tolist(), positions.tolist(), starts.tolist(), lengths.tolist(), strict=True
    ):
        out[at : at + length] = arrays[file][start : start + length]


def _gather(
    arrays: Sequence[Ids],
    out: Places,
    files: Places,
    positions: Places,
    starts: Places,
    lengths: Places,
) -> None:
    """Copy many short spans at once with index arrays.

    Args:
        files: [spans] ascending.
        starts: [spans] in the file.
    """
    ends = np.cumsum(lengths)
    begin = 0
    while begin < lengths.size:
        done = int(ends[begin - 1]) if begin else 0
        stop = max(int(np.searchsorted(ends, done + _GATHER_TOKENS, side="right")), begin + 1)
        part = slice(begin, stop)
        n = lengths[part]
        step = np.arange(int(ends[stop - 1]) - done)
        # Within a span, source and target advance with `step`, so each is `step` plus a constant
        # of the span: its start, less the tokens of the spans before it.
        before = ends[part] - n - done
        source = np.repeat(starts[part] - before, n)
        source += step
        target = positions[part] - before
        if (target == target[0]).all():  # end to end in the buffer too
            place = step + target[0]
        else:
            place = np.repeat(target, n)
            place += step
        cuts = np.flatnonzero(np.diff(files[part])) + 1
        edges = [0, *before[cuts].tolist(), step.size]
        for file, low, high in zip(
            files[part][[0, *cuts]].tolist(), edges[:-1], edges[1:], strict=True
        ):
            out[place[low:high]] = arrays[file][source[low:high]]
        begin = stop
