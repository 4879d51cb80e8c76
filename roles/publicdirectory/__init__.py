"""The public directory (article 8): pages at /danh-ba/ of the one public name, on every front.

A timer asks the directory, by a service account of its own, and writes plain files; nginx serves
them (role `webmail`). Where nothing changed nothing is written, and where the directory does not
answer the last pages stay. What runs on a host is Python's standard library and Jinja2:
`publish.py` and what it imports.
"""

from roles.publicdirectory.deploy import publicdirectory

__all__ = ["publicdirectory"]
