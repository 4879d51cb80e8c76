"""The role `filtering`: no letter passes unscanned, and what users call spam is learnt.

On an `mx` MIMEDefang is Postfix's milter: clamd first, then SpamAssassin, preloaded in MIMEDefang's
own workers. Whatever fails (clamd, SpamAssassin, a time-out, MIMEDefang itself) the sender is told
to try again; only the Bayes store may be away, for the other rules still judge. A refusal is said
while the sender waits, and a letter that passes is never rebuilt: headers are added on top of it.

On a `store` the letters that users move into or out of Junk are learnt into the Bayes store, which
all hosts share: PostgreSQL on the first host of the group `database`.
"""

from roles.filtering.deploy import filtering

__all__ = ["filtering"]
