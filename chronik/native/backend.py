"""Builds the package's wheel: setuptools does, with the C of this package compiled first, where that can be done.

- Where a C compiler works, it is used.
- Where none does, PyPI's `ziglang`, which is one, is asked for as a requirement of the build; but only if pip says that it
  could be installed, for a requirement that cannot be met would end the installation.
- Where there is no compiler at all, the wheel has no compiled code and is for any platform. The package then works with numpy.

Named in `pyproject.toml` (PEP 517, PEP 660); for a build only, so it may use nothing but setuptools and the standard library.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (  # the hooks that need nothing compiled
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

from chronik.native.build import BuildError, build
from chronik.native.sources import HERE, LIBRARY

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ZIG = "ziglang >= 0.13"
_PROBE_SECONDS = 120.0

Settings = dict[str, Any] | None


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """What setuptools needs, and a compiler if there is none."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_compiler_needed()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """The same for an installation that stays in the source tree."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_compiler_needed()]


def build_wheel(directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """A wheel for this platform with the library in it, or one for any platform without."""
    if _compiled():
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        config_settings = {**(config_settings or {}), "--build-option": [f"--plat-name={platform}"]}
    return str(build_meta.build_wheel(directory, config_settings, metadata_directory))


def build_editable(directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """The library beside its sources, and a wheel that points there."""
    _compiled()
    return str(build_meta.build_editable(directory, config_settings, metadata_directory))


def _compiled() -> bool:
    """Compile in place. What an earlier build left there is not taken along."""
    (HERE / LIBRARY).unlink(missing_ok=True)
    try:
        build()
    except BuildError as problem:
        print(f"chronik.native is not compiled, numpy will do its work:\n{problem}", file=sys.stderr)
        return False
    return True


def _compiler_needed() -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        try:
            build(Path(directory) / LIBRARY)
        except BuildError:
            return [ZIG] if _installable(ZIG) else []
    return []


def _installable(requirement: str) -> bool:
    """Whether pip finds that package for this platform. Its own environment is not the one that it builds in."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
    try:
        done = subprocess.run(
            [*command, "--only-binary=:all:", requirement],
            stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=_PROBE_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
