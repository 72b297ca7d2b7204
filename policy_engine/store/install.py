"""`python -m policy_engine.store.install URL`: makes or migrates the schema and the roles of a PostgreSQL database.

Run by an administrator of the server, or by a member of policy_engine_owner; the engine's own logins may not.
"""

from __future__ import annotations

import sys

from policy_engine.errors import PolicyEngineError
from policy_engine.store.migrate import install


def main(words: list[str]) -> int:
    """Install on the database that the one word names; say what is wrong on standard error and return 2."""
    if len(words) != 1:
        sys.stderr.write("name one database: python -m policy_engine.store.install postgresql://ADMIN@HOST/DATABASE\n")
        return 2
    try:
        install(words[0])
    except PolicyEngineError as refused:
        sys.stderr.write(f"{refused}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
