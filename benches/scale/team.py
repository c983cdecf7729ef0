"""What the scenarios share: people with homes of their own, servers, agents driven by hand, and what all that costs.

Nothing of the user's own settings gets in. The git-lfs is that of tests/run.sh, else the one in PATH.
"""

import contextlib
import json
import os
import pathlib
import random
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches"))

from s3 import Server  # noqa: E402,F401  (the scenarios take it from here)

TOOLS = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "test-tools"
GIT_LFS = pathlib.Path(os.environ.get("LFS_DELTA_TEST_GIT_LFS", TOOLS / "git-lfs-3.6.1/git-lfs"))


def make_folder(name):
    """A temporary folder that is removed at the end of a `with` block."""
    return tempfile.TemporaryDirectory(prefix=f"lfs-delta-{name}.", ignore_cleanup_errors=True)


class Person:
    """Somebody with a home of their own, and lfs-delta installed unless said otherwise."""

    def __init__(self, world, name, agent, environment=(), install=True):
        self.home, self.agent = pathlib.Path(world) / name, agent
        (self.home / "bin").mkdir(parents=True)
        if GIT_LFS.exists():
            (self.home / "bin/git-lfs").symlink_to(GIT_LFS.resolve())
        kept = {key: value for key, value in os.environ.items() if not re.match("(GIT|LFS_DELTA|XDG|AWS)_", key)}
        self.environment = {
            **kept, "HOME": str(self.home), "PATH": f"{self.home}/bin:{os.environ['PATH']}",
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", **dict(environment),
        }
        self.folder = self.home
        for key, value in [("user.name", name), ("user.email", f"{name}@example.invalid"), ("gc.auto", "0"),
                           ("init.defaultBranch", "main"), ("advice.detachedHead", "false")]:
            self.run("git", "config", "--global", key, value)
        if install:
            self.run(agent, "install", *(["--trust", "127.0.0.1"] if "AWS_ACCESS_KEY_ID" in self.environment else []))

    def run(self, *command, **options):
        """Runs a command to its end and returns what it printed."""
        options = {"cwd": self.folder, "env": self.environment, "text": True, "errors": "replace", **options}
        result = subprocess.run(list(map(str, command)), capture_output=True, **options)
        if result.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} ended with {result.returncode}:\n{result.stdout}{result.stderr}")
        return result.stdout

    def start_repository(self, store, *patterns):
        """Makes a repository with a bare remote beside it, whose objects go to `store`."""
        remote = self.home.parent / f"{self.home.name}.git"
        self.run("git", "init", "--quiet", "--bare", remote)
        self.clone(remote)
        self.run("git", "lfs", "track", *patterns)
        self.run(self.agent, "init", store)
        self.commit("Keep objects in lfs-delta")
        self.run("git", "push", "--quiet", "--set-upstream", "origin", "main")
        return remote

    def clone(self, remote, *options):
        self.run("git", "clone", "--quiet", *options, remote, "work")
        self.folder = self.home / "work"

    def commit(self, message):
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def set(self, **environment):
        self.environment.update(environment)


class Agent:
    """An agent, driven as git-lfs does: one object at a time."""

    def __init__(self, command, operation, environment, folder, remote="origin"):
        self.silence = 0.0  # the longest time in which it told nothing of a transfer
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=environment, cwd=folder)
        self.send({"event": "init", "operation": operation, "remote": remote, "concurrent": True,
                   "concurrenttransfers": 8})
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            sys.exit(answer["error"]["message"])

    def send(self, line):
        self.process.stdin.write((json.dumps(line) + "\n").encode())
        self.process.stdin.flush()

    def transfer(self, event):
        """Lets it transfer one object and returns its answer."""
        self.send(event)
        told = time.monotonic()
        for line in self.process.stdout:
            self.silence, told = max(self.silence, time.monotonic() - told), time.monotonic()
            answer = json.loads(line)
            if answer["event"] == "complete":
                if "error" in answer:
                    sys.exit(answer["error"]["message"])
                return answer
        sys.exit("the agent ended without an answer")

    def end(self):
        self.send({"event": "terminate"})
        self.process.stdin.close()
        self.process.wait()


