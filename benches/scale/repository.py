#!/usr/bin/env python3
"""Makes a git repository with a long history of LFS pointers, and times what lfs-delta asks git about it.

    benches/scale/repository.py FOLDER [COMMITS [FILES]]

20,000 commits over 1,000 LFS files and 5,000 others unless said otherwise, by `git fast-import`. The objects
themselves are not made. Remote `origin` has all but the last 50 commits.
"""

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

folder = Path(sys.argv[1])
commits, files = (list(map(int, sys.argv[2:])) + [20_000, 1_000])[:2] if len(sys.argv) > 2 else (20_000, 1_000)
random.seed(1)


def git(*words, **options):
    return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, **options).stdout


def pointer(number):
    oid = hashlib.sha256(str(number).encode()).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {100_000 + number % 50_000}\n"


def stream():
    serial = 0
    for commit in range(1, commits + 1):
        changes = []
        for _ in range(2):
            serial += 1
            changes.append((f"assets/{serial * 7919 % files % 40}/file_{serial * 7919 % files}.bin", pointer(serial)))
        if commit % 10 == 0:
            name = random.randrange(5000)
            changes.append((f"src/{name % 60}/code_{name}.c", f"code {commit}\n" * 20))
        message = f"commit {commit}"
        yield f"commit refs/heads/main\ncommitter T <t@example.com> {1_600_000_000 + commit} +0000\n"
        yield f"data {len(message)}\n{message}\n"
        for path, content in changes:
            yield f"M 100644 inline {path}\ndata {len(content)}\n{content}\n"


def timed(label, *words, **options):
    start = time.monotonic()
    size = len(git(*words, **options))
    print(f"{label}: {(time.monotonic() - start) * 1000:.0f} ms, {size:,} bytes")


if not folder.exists():
    folder.mkdir(parents=True)
    git("init", "--quiet", "--initial-branch=main")
    git("fast-import", "--quiet", input="".join(stream()).encode())
    git("update-ref", "refs/remotes/origin/main", "main~50")
    git("repack", "-adq")
    git("commit-graph", "write")

log = ["log", "--format=@%P", "--raw", "-z", "--no-abbrev", "--no-renames", "-m", "--topo-order"]
timed("what is pushed, 50 commits", *log, "--branches", "--tags", "HEAD", "--not", "--remotes=origin")
timed("everything", *log, "--all", "HEAD")
timed("the tree of HEAD", "ls-tree", "-r", "-z", "--full-tree", "HEAD")
timed("refs", "for-each-ref", "--format=%(objectname) %(refname)")
paths = git("ls-tree", "-r", "-z", "--name-only", "--full-tree", "HEAD")
timed("attributes of all paths", "check-attr", "--stdin", "-z", "deltaspace", input=paths)
