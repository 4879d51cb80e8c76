"""The role `base`: what every host has, whatever it serves.

Names and resolvers, the sources of packages, the operators' accounts, SSH by key alone, the
firewall (`roles.base.firewall`: who may connect to what), the clock, security upgrades, the journal
and the kernel's parameters.
"""

from roles.base.deploy import base

__all__ = ["base"]
