#!/usr/bin/env python3
"""Measures lfs-delta on six successive numpy releases, ~65 MB each, through real git and git-lfs.

The releases come from PyPI as wheels and are unpacked to uncompressed tars that are the same on every machine.
Two repositories on two directory stores: in the first every version is committed and pushed on its own, in the
second all six are committed and pushed at once. Each store is then cloned by somebody with an empty home and cache,
and all six versions are compared by SHA-256. In the first repository one more clone, made after the last version but
one, pulls the last.

Everything happens in one temporary folder (~3 GB) with homes and git configuration of its own. Ends with 0 only if
every byte came back and every limit below held. "read" counts the whole size of each stored file that was opened and
read, known from its access time: on a file system that keeps none (noatime) that measure fails and says so.
"""

import argparse
import collections
import contextlib
import hashlib
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile

VERSIONS = ["1.25.2", "1.26.0", "1.26.1", "1.26.2", "1.26.3", "1.26.4"]
PLATFORM = "manylinux_2_17_x86_64"
VERSION_OF_ANOTHER_BUILD = "1.26.0"  # 1.25 was built with distutils, 1.26 with Meson: almost no code stayed in place

STORED_MAX_PERCENT = 12.0  # of the full bytes, all six versions
VERSION_MAX_PERCENT = 6.0  # of its own full bytes, each version after the first but the one above
PULL_MAX_RATIO = 1.1  # bytes read by the pull of the newest version / bytes of its delta


# ---- the files ----------------------------------------------------------------------------------

def wheel_of(version, downloads):
    folder = downloads / f"numpy-{version}"
    if not list(folder.glob("*.whl")):
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
             "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--platform", PLATFORM,
             "--dest", str(folder), f"numpy=={version}"], check=True)
    return next(folder.glob("*.whl"))


def unpack_to_tar(wheel, path):
    """Writes the members in the order of their names, without times and owners."""
    with zipfile.ZipFile(wheel) as members, tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for member in sorted(members.infolist(), key=lambda member: member.filename):
            if member.is_dir():
                continue
            entry = tarfile.TarInfo(member.filename)
            entry.size = member.file_size
            entry.mode = 0o755 if member.external_attr >> 16 & 0o100 else 0o644
            with members.open(member) as content:
                tar.addfile(entry, content)


def oid_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


Version = collections.namedtuple("Version", "name path oid size")


def make_versions(world, downloads):
    versions = []
    for name in VERSIONS:
        path = world / f"numpy-{name}.tar"
        unpack_to_tar(wheel_of(name, downloads), path)
        versions.append(Version(name, path, oid_of(path), path.stat().st_size))
    return versions


# ---- people with a home, git and lfs-delta --------------------------------------------------------

Work = collections.namedtuple("Work", "cpu_seconds wall_seconds")


