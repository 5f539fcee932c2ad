"""``python -m factory`` is the ``factory`` command."""

import sys

from factory.cli.main import main

sys.exit(main())
