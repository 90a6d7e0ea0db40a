# SPDX-License-Identifier: Apache-2.0
"""Prints the layout that ctypes gives to every struct, and every constant: to be compared with those of C."""

import ctypes
import importlib.util
from pathlib import Path

# Of this checkout, and without loading the library.
_spec = importlib.util.spec_from_file_location("_ffi", Path(__file__).parent / "src" / "indexcache" / "_ffi.py")
assert _spec and _spec.loader
_ffi = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_ffi)

_SAMPLES = {"IC_STATUS_IS_STALE": (0, 1, 19, 20, 25, 29, 30, 61), "IC_K_PADDED": (1, 127, 128, 129, 2048, 4095, 4096)}

for name, item in list(vars(_ffi).items()):
    if isinstance(item, type) and issubclass(item, ctypes.Structure) and name.startswith("ic_"):
        print("struct", name, ctypes.sizeof(item), ctypes.alignment(item))
        for field, *_ in item._fields_:
            place = getattr(item, field)
            print("field", name, field, place.offset, place.size)
    elif name.startswith("IC_") and isinstance(item, int):
        print("constant", name, item)
for name, samples in _SAMPLES.items():
    for sample in samples:
        print("macro", name, sample, int(getattr(_ffi, name)(sample)))
