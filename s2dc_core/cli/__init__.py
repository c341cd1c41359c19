"""The command `s2dc`: data, pre-training, fine-tuning, evaluation, features and weights from a terminal or a script."""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence

from s2dc_core.cli import data, evaluate, features, finetune, pretrain, weights
from s2dc_core.cli.assignments import gather_words
from s2dc_core.training import StoppedElsewhere


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; what the user got wrong is one line on stderr, with the error's notes below, and exit code 2."""
    parser = argparse.ArgumentParser(prog="s2dc", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    pretrain.add_to(commands)
    finetune.add_to(commands)
    evaluate.add_to(commands)
    features.add_to(commands)
    weights.add_to(commands)
    data.add_to(commands)
    options, left = parser.parse_known_args(arguments)
    gather_words(parser, options, left)
    options.line = shlex.join(["s2dc", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        return options.command(options)
    except (ValueError, FloatingPointError, OSError, StoppedElsewhere) as error:
        said = "\n".join([f"s2dc: {error}", *getattr(error, "__notes__", [])])
        print(said.replace("resume=True", "--resume"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
