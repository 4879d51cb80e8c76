"""What every role uses: the site's model, and the few operations that put things on a host.

`site` loads and validates an environment; `files`, `packages`, `services` and `users` are the
only ways in which a role changes a host; `secrets` and `settings` are the types of its input.
"""
