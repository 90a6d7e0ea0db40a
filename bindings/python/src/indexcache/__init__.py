# SPDX-License-Identifier: Apache-2.0
"""Index sharing for DeepSeek Sparse Attention: schedule, lightning indexer, exact top-k, index cache, sparse MLA.

Arrays of every library are used as they are, without a copy: numpy, torch, CuPy, JAX, and whatever has __dlpack__,
__array_interface__, __cuda_array_interface__ or the buffer protocol. Operations on CUDA are asynchronous on the stream
that they are given; order between streams is the caller's. Handles other than Cache may be used by any thread.
"""

from __future__ import annotations

from ._array import Array, asarray, empty
from ._attention import Attention, AttentionInputs, MassInputs
from ._batch import Batch, BlockTable, Pool
from ._cache import Cache
from ._context import Context, device_caps, device_count
from ._errors import (
    ArgumentError,
    ArrayError,
    CudaError,
    Error,
    InternalError,
    OutOfMemoryError,
    ScheduleError,
    StaleError,
    StateError,
    UnsupportedError,
)
from ._indexer import Indexer, NewKeys, Queries, Rotation
from ._layer import ALL_ROWS, LayerCall
from ._library import (
    build_info,
    get_cmake_dir,
    get_include,
    get_library_dir,
    get_library_path,
    get_pkgconfig_dir,
    status_string,
    version,
)
from ._schedule import Schedule
from ._search import Search, SearchCandidate, SearchStep
from ._topk import TopK
from ._types import (
    Backend,
    CacheInfo,
    ContextFlags,
    CpuIsa,
    DeviceCaps,
    DType,
    Engine,
    ExportHeader,
    Fault,
    IndexerInfo,
    IndexKind,
    LayerInfo,
    LayerMode,
    Layout,
    LogLevel,
    Order,
    ScheduleInfo,
    SearchInfo,
    SearchState,
    SearchStrategy,
    Status,
)
from ._view import IndexView, index_overlap

__all__ = [
    "ALL_ROWS",
    "ArgumentError",
    "Array",
    "ArrayError",
    "Attention",
    "AttentionInputs",
    "Backend",
    "Batch",
    "BlockTable",
    "Cache",
    "CacheInfo",
    "Context",
    "ContextFlags",
    "CpuIsa",
    "CudaError",
    "DType",
    "DeviceCaps",
    "Engine",
    "Error",
    "ExportHeader",
    "Fault",
    "IndexKind",
    "IndexView",
    "Indexer",
    "IndexerInfo",
    "InternalError",
    "LayerCall",
    "LayerInfo",
    "LayerMode",
    "Layout",
    "LogLevel",
    "MassInputs",
    "NewKeys",
    "Order",
    "OutOfMemoryError",
    "Pool",
    "Queries",
    "Rotation",
    "Schedule",
    "ScheduleError",
    "ScheduleInfo",
    "Search",
    "SearchCandidate",
    "SearchInfo",
    "SearchState",
    "SearchStep",
    "SearchStrategy",
    "StaleError",
    "StateError",
    "Status",
    "TopK",
    "UnsupportedError",
    "asarray",
    "build_info",
    "device_caps",
    "device_count",
    "empty",
    "get_cmake_dir",
    "get_include",
    "get_library_dir",
    "get_library_path",
    "get_pkgconfig_dir",
    "index_overlap",
    "status_string",
    "version",
]
