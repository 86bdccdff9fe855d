#!/usr/bin/env python
"""Django's command line."""

import os
import sys


def main() -> None:
    # It asks a Parley elsewhere, and shall run where there are no settings of one.
    settings = "config.bare" if sys.argv[1:2] == ["loadtest"] else "config.settings"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", settings)
    if sys.argv[1:2] == ["init"]:
        # It makes the settings that every other command needs in order to begin.
        from apps.ops import first_start
        from config import env

        first_start.prepare(sys.argv[2:], read_files=env.read_files)
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
