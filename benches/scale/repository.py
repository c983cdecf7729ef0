#!/usr/bin/env python3
"""What git is asked about a long history: 20,000 commits over 1,000 LFS files, and what it costs a push by eight agents.

    benches/scale/repository.py AGENT FOLDER [--commits 20000] [--files 1000]

Makes the repository in FOLDER once, by `git fast-import`: remote `origin` has all but the last 50 commits, and of what
is older than 100 commits only pointers are there. Then eight agents push the objects of the last 50, once as a daily
push and once as the first push to a remote that has nothing. Seconds are those that all git processes of all agents
used, user and system; the limits are for what is asked about history, trees and refs.
"""

import argparse
import collections
import hashlib
import json
import pathlib
import random
import shutil
import stat
import subprocess

from team import Agent, Cost, Person, Report, make_folder, noise, object_path, transfer_by

AGENTS = 8
DAILY_MAX_SECONDS, FIRST_MAX_SECONDS = 0.05, 2.0
NEW_COMMITS = 50
CHANGES = 2  # of LFS files in each commit

# Runs git and notes what it used. Stands before git in PATH.
SHIM = """#!/usr/bin/env python3
import json, os, resource, subprocess, sys, time
begun = time.monotonic()
code = subprocess.call([{git!r}, *sys.argv[1:]])
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
words = [word for word in sys.argv[1:] if not word.startswith("-") and "=" not in word]
line = json.dumps([words[0], usage.ru_utime + usage.ru_stime, time.monotonic() - begun]) + "\\n"
with open({log!r}, "a") as log:
    log.write(line)
sys.exit(code)
"""


def content_of(serial):
    return noise(0, 20_000) + noise(serial, serial % 5000)


def oid_of(serial, first_real):
    # Only what is pushed needs bytes.
    return hashlib.sha256(content_of(serial) if serial >= first_real else str(serial).encode()).hexdigest()


def stream(commits, files):
    chance, serial, first_real = random.Random(1), 0, CHANGES * (commits - 2 * NEW_COMMITS) + 1
    for commit in range(1, commits + 1):
        changes = []
        for _ in range(CHANGES):
            serial += 1
            # The last commits edit what those before them edited.
            number = (serial - CHANGES * NEW_COMMITS * (commit > commits - NEW_COMMITS)) * 7919 % files
            size = 20_000 + serial % 5000
            pointer = (f"version https://git-lfs.github.com/spec/v1\n"
                       f"oid sha256:{oid_of(serial, first_real)}\nsize {size}\n")
            changes.append((f"assets/{number % 40}/file_{number}.bin", pointer))
        if commit % 10 == 0:
            name = chance.randrange(5000)
            changes.append((f"src/{name % 60}/code_{name}.c", f"code {commit}\n" * 20))
        message = f"commit {commit}"
        yield f"commit refs/heads/main\ncommitter T <t@example.com> {1_600_000_000 + commit} +0000\n"
        yield f"data {len(message)}\n{message}\n"
        for path, text in changes:
            yield f"M 100644 inline {path}\ndata {len(text)}\n{text}\n"


def make(folder, commits, files):
    def git(*words, **options):
        subprocess.run(["git", "-C", str(folder), *words], check=True, stdout=subprocess.DEVNULL, **options)

    folder.mkdir(parents=True)
    git("init", "--quiet", "--initial-branch=main")
    git("fast-import", "--quiet", input="".join(stream(commits, files)).encode())
    git("update-ref", "refs/remotes/origin/main", f"main~{NEW_COMMITS}")
    git("repack", "-adq")
    for serial in range(CHANGES * (commits - 2 * NEW_COMMITS) + 1, CHANGES * commits + 1):
        content = content_of(serial)
        path = object_path(folder, hashlib.sha256(content).hexdigest())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def events(folder, commits):
    """What git-lfs asks for to push the last commits; those before the last `NEW_COMMITS` are a push of their own."""
    serials = range(CHANGES * (commits - 2 * NEW_COMMITS) + 1, CHANGES * commits + 1)
    oids = [hashlib.sha256(content_of(serial)).hexdigest() for serial in serials]
    paths = [object_path(folder, oid) for oid in oids]
    all_events = [{"event": "upload", "oid": oid, "size": path.stat().st_size, "path": str(path)}
                  for oid, path in zip(oids, paths)]
    return all_events[:CHANGES * NEW_COMMITS], all_events[CHANGES * NEW_COMMITS:]


def transfer(person, agent, folder, remote, wanted):
    agents = [Agent([agent, "agent"], "upload", person.environment, folder, remote) for _ in range(AGENTS)]
    transfer_by(agents, wanted)
    for one in agents:
        one.end()


def push(agent, folder, remote, world, before, wanted):
    """Pushes by eight agents what is wanted, and prints what git was asked; returns its CPU seconds."""
    person = Person(world, remote, agent)
    (folder / ".lfsconfig").unlink(missing_ok=True)
    person.run(agent, "init", world / f"{remote}.store", cwd=folder)
    if before:
        transfer(person, agent, folder, remote, before)
        # What git said then is not shared with the push of another day.
        shutil.rmtree(person.home / ".cache/lfs-delta/names")
    shim, log = person.home / "bin/git", world / f"{remote}.log"
    shim.write_text(SHIM.format(git=shutil.which("git"), log=str(log)))
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    with Cost() as cost:
        transfer(person, agent, folder, remote, wanted)
    asked = collections.defaultdict(list)
    for name, cpu, wall in map(json.loads, log.read_text().splitlines()):
        asked[name].append((cpu, wall))
    for name, runs in sorted(asked.items()):
        print(f"  git {name}: {len(runs)} times, CPU {sum(cpu for cpu, _ in runs) * 1000:.0f} ms, "
              f"the longest took {max(wall for _, wall in runs) * 1000:.0f} ms")
    total = sum(cpu for runs in asked.values() for cpu, _ in runs)
    print(f"  all {sum(map(len, asked.values()))}: CPU {total * 1000:.0f} ms; the push took {cost}")
    # Each agent reads its settings; these do not grow with the repository.
    return total - sum(cpu for name in ["config", "rev-parse"] for cpu, _ in asked[name])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--commits", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=1_000)
    chosen = parser.parse_args()
    agent, folder = chosen.agent.resolve(strict=True), chosen.folder.resolve()
    if not folder.exists():
        make(folder, chosen.commits, chosen.files)
    report = Report()
    earlier, newest = events(folder, chosen.commits)
    with make_folder("repository") as world:
        for what, remote, before, most in [
            ("daily", "origin", earlier, DAILY_MAX_SECONDS),
            ("first", "elsewhere", [], FIRST_MAX_SECONDS),
        ]:
            print(f"{what} push of {len(newest)} objects by {AGENTS} agents")
            used = push(agent, folder, remote, pathlib.Path(world), before, newest)
            report.expect(f"CPU seconds of what git is asked about the history for a {what} push", used, most)
    report.end()


if __name__ == "__main__":
    main()
