#!/usr/bin/env python
"""Django's command line."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if sys.argv[1:2] == ["init"]:
        # It makes the settings that every other command needs in order to begin.
        from apps.ops import first_start
        from config import env

        first_start.prepare(sys.argv[2:], read_files=env.read_files)
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
