"""The machine code of kernels on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import sys
from typing import Any

from numba.core import caching, config
from numba.core.compiler import CompileResult

from ann_backends.kernels import folders, notices
from ann_backends.kernels.fingerprint import fingerprint

# Environment variables of numba, without the prefix, that change the machine code.
SETTINGS = ("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE")
# Of the version of Python.
TAG = f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}"


class KernelCache(caching._Cache):
    """What numba's dispatcher asks for machine code, and hands it to, for one kernel.

    It is looked for in all folders up to the first that can be written, so that read-only ones
    count if somebody has filled them. A file that is damaged counts for none. Nothing that is
    wrong with files or folders is an error: the kernel is compiled, and a notice says once if
    that cannot be kept. No file is touched before the kernel's first call.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._folders = folders.candidates(kernel.py_func.__code__.co_filename)
        self._files: list[_File] = []  # of the last time that it was looked for
        self._is_enabled = True

    @property
    def cache_path(self) -> str | None:
        """Where the kernel is kept, or None."""
        return folders.first_writable(self._folders)

    @property
    def refusals(self) -> str:
        """Why it is not kept in a better place, or not at all."""
        return folders.refusals(self._folders)

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """The machine code for arguments of some types, or None."""
        if not self._is_enabled:
            return None
        target_context.refresh()
        key = _key(sig, target_context.codegen())
        self._files = []
        # Whatever is wrong, the kernel can be compiled.
        with contextlib.suppress(Exception):
            self._files = self._find_files()
        for file in self._files:
            with contextlib.suppress(Exception):
                if (data := file.load(key)) is not None:
                    return CompileResult._rebuild(target_context, *data)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled, if there is a place for it."""
        if not self._is_enabled or not self._folders:
            return
        if self.cache_path is None:
            notices.not_kept(self.refusals)
            return
        if self.refusals and vars(config)["CACHE_DIR"]:
            notices.kept_elsewhere(self.cache_path, self.refusals)
        try:
            if data.library.has_dynamic_globals:
                raise ValueError(f"{self._kernel.__name__} refers to an address in memory")
            os.makedirs(self.cache_path, exist_ok=True)
            files = self._files or self._find_files()
            files[-1].save(_key(sig, data.library.codegen), data._reduce())
        except Exception as error:
            notices.not_kept(f"{self.cache_path}: {getattr(error, 'strerror', None) or error}")

    def enable(self) -> None:
        self._is_enabled = True

    def disable(self) -> None:
        self._is_enabled = False

    def flush(self) -> None:
        """Forget what is kept for the kernel."""
        if self.cache_path is not None:
            self._find_files()[-1].flush()

    def _find_files(self) -> list[_File]:
        """The files to read; the last can be written, if there is a place for it."""
        function, stamp = self._kernel.py_func, fingerprint(self._kernel)
        module = os.path.splitext(os.path.basename(function.__code__.co_filename))[0]
        name = f"{module}.{function.__qualname__}.{TAG}"
        name = name.replace("<", "").replace(">", "")
        files = []
        for folder in self._folders:
            files.append(_File(folder, name, stamp))
            if not folders.refusal(folder):
                break
        return files


class _File(caching.IndexDataCacheFile):
    """An index of signatures and a data file for each, as numba's.

    Each data file also says what it is for, with a checksum: of two processes that write at the
    same time, one may write the index and the other the data.
    """

    def save(self, key: object, data: object) -> None:
        content = self._dump((key, self._source_stamp, data))
        super().save(key, (hashlib.sha256(content).digest(), content))

    def load(self, key: object) -> Any:
        digest, content = super().load(key) or (None, b"")
        if hashlib.sha256(content).digest() != digest:
            return None
        *meant, data = pickle.loads(content)
        return data if meant == [key, self._source_stamp] else None

    def _load_index(self) -> dict[Any, Any]:
        try:
            index = super()._load_index()
        except OSError:
            raise
        except Exception:
            return {}  # damaged: it is written anew
        return index if isinstance(index, dict) else {}


def _key(signature: Any, codegen: Any) -> tuple[Any, ...]:
    """The types of the arguments, the processor, and how numba is told to compile."""
    settings = tuple(str(vars(config)[name]) for name in SETTINGS)
    return signature, codegen.magic_tuple(), settings
