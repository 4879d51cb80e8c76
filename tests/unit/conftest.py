"""Unit tests are the same whatever lab the shell has chosen, and however slow the machine is."""

import os

from hypothesis import HealthCheck, settings

# Before any test's module is imported: some read an environment then.
for _name in ("ENV", "LAB_INSTANCE", "LAB_SETTINGS"):
    os.environ.pop(_name, None)

# They run beside labs that are being deployed.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
