# SPDX-License-Identifier: Apache-2.0
"""The installed wheel, in an environment that has nothing but it and pytest. CONSUMER: a C program to build with it."""

import importlib.metadata
import os
import subprocess
from pathlib import Path

import indexcache as ic
import pytest

HERE = Path(__file__).resolve().parent
CONSUMER = os.environ["CONSUMER"]
PACKAGE = Path(ic.__file__).parent


def run(*command: object, **environment: str) -> str:
    """Output of a program that must succeed, without a library path of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    result = subprocess.run([str(c) for c in command], env=kept | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_it_is_the_installed_one() -> None:
    assert "site-packages" in ic.__file__ and "INDEXCACHE_LIBRARY" not in os.environ
    assert Path(ic.get_library_path()).parent == PACKAGE / "lib" == Path(ic.get_library_dir())
    assert importlib.metadata.version("indexcache") == ".".join(str(part) for part in ic.version())
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize("module", ["numpy", "torch"])
def test_there_is_nothing_else(module: str) -> None:
    with pytest.raises(ImportError):
        __import__(module)


def test_it_computes() -> None:
    context = ic.Context("cpu")
    topk = ic.TopK(context, 2)
    scores, indices, lengths = ic.empty((1, 5), "f32"), ic.empty((1, 128), "i32"), ic.empty(1, "i32")
    end = ic.empty(1, "i32")
    end.memoryview()[0] = 5
    for column, score in enumerate((1, 4, 0, 4, 2)):
        scores.memoryview()[0, column] = score
    topk.select(scores, end, indices, lengths, workspace=ic.empty(topk.select_workspace_size(1, 5)))
    assert indices.tolist()[0][:3] == [1, 3, -1] and lengths.tolist() == [2]


def test_one_file_has_the_code() -> None:
    files = {path.name: path for path in (PACKAGE / "lib").glob("libindexcache*")}
    assert sorted(files) == ["libindexcache.so", "libindexcache.so.0.1"]
    assert files["libindexcache.so"].read_text() == "INPUT(libindexcache.so.0.1)\n"


def test_c_with_folders(tmp_path: Path) -> None:
    libraries = ic.get_library_dir()
    run("cc", CONSUMER, f"-I{ic.get_include()}", f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-lindexcache",
        "-o", tmp_path / "consumer")  # fmt: skip
    assert '"version"' in run(tmp_path / "consumer")
    run("cc", CONSUMER, f"-I{ic.get_include()}", ic.get_library_path(), "-o", tmp_path / "by_path")
    run(tmp_path / "by_path", LD_LIBRARY_PATH=libraries)


def test_c_with_pkg_config(tmp_path: Path) -> None:
    def ask(*options: str) -> list[str]:
        return run("pkg-config", *options, "indexcache", PKG_CONFIG_PATH=ic.get_pkgconfig_dir()).split()

    (folder,) = ask("--variable=libdir")
    run("cc", CONSUMER, *ask("--cflags", "--libs"), f"-Wl,-rpath,{folder}", "-o", tmp_path / "consumer")
    assert '"version"' in run(tmp_path / "consumer")
    assert ask("--modversion") == [importlib.metadata.version("indexcache")]


def test_c_with_cmake(tmp_path: Path) -> None:
    run("cmake", "-S", HERE, "-B", tmp_path, f"-Dindexcache_DIR={ic.get_cmake_dir()}", f"-DCONSUMER={CONSUMER}")
    run("cmake", "--build", tmp_path)
    assert '"version"' in run(tmp_path / "consumer")
