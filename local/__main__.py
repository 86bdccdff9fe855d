"""The command line behind `make up` and `make down`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from local.home import LocalError, open_home
from local.stack import down, up, up_detached


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m local", description="Parley with everything it needs, on this machine."
    )
    parser.add_argument("deed", choices=("up", "down"))
    parser.add_argument("--detach", action="store_true", help="return once it is ready; logs go to var/log/parley.log")
    parser.add_argument("--port", default=os.environ.get("PORT") or "8000")
    parser.add_argument("--home", type=Path, default=Path(os.environ.get("PARLEY_HOME") or "var"))
    arguments = parser.parse_args()
    try:
        home = open_home(arguments.home)
        if arguments.deed == "down":
            down(home)
        elif arguments.detach:
            up_detached(home, _port(arguments.port))
        else:
            up(home, _port(arguments.port))
    except LocalError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped before it was ready.", file=sys.stderr)
        return 130
    return 0


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65536:
        raise LocalError(f"PORT must be a number from 1 to 65535, but is {text!r}.")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
