-- PostgreSQL only: how a subject is erased and old bodies are pruned, and the guards and rights of both.
-- Run by the role policy_engine_owner with the schema policy_engine as its search path.

-- Guards against mistakes, as in 0002. Rows of registers and data keys go only while `erase` runs.

CREATE FUNCTION refuse_unless_erasing() RETURNS trigger
LANGUAGE plpgsql SET search_path = policy_engine, pg_temp AS $$
BEGIN
    IF current_setting('policy_engine.erasing', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
        RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER only_erased BEFORE UPDATE OR DELETE ON data_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_unless_erasing('a data key goes only with an erasure');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON erased_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('erased_keys is append-only');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON pruned_ranges
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('pruned_ranges is append-only');

DO $$
DECLARE
    v_table text;
    v_message text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['persons', 'tenants', 'orders', 'switches', 'keys', 'approvals', 'releases'] LOOP
        v_message := 'rows of ' || v_table || ' stay with their revision';
        EXECUTE format('DROP TRIGGER never_gone ON %I', v_table);
        EXECUTE format(
            'CREATE TRIGGER never_gone BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse(%L)',
            v_table, v_message);
        EXECUTE format(
            'CREATE TRIGGER only_erased BEFORE DELETE ON %I FOR EACH STATEMENT EXECUTE FUNCTION'
            ' refuse_unless_erasing(%L)', v_table, v_message);
    END LOOP;
END $$;

-- Small parts; nobody but the owner may call them.

-- Returns the public part of an entry that this very transaction has written, and enters it as the one that erases.
CREATE FUNCTION removing_entry(p_log text, p_seq bigint, p_kind text) RETURNS json
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_public json;
BEGIN
    SELECT convert_from(e.public, 'UTF8')::json INTO v_public FROM entries e
        WHERE e.log_id = p_log AND e.seq = p_seq AND e.xmin = pg_current_xact_id()::xid;
    IF v_public IS NULL OR (v_public ->> 'kind') IS DISTINCT FROM p_kind
        OR EXISTS (SELECT 1 FROM erased_keys k WHERE k.log_id = p_log AND k.seq = p_seq)
        OR EXISTS (SELECT 1 FROM pruned_ranges r WHERE r.by_log = p_log AND r.by_seq = p_seq)
    THEN
        RAISE EXCEPTION 'nothing is erased or pruned without an entry of its own' USING ERRCODE = 'PE001';
    END IF;
    RETURN v_public;
END $$;

-- Empties bodies with their tags, in the log and in the index, and returns how many were not empty.
CREATE FUNCTION empty_bodies(p_logs text[], p_seqs bigint[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_logs text[];
    v_seqs bigint[];
    v_tags bytea[];
BEGIN
    SELECT coalesce(array_agg(b.log_id), '{}'), coalesce(array_agg(b.seq), '{}'), coalesce(array_agg(b.tags), '{}')
        INTO v_logs, v_seqs, v_tags
        FROM unnest(p_logs, p_seqs) AS p (log_id, seq)
        JOIN bodies b ON b.log_id = p.log_id AND b.seq = p.seq AND length(b.sealed) > 0;
    UPDATE bodies b SET sealed = '', tags = ''
        FROM unnest(v_logs, v_seqs) AS p (log_id, seq) WHERE b.log_id = p.log_id AND b.seq = p.seq;
    DELETE FROM tags t USING (
        SELECT substring(p.tags FROM n * 16 + 1 FOR 16) AS tag, p.log_id, p.seq
        FROM unnest(v_logs, v_seqs, v_tags) AS p (log_id, seq, tags)
        CROSS JOIN LATERAL generate_series(0, length(p.tags) / 16 - 1) AS n
    ) g WHERE t.tag = g.tag AND t.log_id = g.log_id AND t.seq = g.seq;
    RETURN cardinality(v_logs);
END $$;

-- For operators, behind `change` and in its transaction: what the entry says is gone, goes, and nothing else.

CREATE FUNCTION erase(
    p_log text, p_seq bigint, p_facts_revision bigint, p_body_logs text[], p_body_seqs bigint[],
    p_registers text[], p_ids text[], p_revisions bigint[], p_key_ids text[], p_wrapped bytea[]
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_public json := removing_entry(p_log, p_seq, 'erased');
    v_keys text[] := ARRAY(SELECT json_array_elements_text(v_public -> 'erases' -> 'keys'));
    v_count bigint;
    v_place integer;
BEGIN
    PERFORM set_config('policy_engine.erasing', pg_current_xact_id()::text, true);
    INSERT INTO erased_keys (key, log_id, seq, at, register, revision)
        SELECT k.key, p_log, p_seq, (v_public ->> 'at')::bigint, r.row ->> 0, (r.row ->> 2)::bigint
        FROM unnest(v_keys) AS k (key)
        LEFT JOIN json_array_elements(v_public -> 'erases' -> 'rows') AS r (row) ON r.row ->> 1 = k.key;
    SELECT count(*) INTO v_count FROM erased_keys k
        WHERE k.log_id = p_log AND k.seq = p_seq AND k.register IS NOT NULL;
    IF v_count <> json_array_length(v_public -> 'erases' -> 'rows') OR NOT p_key_ids <@ v_keys OR EXISTS (
        SELECT 1 FROM unnest(p_body_logs, p_body_seqs) AS p (log_id, seq)
        LEFT JOIN bodies b ON b.log_id = p.log_id AND b.seq = p.seq
        WHERE b.data_key IS NULL OR b.data_key <> ALL (v_keys))
    THEN
        RAISE EXCEPTION 'the entry does not say what shall be erased' USING ERRCODE = 'PE001';
    END IF;
    IF empty_bodies(p_body_logs, p_body_seqs) IS DISTINCT FROM (v_public -> 'erases' ->> 'bodies')::bigint THEN
        RAISE EXCEPTION 'the entry does not say how many bodies are erased' USING ERRCODE = 'PE001';
    END IF;
    DELETE FROM data_keys d WHERE d.id = ANY (v_keys);
    PERFORM add_data_keys(p_key_ids, p_wrapped);
    FOR v_place IN 1 .. cardinality(p_ids) LOOP
        IF p_registers[v_place] <> ALL (ARRAY['persons', 'tenants', 'orders', 'approvals']) OR NOT EXISTS (
            SELECT 1 FROM erased_keys k WHERE k.log_id = p_log AND k.seq = p_seq
            AND k.register = p_registers[v_place] AND k.revision = p_revisions[v_place])
        THEN
            RAISE EXCEPTION 'the entry names no such row' USING ERRCODE = 'PE001';
        END IF;
        EXECUTE format('DELETE FROM %I WHERE id = $1 AND revision = $2', p_registers[v_place])
            USING p_ids[v_place], p_revisions[v_place];
        GET DIAGNOSTICS v_count = ROW_COUNT;
        IF v_count <> 1 THEN
            RAISE EXCEPTION 'a row is not at the revision that is erased' USING ERRCODE = 'PE001';
        END IF;
    END LOOP;
    UPDATE state SET facts_revision = p_facts_revision
        WHERE p_facts_revision BETWEEN state.facts_revision AND state.facts_revision + 1;
    PERFORM set_config('policy_engine.erasing', '', true);
END $$;

CREATE FUNCTION prune(p_log text, p_seq bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_public json := removing_entry(p_log, p_seq, 'pruned');
    v_logs text[];
    v_seqs bigint[];
BEGIN
    INSERT INTO pruned_ranges (by_log, by_seq, log_id, first_seq, end_seq, at)
        SELECT p_log, p_seq, r.part ->> 0, (r.part ->> 1)::bigint, (r.part ->> 2)::bigint, (v_public ->> 'at')::bigint
        FROM json_array_elements(v_public -> 'prunes' -> 'ranges') AS r (part);
    IF EXISTS (
        SELECT 1 FROM pruned_ranges r JOIN batches b ON b.log_id = r.log_id
        AND b.first_seq < r.end_seq AND b.first_seq + b.n > r.first_seq
        WHERE r.by_log = p_log AND r.by_seq = p_seq
        AND header_at(b.header) >= (v_public -> 'prunes' ->> 'before')::bigint)
    THEN
        RAISE EXCEPTION 'a range holds entries that are not older than the entry says' USING ERRCODE = 'PE001';
    END IF;
    SELECT coalesce(array_agg(b.log_id), '{}'), coalesce(array_agg(b.seq), '{}') INTO v_logs, v_seqs
        FROM pruned_ranges r JOIN bodies b ON b.log_id = r.log_id AND b.seq >= r.first_seq AND b.seq < r.end_seq
        WHERE r.by_log = p_log AND r.by_seq = p_seq AND b.data_key IS NOT NULL;
    IF empty_bodies(v_logs, v_seqs) IS DISTINCT FROM (v_public -> 'prunes' ->> 'bodies')::bigint THEN
        RAISE EXCEPTION 'the entry does not say how many bodies are pruned' USING ERRCODE = 'PE001';
    END IF;
END $$;

-- Who may do what.

REVOKE ALL ON erased_keys, pruned_ranges FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA policy_engine FROM PUBLIC;
GRANT SELECT ON erased_keys, pruned_ranges
    TO policy_engine_writer, policy_engine_operator, policy_engine_sequencer, policy_engine_auditor;
GRANT EXECUTE ON FUNCTION
    erase(text, bigint, bigint, text[], bigint[], text[], text[], bigint[], text[], bytea[]),
    prune(text, bigint)
    TO policy_engine_operator;
