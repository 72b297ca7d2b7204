"""Every limit of the engine, in one place, with its unit as the last word of its name.

What a limit refuses is refused with a sentence that names the limit. Nothing here is read from the environment;
whoever needs another limit passes another `Limits`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what is accepted, kept and waited for."""

    body_bytes: int = 65_536
    json_depth_levels: int = 32
    json_members_count: int = 5_000
    text_characters: int = 1_024
    id_characters: int = 256
    request_id_characters: int = 256
    evaluations_count: int = 256
    list_items_count: int = 1_000
    document_bytes: int = 1_048_576
    pack_bytes: int = 4_194_304
    table_bytes: int = 33_554_432
    remembered_bytes: int = 16_777_216
    policy_bytes: int = 33_554_432
    policy_line_characters: int = 4_096
    release_bytes: int = 134_217_728
    rules_count: int = 200_000
    annex_names_count: int = 10_000
    chain_entities_count: int = 8
    lineage_models_count: int = 64
    import_rows_count: int = 100_000
    rows_per_entry_count: int = 256
    batch_entries_count: int = 256
    queue_entries_count: int = 4_096
    answer_seconds: float = 1.0
    stale_seconds: float = 1.0
    valid_for_milliseconds: int = 2_000
    beat_seconds: float = 0.2
    heartbeat_seconds: float = 1.0
    cut_off_seconds: float = 0.8
    silent_seconds: float = 3.0
    gone_seconds: float = 5.0
    withdrawal_wait_seconds: float = 90.0
    withdrawal_http_seconds: float = 15.0
    withdrawal_waits_count: int = 8
    search_candidates_count: int = 10_000
    search_page_candidates_count: int = 2_000
    search_page_count: int = 1_000
    search_token_characters: int = 2_048
    searches_count: int = 16
    query_rows_count: int = 1_000
    question_characters: int = 2_000
    question_terms_count: int = 64
    question_values_count: int = 64
    looked_entries_count: int = 50_000
    merged_labels_count: int = 4_096
    proposal_days: int = 7
    drill_days: int = 31
    preview_days: int = 366
    preview_decisions_count: int = 100_000
    preview_candidates_count: int = 100_000
    preview_rows_count: int = 10_000
    erased_bodies_count: int = 1_000_000
    pruned_bodies_count: int = 1_000_000
    pruned_ranges_count: int = 10_000
    scrubbed_bytes: int = 268_435_456
    analysis_steps_count: int = 5_000_000
    analysis_rule_steps_count: int = 200_000
    regex_characters: int = 16_384
    regex_states_count: int = 1_000
    regex_repeat_count: int = 1_000
    regex_steps_count: int = 100_000
    regex_moves_count: int = 50_000
    glob_characters: int = 4_096
    pattern_memory_bytes: int = 33_554_432
    note_bytes: int = 262_144
    note_signatures_count: int = 64
    key_name_bytes: int = 255
    checkpoint_lines_count: int = 32
    proof_file_bytes: int = 524_288
    proof_extra_bytes: int = 65_536
    proof_hashes_count: int = 64
    receipt_bytes: int = 65_536
    integrate_seconds: float = 0.5
    integrate_idle_seconds: float = 5.0
    integrate_leaves_count: int = 1_024
    abandon_seconds: float = 60.0
    witnesses_count: int = 16
    witness_answer_bytes: int = 65_536
    witness_seconds: float = 5.0
    witness_start_seconds: float = 3.0
    witness_check_seconds: float = 30.0
    witness_retry_seconds: float = 60.0
    sheet_rows_count: int = 1_048_576
    sheet_cell_characters: int = 32_767
    analytics_memory_bytes: int = 268_435_456
    small_group_decisions_count: int = 10
    report_days: int = 3_660
    keyed_decisions_count: int = 2_000_000
    revocation_poll_seconds: float = 0.1
    revocation_heartbeat_seconds: float = 1.0
    revocation_send_seconds: float = 5.0
    revocation_stream_seconds: float = 3_600.0
    revocation_retry_milliseconds: int = 1_000
    revocation_streams_count: int = 256
    revocation_key_streams_count: int = 64
    revocation_queue_events_count: int = 256
    revocation_missed_epochs_count: int = 1_000
    revocation_looked_entries_count: int = 20_000
    cells_count: int = 16
    cell_answer_bytes: int = 8_388_608
    cell_orders_count: int = 20_000
    cell_seconds: float = 5.0
    cell_look_seconds: float = 0.1
    cell_ask_seconds: float = 1.0
    cell_unconfirmed_seconds: float = 10.0
    guarded_depth_levels: int = 256
    guarded_prefix_bytes: int = 8_388_608
    hold_seconds: float = 0.1
    hold_recheck_seconds: float = 1.0
    remote_seconds: float = 2.0
    remote_answer_bytes: int = 4_194_304
    remote_connections_count: int = 64
    remote_failures_count: int = 3
    remote_pause_seconds: float = 0.5
    remote_long_pause_seconds: float = 10.0
    remote_pages_count: int = 256
    remote_look_seconds: float = 0.05
    remote_recheck_seconds: float = 0.5
    guarded_body_seconds: float = 30.0
    guarded_end_seconds: float = 5.0
    guarded_listing_bytes: int = 4_194_304
    form_parts_count: int = 256
    form_head_bytes: int = 4_096
    token_bytes: int = 8_192
    tokens_kept_count: int = 1_024
    jwks_bytes: int = 262_144
    jwks_keys_count: int = 64
    jwks_seconds: float = 5.0
    jwks_pause_seconds: float = 10.0
    jwks_fresh_seconds: float = 300.0
    jwks_stale_seconds: float = 3_600.0
    checked_body_bytes: int = 1_048_576
    grpc_connections_count: int = 256
    grpc_streams_count: int = 1_024
    grpc_resets_count: int = 2_000
    grpc_headers_bytes: int = 65_536
    grpc_head_bytes: int = 262_144
    grpc_stranger_bytes: int = 65_536
    grpc_received_bytes: int = 16_777_216
    grpc_unsent_bytes: int = 4_194_304
    grpc_arrive_seconds: float = 10.0


LIMITS = Limits()
