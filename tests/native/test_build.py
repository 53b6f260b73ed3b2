"""Compiling, finding the library again, and the wheels that are made with and without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import chronik.native
from chronik.native import build
from chronik.native.library import find
from chronik.native.sources import HEADERS, HERE, LIBRARY, OPTIONS, SOURCES, digest

ROOT = HERE.parent.parent


class BuildCase(SynchronousTestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.library = self.directory / LIBRARY

    def environment(self, **changes):
        """Set variables of the environment, for this test."""
        before = dict(os.environ)
        self.addCleanup(lambda: (os.environ.clear(), os.environ.update(before)))
        os.environ.update(changes)

    def need_compiler(self):
        if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
            raise SkipTest("there is no C compiler")


class CompilerTests(BuildCase):
    def test_what_is_compiled_is_found(self):
        self.need_compiler()
        build.build(self.library)
        found = find(self.library)
        self.assertEqual(found.path, self.library)
        self.assertRegex(found.text, r"^(gcc|clang) \d+")
        self.assertEqual(os.listdir(self.directory), [LIBRARY])

    def test_the_next_compiler_is_tried(self):
        self.need_compiler()
        self.environment(CC="false --with 'an argument'")
        self.assertNotEqual(build.build(self.library), ["false", "--with", "an argument"])
        self.assertEqual(find(self.library).path, self.library)

    def test_no_compiler_works(self):
        self.environment(CC="false -x", PATH="")
        self.patch(build.importlib.util, "find_spec", lambda name: None)
        fault = self.assertRaises(build.BuildError, build.build, self.library)
        self.assertIn("false -x: [Errno 2]", str(fault))
        del os.environ["CC"]
        fault = self.assertRaises(build.BuildError, build.build, self.library)
        self.assertIn("no C compiler was found", str(fault))
        self.assertEqual(os.listdir(self.directory), [])

    def test_zig_is_the_last(self):
        self.environment(CC="one", PATH="")
        self.patch(build.importlib.util, "find_spec", lambda name: name == "ziglang")
        self.assertEqual(build.compilers(), [["one"], [sys.executable, "-m", "ziglang", "cc"]])

    def test_compilers_have_nothing_to_say(self):
        self.need_compiler()
        command = [*build.compilers()[0], *OPTIONS, "-Wconversion", "-Wshadow", "-Werror", '-DCHRONIK_SOURCES=""']
        done = subprocess.run(
            [*command, "-o", str(self.library), *(str(HERE / name) for name in SOURCES)], capture_output=True, text=True
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_all_sources_are_named(self):
        self.assertEqual({path.name for path in HERE.glob("*.c")}, set(SOURCES))
        self.assertEqual({path.name for path in HERE.glob("*.h")}, set(HEADERS))


class LibraryTests(BuildCase):
    def test_none(self):
        found = find(self.library)
        self.assertIsNone(found.path)
        self.assertIn("was not compiled here; `python -m chronik.native.build`", found.text)

    def test_no_library(self):
        self.library.write_bytes(b"\x7fELF and no more")
        found = find(self.library)
        self.assertIsNone(found.path)
        self.assertIn("cannot be loaded", found.text)

    def test_somebody_elses(self):
        """A library without our functions."""
        self.need_compiler()
        source = self.directory / "other.c"
        source.write_text("int other(void) { return 1; }\n")
        subprocess.run([*build.compilers()[0], "-shared", "-fPIC", "-o", str(self.library), str(source)], check=True)
        found = find(self.library)
        self.assertIsNone(found.path)
        self.assertIn("cannot be loaded", found.text)

    def test_of_other_sources(self):
        self.need_compiler()
        self.patch(build, "digest", lambda: "old")
        build.build(self.library)
        found = find(self.library)
        self.assertIsNone(found.path)
        self.assertIn("of other sources", found.text)

    def test_without_its_sources(self):
        self.need_compiler()
        build.build(self.library)
        self.patch(chronik.native.library, "digest", lambda: digest(self.directory))
        found = find(self.library)
        self.assertIsNone(found.path)
        self.assertIn("about.c", found.text)

    def test_the_digest_is_of_every_byte(self):
        for name in SOURCES + HEADERS:
            shutil.copy(HERE / name, self.directory)
        self.assertEqual(digest(self.directory), digest())
        with open(self.directory / "sign.c", "a") as file:
            file.write("\n")
        self.assertNotEqual(digest(self.directory), digest())

    def test_the_package_says_what_it_is(self):
        found = find()
        self.assertEqual(chronik.native.IMPLEMENTATION, "C" if found.path else "numpy")
        self.assertEqual(chronik.native.DESCRIPTION, f"{chronik.native.IMPLEMENTATION} ({found.text})")


class TreeCase(BuildCase):
    """A copy of the source tree, and processes that run in it."""

    def setUp(self):
        super().setUp()
        self.tree = self.directory / "tree"
        for name in ("chronik", "twisted"):
            shutil.copytree(ROOT / name, self.tree / name, ignore=shutil.ignore_patterns("__pycache__", LIBRARY))
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, self.tree)

    def python(self, *arguments, **environment):
        """Run Python in the tree."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.tree,
            env={**os.environ, "PYTHONPATH": "", **environment},
            capture_output=True,
            text=True,
        )


