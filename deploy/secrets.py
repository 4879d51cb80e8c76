"""Makes or completes an environment's secrets: `python -m deploy.secrets production`.

What is there stays; what is missing is generated; what nothing uses any more is left out; the
result is encrypted to the recipients in `inventories/ENV/recipients.txt`. To rotate one, remove its
line with `age` and run this again.
"""

import argparse
import sys

from roles.common import secrets as secret_files
from roles.common.errors import SiteError
from roles.common.secrets import Secrets
from roles.common.site import ROOT, read_document


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, generate, encrypt."""
    parser = argparse.ArgumentParser(prog="python -m deploy.secrets", description=__doc__)
    parser.add_argument("environment", help="a folder in inventories/")
    options = parser.parse_args(arguments)
    try:
        folder = ROOT / "inventories" / options.environment
        if "lab" in read_document(folder / "site.toml"):
            print(f"{options.environment}: a lab makes its own secrets")
            return 0
        known = secret_files.load(folder, None, complete=True) or Secrets()
        print(f"{secret_files.encrypt(folder, known).relative_to(ROOT)}: written")
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
