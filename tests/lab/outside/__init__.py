"""`outside1`: the rest of the Internet, as far as the lab needs it.

- DNS: authoritative for the site's domain, for a foreign mail domain and for the lab's reverse
  zone; anything else is asked of the machine's own resolver, so that packages can be fetched.
- A foreign mail domain, `site.lab.foreign_domain`: Postfix and Dovecot. It takes any address and
  keeps its mail in a mailbox of that name (IMAP, port 143, password `foreign.PASSWORD`), but for
  those in `foreign`, which answer otherwise. From the machine that runs the lab it takes mail for
  anyone: on port 587 to be sent as it should be, on port 2525 to be sent from an address that the
  domain's SPF record does not name.

It is not part of the product. Deploy it with `python -m tests.lab up`, or by itself:
`ENV=local pyinfra -y tests/lab/outside/inventory.py tests.lab.outside.outside`.
"""

from tests.lab.outside.deploy import outside

__all__ = ["outside"]
