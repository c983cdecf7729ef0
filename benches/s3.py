#!/usr/bin/env python3
"""Pushes and pulls one incompressible object by lfs-delta and by rclone, to and from the same server on this machine.

    benches/s3.py AGENT [--mib 1024] [--rounds 3] [--server seaweedfs]

AGENT is a release build of lfs-delta. Server and rclone are those that tests/run.sh installs. Both tools take turns, so
that what else the machine does meets both; wall times are compared within a round. lfs-delta hashes what it sends and
what it gets (SHA-256), as git-lfs wants it; rclone computes MD5. Prints a table in Markdown.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Server:
    """A server that runs for as long as its script's input is open."""

    def __init__(self, name):
        script = ROOT / "tests/servers" / f"{name}.sh"
        self.process = subprocess.Popen(["bash", script, "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = {}
        for line in self.process.stdout:
            if line == "ready\n":
                return
            key, value = line.rstrip("\n").split("=", 1)
            self.said[key] = value
        raise SystemExit(f"{script} said no \"ready\": its own message is above")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measured(command, feed, environment, folder):
    """Runs a program; returns its wall and CPU seconds and its largest resident size in MiB."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=folder)
    output = feed(process)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.monotonic() - begun
    process.stdin.close()  # an agent whose input ends before it does is cancelled
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command} ended with {process.returncode}: {output}")
    return took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def transfer(operation, event):
    """Speaks git-lfs' side of one transfer; the answer must be its completion."""

    def feed(process):
        def send(line):
            process.stdin.write((json.dumps(line) + "\n").encode())
            process.stdin.flush()

        send({"event": "init", "operation": operation, "remote": "origin", "concurrent": False})
        process.stdout.readline()
        send(event)
        for line in process.stdout:
            answer = json.loads(line)
            if answer["event"] == "complete":
                if "error" in answer:
                    raise SystemExit(answer["error"]["message"])
                send({"event": "terminate"})
                return answer
        raise SystemExit("no answer")

    return feed


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("agent")
    arguments.add_argument("--mib", type=int, default=1024)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--server", default="seaweedfs")
    chosen = arguments.parse_args()
    agent = str(pathlib.Path(chosen.agent).resolve())
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    rclone = os.environ.get("LFS_DELTA_TEST_RCLONE", str(target / "test-tools/rclone-1.75.2/rclone"))
    server, folder = Server(chosen.server), pathlib.Path(tempfile.mkdtemp(prefix="lfs-delta-bench-"))
    try:
        measure(chosen, agent, rclone, server.said, folder)
    finally:
        server.close()
        shutil.rmtree(folder)


def measure(chosen, agent, rclone, server, folder):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "AWS_ACCESS_KEY_ID": server["access_key"],
        "AWS_SECRET_ACCESS_KEY": server["secret_key"],
        "AWS_REGION": "us-east-1",
        "LFS_DELTA_CACHE_SIZE": "0",
        "RCLONE_CONFIG": "",
        "RCLONE_S3_PROVIDER": "Other",
        "RCLONE_S3_ENV_AUTH": "true",
        "RCLONE_S3_ENDPOINT": server["url"],
        "RCLONE_S3_NO_CHECK_BUCKET": "true",
    }
    size = chosen.mib << 20
    content, digest = folder / "object", hashlib.sha256()
    noise = random.Random(1)
    with open(content, "wb") as file:
        for _ in range(chosen.mib):
            piece = noise.randbytes(1 << 20)
            digest.update(piece)
            file.write(piece)
    oid = digest.hexdigest()
    repository = folder / "repository"
    subprocess.run(["git", "init", "--quiet", repository], env=environment, check=True)
    rows = {}
    for number in range(chosen.rounds):
        store = f"s3://{server['bucket']}/round-{number}?endpoint={server['url']}"
        (repository / ".lfsconfig").unlink(missing_ok=True)
        subprocess.run([agent, "init", store], env=environment, cwd=repository, check=True, stdout=subprocess.DEVNULL)
        command = [agent, "agent", "--store", store]
        place = f":s3:{server['bucket']}/rclone-{number}/object"
        local = folder / "pulled"
        plain = lambda process: process.stdout.read()
        up = {"event": "upload", "oid": oid, "size": size, "path": str(content)}
        down = {"event": "download", "oid": oid, "size": size}
        for what, theirs, ours in [
            ("push", [rclone, "copyto", str(content), place], transfer("upload", up)),
            ("pull", [rclone, "copyto", place, str(local)], transfer("download", down)),
        ]:
            rows.setdefault((what, "rclone"), []).append(measured(theirs, plain, environment, folder))
            rows.setdefault((what, "lfs-delta"), []).append(measured(command, ours, environment, repository))
            print(number, what, {tool: runs[-1] for (one, tool), runs in rows.items() if one == what}, file=sys.stderr)
            local.unlink(missing_ok=True)
            for left in repository.glob(".git/lfs/tmp/*/part-*"):
                left.unlink()
    report(chosen, rows)


def report(chosen, rows):
    print(f"| {chosen.mib} MiB, {chosen.server} | wall s | CPU s | MiB of memory | wall, × rclone | CPU, × rclone |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for (what, tool), runs in rows.items():
        wall, cpu, memory = (statistics.median(run[index] for run in runs) for index in range(3))
        theirs = rows[what, "rclone"]
        ratio = lambda index: statistics.median(run[index] / other[index] for run, other in zip(runs, theirs))
        ratios = f"{ratio(0):.2f} | {ratio(1):.2f}" if tool != "rclone" else "1 | 1"
        print(f"| {what}, {tool} | {wall:.1f} | {cpu:.2f} | {memory:.0f} | {ratios} |")


if __name__ == "__main__":
    main()
