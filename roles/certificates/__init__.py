"""The role `certificates`: every host has a certificate, and the site's authority signs it.

The authority's key stays on the operator's machine. A host makes its own key, which never leaves
it; the operator's machine signs the public half.

What others may rely on, and what another issuer has to keep to:

* `/etc/site-tls/ca.pem`: the authorities that hosts trust among themselves; readable by all.
* `/etc/site-tls/cert.pem`: the host's certificate and what leads to its authority; readable by all.
* `/etc/site-tls/key.pem`: its key; 0640, group `site-tls`. A daemon that does not begin as root is
  put into that group by its role.
* `/etc/site-tls/reload.d/NAME`: an executable for each role that must act on a new certificate. It
  uses `systemctl try-reload-or-restart`, so that it does not start what shall not run.

`site-tls-reload.path` watches `cert.pem` and runs all of `reload.d`. So an ACME client that takes a
host over sets `issuer = "external"` for it and moves `key.pem`, then `cert.pem`, into place: each
with `mv` from beside, nothing else. With peers that verify the host, `further_authorities` names
the issuer's root.
"""

from roles.certificates.deploy import certificates

__all__ = ["certificates"]
