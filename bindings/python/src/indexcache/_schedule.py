# SPDX-License-Identifier: Apache-2.0
"""Which layers compute indices, and which reuse whose."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterable, Mapping
from typing import Any

from . import _ffi
from ._handle import Handle
from ._library import check, lib
from ._text import c_text, text_of
from ._types import Engine, LayerInfo, ScheduleFlags, ScheduleInfo


class Schedule(Handle):
    """A resolved schedule; immutable, and needs no context.

    num_layers: layers of the stack without MTP layers; 0 = as in the config; a pattern alone does not say it.
    num_mtp_layers: behind the stack.
    config: a Hugging Face config.json as text or as its dictionary.
    indexer_layers: ids of the layers that have indexer weights, ascending; None = the config, else all.
    pattern: "FSFS...", one letter per sparse layer; or freq and offset: layer l is Full iff
    max(l - offset + 1, 0) % freq == 0 (offset 0 = 2). They override what the config asks for.
    precedence: where fields disagree let indexer_types win over the pattern, and that over freq, instead of refusing.
    """

    def __init__(
        self,
        num_layers: int = 0,
        *,
        pattern: str | None = None,
        freq: int = 0,
        offset: int = 0,
        indexer_layers: Iterable[int] | None = None,
        num_mtp_layers: int = 0,
        config: str | Mapping[str, Any] | None = None,
        precedence: bool = False,
    ) -> None:
        text = json.dumps(config) if isinstance(config, Mapping) else config
        desc = _ffi.ic_schedule_desc(
            num_layers=num_layers,
            num_mtp_layers=num_mtp_layers,
            pattern=c_text(pattern, "pattern"),
            freq=freq,
            offset=offset,
            config_json=c_text(text, "config"),
            flags=ScheduleFlags.PRECEDENCE if precedence else 0,
        )
        if indexer_layers is not None:
            layers = list(indexer_layers)
            array = (ctypes.c_int32 * max(len(layers), 1))(*layers)
            desc.indexer_layers = ctypes.addressof(array)
            desc.num_indexer_layers = len(layers)
        self._create("schedule", ctypes.byref(desc))

    @property
    def info(self) -> ScheduleInfo:
        """Counts and identity."""
        raw = _ffi.ic_schedule_info()
        check(lib.ic_schedule_get_info(self._raw, ctypes.byref(raw)))
        return ScheduleInfo.from_struct(raw)

    def layer(self, layer: int) -> LayerInfo:
        """Mode, source and ranks of one layer; MTP layers follow the stack. -1 stands for "none"."""
        raw = _ffi.ic_layer_info()
        check(lib.ic_schedule_get_layer(self._raw, layer, ctypes.byref(raw)))
        return LayerInfo.from_struct(raw)

    def cut(self, first_layer: int) -> int | None:
        """The source layer whose indices must cross a pipeline cut in front of first_layer; None when nothing must."""
        source = ctypes.c_int32()
        check(lib.ic_schedule_get_cut(self._raw, first_layer, ctypes.byref(source)))
        return None if source.value < 0 else source.value

    def cache_slot(self, layer: int, num_slots: int) -> int:
        """Which of num_slots slots of a cache a Full or MTP layer writes."""
        slot = ctypes.c_int32()
        check(lib.ic_schedule_get_cache_slot(self._raw, layer, num_slots, ctypes.byref(slot)))
        return slot.value

    @property
    def pattern(self) -> str:
        """The F/S string, one letter per sparse layer of the stack."""
        return text_of(lib.ic_schedule_pattern, self._raw)

    def explain(self) -> str:
        """Every layer with its mode and source, where each came from, every disagreement, and warnings."""
        return text_of(lib.ic_schedule_explain, self._raw)

    def export(self, engine: Engine | str) -> str:
        """What an engine takes to run this schedule, as JSON. engine: "vllm", "sglang", "tensorrt_llm", "transformers"."""
        if isinstance(engine, str):
            try:
                engine = Engine[engine.upper().replace("-", "_")]
            except KeyError:
                raise ValueError(f"engine {engine!r} is none of {', '.join(e.name.lower() for e in Engine)}") from None
        return text_of(lib.ic_schedule_export, self._raw, engine)
