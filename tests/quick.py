"""Loaded before every plugin of pytest: leave out what takes longer to import than all of pytest.

`rfc3987_syntax` is an optional check of jsonschema for the format "iri", which no test needs; see
`lib.machine.session.import_papermill`.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # Python's documented way to block an import
