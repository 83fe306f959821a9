"""Judge predictions in a child process that is killed at random moments, again and again, and then left to finish.

    python tests/judge/judge_and_kill.py PREDICTIONS.jsonl URL OUT.jsonl --kills 5 --seed 1 --most 20

Prints a line of JSON: how often a child was killed at work, and the exit status of the last one. Children are forked
after the imports, so that they die at work and not while importing. One in four dies at a random moment from its start
on, the others some random time after a random number of answers, so that work gets done on a slow machine too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import time

import openai._base_client
import tqdm  # noqa: F401

import pefomed.judge.asking  # noqa: F401
from pefomed.judge.endpoint import Endpoint
from pefomed.judge.run import judge_predictions
from pefomed.judge.settings import JudgeSettings
from pefomed.judge.store import JudgeStore


def work(arguments: argparse.Namespace, pipe: int) -> None:
    """What a child does, with a byte into the pipe for each answer that it has stored; it does not return."""
    openai._base_client.INITIAL_RETRY_DELAY = arguments.retry_delay
    finish = JudgeStore.finish

    def told(self, *given, **paid):
        finish(self, *given, **paid)
        os.write(pipe, b".")

    JudgeStore.finish = told
    endpoint = Endpoint(base_url=arguments.url, model="judge", concurrency=arguments.concurrency, timeout_s=10.0)
    settings = JudgeSettings(endpoint=endpoint, lease_s=arguments.lease)
    status = 70
    try:
        summary = judge_predictions(arguments.predictions, "vqa", settings, arguments.out, progress=False)
        status = 0 if summary.complete else 1
    finally:
        os._exit(status)


def wait_for_the_moment(moments: random.Random, pipe: int, most: int) -> None:
    """Sleep until the child is to die, or has ended by itself."""
    if moments.random() >= 0.25:
        left = moments.randint(1, most)
        while left > 0 and (found := os.read(pipe, left)):
            left -= len(found)
    time.sleep(moments.uniform(0.0, 0.2))


def main() -> None:
    """Fork, wait, kill; the last child is left alone."""
    parser = argparse.ArgumentParser()
    for name in ("predictions", "url", "out"):
        parser.add_argument(name)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=20, help="answers after which a child dies at the latest")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--lease", type=float, default=1.0)
    parser.add_argument("--retry-delay", type=float, default=0.01)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    killed = 0
    while True:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            work(arguments, writing)
        os.close(writing)
        if killed < arguments.kills:
            wait_for_the_moment(moments, reading, arguments.most)
            os.kill(child, signal.SIGKILL)
        else:
            while os.read(reading, 4096):
                pass
        os.close(reading)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
        killed += 1
    print(json.dumps({"killed": killed, "status": os.waitstatus_to_exitcode(status)}))


if __name__ == "__main__":
    main()
