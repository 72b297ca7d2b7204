"""`python -m policy_engine_verify`."""

from __future__ import annotations

import sys

from policy_engine_verify.cli import main

sys.exit(main())
