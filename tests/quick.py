"""Loaded before every plugin of pytest: make it start quickly.

`rfc3987_syntax` is an optional check of jsonschema for the format "iri", which no test needs; see
`lib.machine.session.import_papermill`. Tests are compiled once, whatever the shell says: with
`PYTHONDONTWRITEBYTECODE`, which some images set, every process compiles all of them each time.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # Python's documented way to block an import
sys.dont_write_bytecode = False