class Person:
    """Somebody with a home of their own, in which only `lfs-delta install` was run."""

    def __init__(self, world, name, program):
        self.home = world / name
        self.home.mkdir()
        kept = {key: value for key, value in os.environ.items() if not re.match("(GIT|LFS_DELTA|XDG)_", key)}
        self.environment = {**kept, "HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / ".cache"),
                            "GIT_CONFIG_GLOBAL": str(self.home / ".gitconfig"), "GIT_CONFIG_NOSYSTEM": "1",
                            "GIT_TERMINAL_PROMPT": "0"}
        self.folder = self.home
        for key, value in [("user.name", name), ("user.email", f"{name}@example.invalid"),
                           ("init.defaultBranch", "main"), ("pull.ff", "only")]:
            self.run("git", "config", "--global", key, value)
        self.run(program, "install")

    def run(self, *command):
        """Runs a command to its end and returns what it and all its children cost."""
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        result = subprocess.run(list(map(str, command)), cwd=self.folder, env=self.environment, text=True,
                                errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if result.returncode != 0:
            sys.exit(f"numpy: {' '.join(map(str, command))} ended with {result.returncode}:\n{result.stdout}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.output = result.stdout.strip()
        return Work(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - start)

    def clone(self, remote):
        work = self.run("git", "clone", "--quiet", remote, "work")
        self.folder = self.home / "work"
        return work

    def commit(self, version):
        """Commits one version and returns the commit's name."""
        shutil.copy(version.path, self.folder / "numpy.tar")
        self.run("git", "add", "numpy.tar")
        self.run("git", "commit", "--quiet", "--message", version.name)
        self.run("git", "rev-parse", "HEAD")
        return self.output


def start_repository(world, name, program):
    """Makes a remote and a store and returns them with the person who will push."""
    remote, store = world / f"{name}.git", world / f"{name}.store"
    person = Person(world, f"{name}-alice", program)
    person.run("git", "init", "--quiet", "--bare", remote)
    person.clone(remote)
    person.run("git", "lfs", "track", "*.tar")
    person.run(program, "init", store)
    person.run("git", "add", ".gitattributes", ".lfsconfig")
    person.run("git", "commit", "--quiet", "--message", "Keep tars in lfs-delta")
    return remote, Store(store), person


# ---- the store, seen from outside -----------------------------------------------------------------

class Store:
    def __init__(self, path):
        self.path = path

    def files(self):
        return [path for path in self.path.rglob("*") if path.is_file()]

    def size(self):
        return sum(path.stat().st_size for path in self.files())

    def copies(self, oid):
        return sorted((self.path / "objects" / oid[:2] / oid).glob("*"))

    def stored(self, oid):
        return sum(copy.stat().st_size for copy in self.copies(oid))

    def delta_size(self, oid):
        """The bytes of the smallest delta of an object, or of its smallest copy if it has no delta."""
        copies = self.copies(oid)
        deltas = [copy for copy in copies if copy.name.startswith("delta.")]
        return min(copy.stat().st_size for copy in deltas or copies)

    def depth(self, oid, nonce=None):
        """The number of deltas on the shortest chain of an object, read from the names of its copies.

        full.<nonce>[.<codec>] and delta.<base-oid>.<base-nonce>.<nonce>.<codec>; with a nonce, of that copy only.
        """
        depths = []
        for copy in self.copies(oid):
            kind, *rest = copy.name.split(".")
            if kind == "full" and nonce in (None, rest[0]):
                depths.append(0)
            if kind == "delta" and nonce in (None, rest[2]):
                depths.append(1 + self.depth(rest[0], rest[1]))
        if not depths:
            sys.exit(f"numpy: {oid} has no copy {nonce or ''} in the store: a chain is broken")
        return min(depths)

    @contextlib.contextmanager
    def reads(self):
        """Counts the bytes of the files that are read in a `with` block; the answer is there after it."""
        for path in self.files():
            os.utime(path, ns=(0, path.stat().st_mtime_ns))
        count = collections.Counter()
        yield count
        probe = self.path.with_suffix(".probe")
        probe.write_bytes(b"x")
        os.utime(probe, ns=(0, probe.stat().st_mtime_ns))
        probe.read_bytes()
        count["known"] = probe.stat().st_atime_ns != 0
        probe.unlink()
        for path in self.files():
            if path.stat().st_atime_ns != 0:
                count["files"] += 1
                count["bytes"] += path.stat().st_size


# ---- the measures ---------------------------------------------------------------------------------

class Report:
    def __init__(self):
        self.failures = []

    def expect(self, what, holds):
        print(f"  {'ok  ' if holds else 'FAIL'} {what}")
        if not holds:
            self.failures.append(what)


def print_stored(versions, store, works):
    print(f"  {'version':9}{'full':>11}{'stored':>11}{'%':>7}  {'depth':>5}  {'CPU s':>7}{'wall s':>8}")
    for version in versions:
        stored, work = store.stored(version.oid), works.get(version.name)
        spent = f"{work.cpu_seconds:7.1f}{work.wall_seconds:8.1f}" if work else f"{'-':>7}{'-':>8}"
        print(f"  {version.name:9}{version.size:11}{stored:11}{100 * stored / version.size:7.2f}"
              f"  {store.depth(version.oid):5}  {spent}")
    full, stored = sum(version.size for version in versions), store.size()
    cpu, wall = sum(work.cpu_seconds for work in works.values()), sum(work.wall_seconds for work in works.values())
    print(f"  {'total':9}{full:11}{stored:11}{100 * stored / full:7.2f}  {'':5}  {cpu:7.1f}{wall:8.1f}")


def check_stored(versions, store, report):
    full = sum(version.size for version in versions)
    percent = 100 * store.size() / full
    report.expect(f"stored {percent:.2f} % of the full bytes (at most {STORED_MAX_PERCENT:g} %)",
                  percent <= STORED_MAX_PERCENT)
    shares = {version.name: 100 * store.stored(version.oid) / version.size for version in versions[1:]
              if version.name != VERSION_OF_ANOTHER_BUILD}
    worst = max(shares, key=shares.get)
    report.expect(f"largest later version, {worst}, is {shares[worst]:.2f} % (at most {VERSION_MAX_PERCENT:g} %)",
                  shares[worst] <= VERSION_MAX_PERCENT)


def check_clone(world, name, remote, store, commits, versions, program, report):
    """Clones with an empty home and cache, then checks out and compares every version."""
    person = Person(world, f"{name}-bob", program)
    newest = versions[-1]
    with store.reads() as cold:
        work = person.clone(remote)
    same = 0
    for version in reversed(versions):
        person.run("git", "checkout", "--quiet", commits[version.name])
        same += oid_of(person.folder / "numpy.tar") == version.oid
    read = f"{cold['bytes']} bytes of {cold['files']} files read" if cold["known"] else "bytes read not known"
    print(f"  cold clone of {newest.name}: {read}, CPU {work.cpu_seconds:.1f} s, wall {work.wall_seconds:.1f} s")
    report.expect(f"{same} of {len(versions)} versions byte-identical in a fresh clone", same == len(versions))


def check_pull(person, store, newest, report):
    """Pulls the newest version into a clone whose git-lfs has the one before, with an empty cache."""
    shutil.rmtree(person.home / ".cache", ignore_errors=True)
    with store.reads() as pulled:
        work = person.run("git", "pull", "--quiet")
    if oid_of(person.folder / "numpy.tar") != newest.oid:
        report.expect("the pulled version is byte-identical", False)
        return
    if not pulled["known"]:
        report.expect("bytes read by the pull (this file system keeps no access times: set TMPDIR elsewhere)", False)
        return
    delta = store.delta_size(newest.oid)
    report.expect(f"pull of {newest.name} read {pulled['bytes']} bytes of {pulled['files']} files, "
                  f"{pulled['bytes'] / delta:.2f} x its delta of {delta} (at most {PULL_MAX_RATIO:g}), "
                  f"CPU {work.cpu_seconds:.1f} s, wall {work.wall_seconds:.1f} s",
                  pulled["bytes"] <= PULL_MAX_RATIO * delta)


def push_one_at_a_time(world, versions, program, report):
    print("(a) every version committed and pushed on its own")
    remote, store, alice = start_repository(world, "single", program)
    commits, works, follower = {}, {}, None
    for version in versions:
        if version is versions[-1]:
            follower = Person(world, "single-carol", program)
            follower.clone(remote)
        commits[version.name] = alice.commit(version)
        works[version.name] = alice.run("git", "push", "--quiet", "origin", "main")
    print_stored(versions, store, works)
    check_stored(versions, store, report)
    check_pull(follower, store, versions[-1], report)
    check_clone(world, "single", remote, store, commits, versions, program, report)


def push_all_at_once(world, versions, program, report):
    print("(b) all versions in one push")
    remote, store, alice = start_repository(world, "together", program)
    commits = {version.name: alice.commit(version) for version in versions}
    works = {"all": alice.run("git", "push", "--quiet", "origin", "main")}
    print_stored(versions, store, works)
    check_stored(versions, store, report)
    check_clone(world, "together", remote, store, commits, versions, program, report)


def compare_with_peers(world, versions):
    """What `xdelta3 -9` needs for the same versions, each against the first, as the RFC's own tool stores them."""
    print("(p) for comparison: plain Git LFS stores and sends 100 %; xdelta3 -9 against the first version:")
    if not shutil.which("xdelta3"):
        print("  not measured: xdelta3 is not installed")
        return
    first, delta = versions[0], world / "peer.vcdiff"
    total = first.size
    for version in versions[1:]:
        subprocess.run(["xdelta3", "-e", "-9", "-D", "-f", "-s", first.path, version.path, delta], check=True)
        total += delta.stat().st_size
        print(f"  {version.name:9}{version.size:11}{delta.stat().st_size:11}"
              f"{100 * delta.stat().st_size / version.size:7.2f}")
    full = sum(version.size for version in versions)
    print(f"  {'total':9}{full:11}{total:11}{100 * total / full:7.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path, help="the lfs-delta to measure (target/release/lfs-delta)")
    parser.add_argument("--downloads", type=pathlib.Path, help="where the wheels are kept from run to run")
    parser.add_argument("--peers", action="store_true", help="also measure xdelta3 -9")
    arguments = parser.parse_args()
    program = arguments.program.resolve(strict=True)
    with tempfile.TemporaryDirectory(prefix="lfs-delta-numpy.") as temporary:
        world, report = pathlib.Path(temporary), Report()
        versions = make_versions(world, (arguments.downloads or world).resolve())
        push_one_at_a_time(world, versions, program, report)
        push_all_at_once(world, versions, program, report)
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"largest process of all (git, git-lfs or agent): {largest:.0f} MiB resident, mapped files included")
        if arguments.peers:
            compare_with_peers(world, versions)
    if report.failures:
        sys.exit(f"{len(report.failures)} of the measures failed")
    print("all measures hold")


if __name__ == "__main__":
    main()
