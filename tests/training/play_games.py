"""A process of its own that trains toy games, for the tests that kill processes and join several of them.

    python play_games.py '{"runs": [{"config": {...}, "options": {...}, "after_step": [5, "SIGKILL"]}]}'

`after_step` sends this process a signal after a step of the loop, `sealing` a SIGKILL when the checkpoint of a
step has its arrays but is not complete.
"""

import json
import os
import signal
import sys

import games

from medgan_jax.configuration import MeshOptions, RunOptions
from medgan_jax.errors import UserError
from medgan_jax.training import checkpoints, loop, run

AFTER, SEAL = loop.Profiler.after, checkpoints._seal


def send(number):
    os.kill(os.getpid(), number)


def arrange(after_step=None, sealing=None):
    """Has the signals of one run sent."""

    def after(self, reached):
        AFTER(self, reached)
        if after_step is not None and reached == after_step[0]:
            send(signal.Signals[after_step[1]])

    def seal(folder, description):
        if description["step"] == sealing:
            send(signal.SIGKILL)
        SEAL(folder, description)

    loop.Profiler.after, checkpoints._seal = after, seal


def play(config, options, **signals):
    arrange(**signals)
    options = {**options, "mesh": MeshOptions(**options.get("mesh", {}))}
    run.train(games.experiment, games.Config(**config), RunOptions(**options))


if __name__ == "__main__":
    try:
        for each in json.loads(sys.argv[1])["runs"]:
            play(**each)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
