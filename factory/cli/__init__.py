"""The ``factory`` command: parsers in ``main``, the work of its verbs in the files beside it."""
