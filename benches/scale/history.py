#!/usr/bin/env python3
"""A history that is pushed at once, beside the same history pushed commit by commit, through real git and git-lfs.

    benches/scale/history.py AGENT [--commits 300] [--files 40] [--size 150000]

Commits edit one to four files each; from a third on a second branch does so, too. The first repository pushes every commit,
the second all branches by one `git push --all` with git-lfs' eight workers. In both stores every delta must be
on an earlier version of its own path, and the second may take at most 5 % more than the first. A clone of the second
then compares all versions.
"""

import argparse
import hashlib
import os
import pathlib
import random
import shutil

from team import Cost, Person, Report, Watch, edited, make_folder, noise, stored_bytes

MORE_MAX = 1.05
# Of the cores, while all is pushed at once: below, agents wait for each other.
BUSY_MIN = 0.6


class History:
    """Which files a commit changes, and to what, in the order of the commits."""

    def __init__(self, commits, files, size):
        chance, self.fork = random.Random(7), commits // 3
        # By branch and file: the versions so far. By object: those before it at its path.
        now, self.earlier, self.commits = {"main": {}}, {}, []
        bringers = min(10, files)
        for number in range(commits):
            if number == self.fork:
                now["side"] = dict(now["main"])
            branch = "side" if number >= self.fork and number % 3 == 0 else "main"
            brought = range(number, files, bringers) if number < bringers else None
            changes = {}
            for name in brought or chance.sample(range(files), chance.randint(1, 4)):
                before = now[branch].get(name, ())
                content = edited(before[-1][1], chance.random()) if before else noise(name, size + chance.randrange(size))
                oid = hashlib.sha256(content).hexdigest()
                self.earlier[oid] = {older for older, _ in before}
                now[branch][name] = (*before, (oid, content))
                changes[f"art/{name}.bin"] = content
            self.commits.append((branch, changes))


def commit_all(person, history, after_each):
    for number, (branch, changes) in enumerate(history.commits):
        if number == history.fork:
            person.run("git", "branch", "side")
        person.run("git", "checkout", "--quiet", branch)
        for name, content in changes.items():
            path = person.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        person.commit(f"commit {number}")
        after_each(branch)


def check_bases(store, history):
    """Returns how many copies are whole; every delta must be on an earlier version of its path."""
    whole = 0
    for copy in (pathlib.Path(store) / "objects").rglob("*"):
        if not copy.is_file():
            continue
        kind, *names = copy.name.split(".")
        if kind == "full":
            whole += 1
        elif names[0] not in history.earlier[copy.parent.name]:
            raise SystemExit(f"{copy} is on no earlier version of its path")
    return whole


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", type=pathlib.Path)
    parser.add_argument("--commits", type=int, default=300)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--size", type=int, default=150_000)
    chosen = parser.parse_args()
    agent, report = chosen.agent.resolve(strict=True), Report()
    history = History(chosen.commits, chosen.files, chosen.size)
    print(f"{len(history.earlier)} objects in {chosen.commits} commits over {chosen.files} files")
    stored = {}
    with make_folder("history") as folder:
        world = pathlib.Path(folder)
        for name in ["daily", "once"]:
            person, store = Person(world, name, agent, {"LFS_DELTA_LOG": "debug"}), world / f"{name}.store"
            remote = person.start_repository(store, "*.bin")
            push = lambda branch: person.run("git", "push", "--quiet", "origin", branch)
            with Cost() as cost:
                commit_all(person, history, push if name == "daily" else lambda branch: None)
            print(f"{name}: commits" + (f" and pushes: {cost}" if name == "daily" else f": {cost}"))
            with Cost() as cost, Watch(agent) as watch:
                person.run("git", "push", "--quiet", "--all", "origin")
            stored[name] = stored_bytes(store)
            if name == "once":
                busy = cost.cpu / cost.wall / len(os.sched_getaffinity(0))
                print(f"once: the push: {cost}; {watch}")
                waits, meanwhile = logged(person, "waiting for another agent"), logged(person, "another object meanwhile")
                print(f"once: agents waited for each other {waits} times, and stored something else instead {meanwhile} times")
            print(f"{name}: {stored[name]:,} bytes, {check_bases(store, history)} copies are whole")
        # A machine that others use gives less than it has.
        report.expect("cores that the push at once leaves idle, of all", 1 - busy, 1 - BUSY_MIN)
        report.expect("stored at once, of what daily pushes store", stored["once"] / stored["daily"], MORE_MAX)
        check_clone(world, agent, remote, history)
    report.end()


def logged(person, message):
    """How often the agents of somebody logged something."""
    logs = (person.home / ".local/state/lfs-delta/logs").glob("*")
    return sum(path.read_text(errors="replace").count(message) for path in logs)


def check_clone(world, agent, remote, history):
    person = Person(world, "clone", agent)
    person.clone(remote)
    person.run("git", "lfs", "fetch", "--all")
    fetched = sum((person.folder / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid).is_file() for oid in history.earlier)
    if fetched != len(history.earlier):
        raise SystemExit(f"{fetched} of {len(history.earlier)} objects were fetched")
    print(f"all {fetched} objects came back")


if __name__ == "__main__":
    main()
