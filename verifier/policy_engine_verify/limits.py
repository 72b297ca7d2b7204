"""Every limit of the verifier, in one place, with its unit as the last word. Beyond one of them, nothing is read."""

from __future__ import annotations

from typing import Final

ARCHIVE_RATIO_TIMES: Final = 200
"""How many times larger than its compressed bytes a member of a .zip may be: real ones reach 20, bombs 1,000."""
DIRECTORY_BYTES: Final = 67_108_864
"""The directory of a .zip, which is read whole."""
MEMBERS_COUNT: Final = 200_000
LINE_BYTES: Final = 16_777_216
"""One entry, leaf, ciphertext or opened body."""
CHUNK_BYTES: Final = 65_536
"""What is read at a time of each file that is open: few openings, and its lines stay in a near cache."""
SMALL_BYTES: Final = 16_777_216
"""The manifest; one stored file of a release may be eight times as large."""
NOTE_BYTES: Final = 262_144
NOTE_SIGNATURES_COUNT: Final = 64
CHECKPOINT_LINES_COUNT: Final = 32
KEY_NAME_BYTES: Final = 255
LEAF_BYTES: Final = 65_535
BATCH_ENTRIES_COUNT: Final = 65_536
PROOF_BYTES: Final = 524_288
PROOF_HASHES_COUNT: Final = 64
PROOF_EXTRA_BYTES: Final = 65_536
RECEIPT_BYTES: Final = 65_536
KEPT_BYTES: Final = 268_435_456
"""The receipts and proofs in a bundle, all together: they wait in memory for their batches."""
ANSWER_BYTES: Final = 1_048_576
"""A file that holds a receipt, or a whole answer with one in it."""
NESTING_LEVELS: Final = 64
WHOLE_NUMBER_MAX: Final = 2**53 - 1
SIZE_MAX: Final = 2**63 - 1
FINDINGS_COUNT: Final = 1_000
"""Findings that are listed; checking stops there, for no log is that wrong by accident."""