def transfer_by(agents, events):
    """Hands events to agents as they become free, as git-lfs does; the answers in no order."""
    left, answers, lock = iter(events), [], threading.Lock()

    def work(agent):
        while True:
            with lock:
                event = next(left, None)
            if event is None:
                return
            answers.append(agent.transfer(event))

    threads = [threading.Thread(target=work, args=(agent,)) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


class Cost:
    """Wall and CPU seconds of what ran to its end within a `with` block, children of children included."""

    def __enter__(self):
        self.before, self.begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        return self

    def __exit__(self, *_):
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.wall = time.monotonic() - self.begun
        self.cpu = after.ru_utime + after.ru_stime - self.before.ru_utime - self.before.ru_stime

    def __str__(self):
        return f"{self.wall:.1f} s, CPU {self.cpu:.1f} s"


class Watch:
    """Looks at the processes of a program now and then: their memory, and how long no progress was told."""

    def __init__(self, program, progress=None, period=0.1):
        self.program, self.progress, self.period = str(pathlib.Path(program).resolve()), progress, period
        self.resident, self.private, self.together, self.silence = 0, 0, 0, 0.0
        self.over = threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def look(self):
        told, size = time.monotonic(), 0
        while not self.over.wait(self.period):
            memories = [memory for memory in map(self.memory_of, pathlib.Path("/proc").glob("[0-9]*")) if memory]
            self.resident = max([self.resident, *(resident for resident, _ in memories)])
            self.private = max([self.private, *(private for _, private in memories)])
            self.together = max(self.together, sum(private for _, private in memories))
            now = self.progress.stat().st_size if self.progress and self.progress.exists() else 0
            if now != size or not memories:
                told, size = time.monotonic(), now
            self.silence = max(self.silence, time.monotonic() - told)

    def memory_of(self, process):
        """The largest resident size of a process of the program, and what of its memory no file backs, in MiB."""
        with contextlib.suppress(OSError):
            if os.readlink(process / "exe") == self.program:
                status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
                mib = lambda name: int(status.get(name, "0 kB").split()[0]) / 1024
                return mib("VmHWM"), mib("RssAnon") + mib("RssShmem")
        return None

    def __str__(self):
        told = f", at most {self.silence:.1f} s without progress" if self.progress else ""
        return (f"an agent has {self.resident:.0f} MiB at most with mapped files, {self.private:.0f} without; "
                f"all together {self.together:.0f} without{told}")


class Report:
    """Prints what was measured and what was expected, and ends with 0 only if that held."""

    def __init__(self):
        self.failures = 0

    def expect(self, what, value, most):
        holds = value <= most
        self.failures += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {what}: {value:.3f} (at most {most:g})", flush=True)

    def hold(self, what, value, most):
        """Says only what does not hold."""
        if value > most:
            self.expect(what, value, most)

    def end(self):
        sys.exit(f"{self.failures} of the limits failed" if self.failures else 0)


def stored_bytes(store):
    """The bytes of all copies of a store in a directory."""
    return sum(path.stat().st_size for path in (pathlib.Path(store) / "objects").rglob("*") if path.is_file())


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def edited(content, seed, edits=4):
    """A later version: some places replaced, shortened or lengthened by up to 64 bytes."""
    chance, version = random.Random(seed), bytearray(content)
    for _ in range(edits):
        at = chance.randrange(len(version))
        version[at:at + chance.randrange(65)] = chance.randbytes(1 + chance.randrange(64))
    return bytes(version)


def object_path(repository, oid):
    """Where git-lfs keeps an object of a repository."""
    return pathlib.Path(repository) / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid
