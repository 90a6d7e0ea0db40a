# SPDX-License-Identifier: Apache-2.0
"""The vectors that every language's tests read."""

import ctypes
import json
from typing import Any

import indexcache as ic
import numpy as np
import pytest
from conftest import VECTORS, read_safetensors
from indexcache import _ffi
from indexcache._library import check, lib
from memory import Host

CASES = json.loads((VECTORS / "cases.json").read_text())
PARAMETERS = {"config_json": "config"}


def status_of(name: str) -> ic.Status:
    return ic.Status[name.removeprefix("IC_ERROR_")]


def from_desc(desc: dict[str, Any]) -> ic.Schedule:
    arguments = {PARAMETERS.get(name, name): value for name, value in desc.items()}
    flags = arguments.pop("flags", 0)
    if flags > 1:  # cannot be said in Python; C answers
        raw = {name: value.encode() if isinstance(value, str) else value for name, value in desc.items()}
        check(lib.ic_schedule_create(_ffi.ic_schedule_desc(**raw), ctypes.byref(ctypes.c_void_p())))
    return ic.Schedule(**arguments, precedence=bool(flags))


def config(name: str) -> str:
    return (VECTORS / "config" / name).read_text()


def test_no_kind_of_case_is_new_or_empty() -> None:
    assert set(CASES) == {"about", "resolved", "refused", "exported", "descs"}
    assert all(CASES[kind] for kind in CASES)


@pytest.mark.parametrize("case", CASES["resolved"], ids=lambda case: case["config"])
def test_configs_resolve(case: dict[str, Any]) -> None:
    schedule = ic.Schedule(config=config(case["config"]))
    assert schedule.pattern == case["pattern"]
    assert schedule.info.num_layers == case["num_layers"]
    assert schedule.info.num_mtp_layers == case.get("num_mtp_layers", schedule.info.num_mtp_layers)
    assert ic.Schedule(config=json.loads(config(case["config"]))).info == schedule.info  # as a dictionary


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: case["config"])
def test_configs_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(ic.Error) as caught:
        ic.Schedule(config=config(case["config"]))
    assert caught.value.status == status_of(case["status"])
    assert case["message"] in caught.value.message


@pytest.mark.parametrize("case", CASES["exported"], ids=lambda case: case["file"])
def test_exports(case: dict[str, Any]) -> None:
    schedule = ic.Schedule(config=config(case["config"]), pattern=case.get("pattern"))
    engine = ic.Engine[case["engine"].removeprefix("IC_ENGINE_")]
    assert schedule.export(engine) + "\n" == (VECTORS / "schedule" / case["file"]).read_text()


@pytest.mark.parametrize("case", CASES["descs"], ids=lambda case: json.dumps(case["desc"])[:60])
def test_descs(case: dict[str, Any]) -> None:
    if "pattern" in case:
        assert from_desc(case["desc"]).pattern == case["pattern"]
        return
    with pytest.raises(ic.Error) as caught:
        from_desc(case["desc"])
    assert caught.value.status == status_of(case["status"])
    assert case["message"] in caught.value.message


def test_the_tiny_models_indexer_rows(memory: Host) -> None:
    tensors = read_safetensors(VECTORS / "indexer" / "tiny_lm.safetensors")
    context, give = memory.context(), memory.give
    indexer = ic.Indexer(context, num_heads=4, head_dim=32, dtype="f32")
    schedule = ic.Schedule(1, pattern="F")
    with ic.Cache(context, schedule=schedule, indexer=indexer, topk=ic.TopK(context, 64), max_rows=32) as cache:
        cache.begin(ic.Batch(context, key_end=give(tensors["key_end"]), max_key_end=2048, stream=memory.stream))
        view = cache.layer(
            0,
            queries=ic.Queries(give(tensors["q"]), give(tensors["w"])),
            keys=ic.Pool(give(tensors["keys"]), "contiguous"),
            workspace=memory.empty(cache.forward_workspace_size(32, 2048)),
            stream=memory.stream,
        )()
        found = memory.rows(view)
    clear = np.flatnonzero(tensors["gap"] > 1e-4)
    assert clear.size >= 26
    for row in clear:
        assert found[row] == tensors["indices"][row].tolist(), f"row {row}"
