"""The hosts of this environment, by group; every value is in `site.toml` beside this file."""

from roles.common.inventory import groups

globals().update(groups(__file__))
