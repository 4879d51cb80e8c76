"""Unit tests are the same whatever lab the shell that runs them has chosen."""

import os

# Before any test's module is imported: some read an environment then.
for _name in ("ENV", "LAB_INSTANCE", "LAB_SETTINGS"):
    os.environ.pop(_name, None)