class CommandTests(TreeCase):
    def test_it_compiles_what_is_not_compiled_of_these_sources(self):
        self.need_compiler()
        command = ("-W", "error", "-m", "chronik.native.build")
        for changed, said in ((False, "was compiled by"), (False, "is compiled already"), (True, "was compiled by")):
            if changed:
                with open(self.tree / "chronik/native/sign.c", "a") as file:
                    file.write("/* another */\n")
            done = self.python(*command)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn(said, done.stdout)
        (self.tree / "chronik/native" / LIBRARY).unlink()
        done = self.python(*command, CC="false", PATH="")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("was not compiled.\nfalse: ", done.stderr)


class BackendTests(TreeCase):
    """The build backend, in a process of its own."""

    def setUp(self):
        super().setUp()
        try:
            import setuptools  # noqa: F401
        except ImportError:
            raise SkipTest("setuptools is not installed") from None

    def backend(self, call, **environment):
        """What the expression `call` gives."""
        done = self.python("-c", f"from chronik.native import backend\nprint(repr({call}))", **environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.said = done.stderr
        return done.stdout.splitlines()[-1].strip("'")

    def files(self, wheel):
        with zipfile.ZipFile(self.tree / wheel) as archive:
            return [name for name in archive.namelist() if name.startswith("chronik/native/")]

    def test_a_wheel_with_a_compiler(self):
        self.need_compiler()
        self.assertNotIn("ziglang", self.backend("backend.get_requires_for_build_wheel()"))
        wheel = self.backend("backend.build_wheel('.')")
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        self.assertIn(f"-py3-none-{platform}.whl", wheel)
        files = self.files(wheel)
        self.assertIn(f"chronik/native/{LIBRARY}", files)
        self.assertLessEqual({f"chronik/native/{name}" for name in SOURCES + HEADERS}, set(files))

    def test_a_wheel_without(self):
        """Whatever an earlier build has left."""
        (self.tree / "chronik/native" / LIBRARY).write_bytes(b"left over")
        wheel = self.backend("backend.build_wheel('.')", PATH="", CC="false")
        self.assertIn("-py3-none-any.whl", wheel)
        self.assertNotIn(f"chronik/native/{LIBRARY}", self.files(wheel))
        self.assertIn("numpy will do its work", self.said)

    def test_zig_is_asked_for_where_pip_can_have_it(self):
        index = self.directory / "index"
        index.mkdir()
        offline = {
            "PATH": "",
            "CC": "false",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(index),
            "PIP_CONFIG_FILE": os.devnull,
        }
        self.assertNotIn("ziglang", self.backend("backend.get_requires_for_build_wheel()", **offline))
        with zipfile.ZipFile(index / "ziglang-0.13.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(
                "ziglang-0.13.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: ziglang\nVersion: 0.13.0\n"
            )
            wheel.writestr("ziglang-0.13.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr("ziglang-0.13.0.dist-info/RECORD", "")
        for kind in ("wheel", "editable"):
            self.assertIn("'ziglang >= 0.13'", self.backend(f"backend.get_requires_for_build_{kind}()", **offline))
