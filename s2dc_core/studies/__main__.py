"""``python -m s2dc_core.studies NAME FOLDER``: train what FOLDER does not hold yet, measure, and write the record."""

import argparse
import sys
from collections.abc import Sequence

from s2dc_core.studies import STUDIES


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m s2dc_core.studies", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, study in STUDIES.items():
        study.add_to(commands.add_parser(name, help=study.about, description=study.about))
    options = parser.parse_args(arguments)
    try:
        STUDIES[options.name].run(options)
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
