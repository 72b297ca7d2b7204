-- PostgreSQL only: the fence, the functions through which everything is written, the guards, and who may do what.
-- Run by the role policy_engine_owner with the schema policy_engine as its search path.

CREATE TABLE fence (
    id integer PRIMARY KEY CHECK (id = 1),
    changed_at bigint NOT NULL
);
COMMENT ON TABLE fence IS 'When the last change was made: no entry under it is earlier, and no change before it later.';
INSERT INTO fence (id, changed_at) VALUES (1, 0);

-- Guards against mistakes. The owner could take them away; that is what verifying and checkpoints are for.

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = policy_engine, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE FUNCTION refuse_unless_emptied() RETURNS trigger LANGUAGE plpgsql SET search_path = policy_engine, pg_temp AS $$
BEGIN
    IF NEW.log_id IS DISTINCT FROM OLD.log_id OR NEW.seq IS DISTINCT FROM OLD.seq
        OR NEW.data_key IS DISTINCT FROM OLD.data_key OR length(NEW.sealed) <> 0 OR length(NEW.tags) <> 0
    THEN
        RAISE EXCEPTION 'bodies may only be emptied' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION refuse_while_sealed() RETURNS trigger LANGUAGE plpgsql SET search_path = policy_engine, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM bodies b WHERE b.log_id = OLD.log_id AND b.seq = OLD.seq AND length(b.sealed) > 0) THEN
        RAISE EXCEPTION 'tags go only with their body' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN OLD;
END $$;

CREATE FUNCTION refuse_going_back() RETURNS trigger LANGUAGE plpgsql SET search_path = policy_engine, pg_temp AS $$
BEGIN
    IF NEW.epoch < OLD.epoch OR NEW.facts_revision < OLD.facts_revision THEN
        RAISE EXCEPTION 'the epoch never decreases' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION refuse_shortening() RETURNS trigger LANGUAGE plpgsql SET search_path = policy_engine, pg_temp AS $$
BEGIN
    IF NEW.log_id IS DISTINCT FROM OLD.log_id OR NEW.next_seq < OLD.next_seq OR NEW.next_batch < OLD.next_batch
        OR NEW.last_at < OLD.last_at
    THEN
        RAISE EXCEPTION 'a log never becomes shorter' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('entries is append-only');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON batches
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('batches is append-only');
CREATE TRIGGER only_emptied BEFORE UPDATE ON bodies FOR EACH ROW EXECUTE FUNCTION refuse_unless_emptied();
CREATE TRIGGER never_gone BEFORE DELETE OR TRUNCATE ON bodies
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('bodies may only be emptied');
CREATE TRIGGER with_their_body BEFORE DELETE ON tags FOR EACH ROW EXECUTE FUNCTION refuse_while_sealed();
CREATE TRIGGER never_changed BEFORE UPDATE OR TRUNCATE ON tags
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('tags go only with their body');
CREATE TRIGGER only_grows BEFORE UPDATE ON state FOR EACH ROW EXECUTE FUNCTION refuse_going_back();
CREATE TRIGGER never_gone BEFORE DELETE OR TRUNCATE ON state
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('the state row stays');
CREATE TRIGGER only_grows BEFORE UPDATE ON heads FOR EACH ROW EXECUTE FUNCTION refuse_shortening();
CREATE TRIGGER never_gone BEFORE DELETE OR TRUNCATE ON heads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('the head of a log stays');

DO $$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['persons', 'tenants', 'orders', 'switches', 'keys', 'approvals', 'releases'] LOOP
        EXECUTE format(
            'CREATE TRIGGER never_gone BEFORE DELETE OR TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse(%L)',
            v_table, 'rows of ' || v_table || ' stay with their revision');
    END LOOP;
    FOREACH v_table IN ARRAY ARRAY['data_keys', 'blobs', 'fence'] LOOP
        EXECUTE format(
            'CREATE TRIGGER never_emptied BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse(%L)',
            v_table, v_table || ' is never emptied');
    END LOOP;
END $$;

-- Small parts of the functions below; nobody but the owner may call them, so they need no search path of their own.
-- They are PL/pgSQL because that keeps its plans between calls.

CREATE FUNCTION clock(p_given bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_given IS NOT NULL THEN
        RAISE EXCEPTION 'the clock of this database is not to be set' USING ERRCODE = 'PE001';
    END IF;
    RETURN floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
END $$;

CREATE FUNCTION header_at(p_header bytea) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (convert_from(p_header, 'UTF8')::json ->> 'at')::bigint;
END $$;

CREATE INDEX batches_by_at ON batches (header_at(header), log_id);

-- Under another isolation level the state would be read as it was before the lock; without these settings a commit
-- that returned would not be durable. The lock of a log waits for whatever session wrote to it last.
CREATE FUNCTION enter_log(p_log text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'entries are written in read committed transactions' USING ERRCODE = 'PE001';
    END IF;
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') OR current_setting('fsync') <> 'on'
        OR current_setting('full_page_writes') <> 'on'
    THEN
        RAISE EXCEPTION 'this server or session does not make commits durable' USING ERRCODE = 'PE003';
    END IF;
    IF p_log IS NULL OR p_log !~ '^[0-9a-f]{16}$' THEN
        RAISE EXCEPTION 'the id of a log is 16 hex digits' USING ERRCODE = 'PE001';
    END IF;
    PERFORM pg_advisory_xact_lock(28774, hashtext(p_log));
END $$;

CREATE FUNCTION live_revision(p_register text, p_id text) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce(CASE p_register
        WHEN 'persons' THEN (SELECT revision FROM persons WHERE id = p_id AND document IS NOT NULL)
        WHEN 'tenants' THEN (SELECT revision FROM tenants WHERE id = p_id AND document IS NOT NULL)
        WHEN 'orders' THEN (SELECT revision FROM orders WHERE id = p_id AND document IS NOT NULL)
        WHEN 'switches' THEN (SELECT revision FROM switches WHERE id = p_id AND document IS NOT NULL)
        WHEN 'keys' THEN (SELECT revision FROM keys WHERE id = p_id AND document IS NOT NULL)
        WHEN 'approvals' THEN (SELECT revision FROM approvals WHERE id = p_id AND document IS NOT NULL)
        WHEN 'releases' THEN (SELECT revision FROM releases WHERE id = p_id AND document IS NOT NULL)
    END, 0);
END $$;

CREATE FUNCTION add_data_keys(p_ids text[], p_wrapped bytea[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO data_keys (id, wrapped)
    SELECT DISTINCT ON (k.id) k.id, k.wrapped
    FROM unnest(p_ids, p_wrapped) WITH ORDINALITY AS k (id, wrapped, place)
    ORDER BY k.id, k.place  -- two writers that bring the same keys wait for each other, never in a circle
    ON CONFLICT (id) DO NOTHING;
END $$;

-- The one place where entries, bodies and headers are inserted. The hash of every leaf is computed here.
CREATE FUNCTION write_batch(
    p_header bytea, p_public bytea[], p_seqs bigint[], p_keys text[], p_sealed bytea[], p_tags bytea[],
    p_epoch bigint, p_release text, p_from bigint, p_now bigint
) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_header json := convert_from(p_header, 'UTF8')::json;
    v_log text := v_header ->> 'log';
    v_batch bigint := (v_header ->> 'batch')::bigint;
    v_first bigint := (v_header ->> 'first')::bigint;
    v_at bigint := (v_header ->> 'at')::bigint;
    v_count integer := cardinality(p_public);
    v_hash text := encode(sha256('\x00'::bytea || p_header), 'hex');
    v_head heads%ROWTYPE;
BEGIN
    SELECT * INTO v_head FROM heads WHERE heads.log_id = v_log;
    IF NOT FOUND THEN
        v_head := ROW(v_log, 0, 0, repeat('0', 64), 0, 0);
    END IF;
    IF v_batch IS DISTINCT FROM v_head.next_batch OR v_first IS DISTINCT FROM v_head.next_seq
        OR (v_header ->> 'prev') IS DISTINCT FROM v_head.head_hash
    THEN
        RAISE EXCEPTION 'the head of the log is not the one that was read' USING ERRCODE = 'PE002';
    END IF;
    IF (v_header ->> 'n')::integer IS DISTINCT FROM v_count OR (v_header ->> 'epoch')::bigint IS DISTINCT FROM p_epoch
        OR (v_header ->> 'release') IS DISTINCT FROM p_release
    THEN
        RAISE EXCEPTION 'the header does not say what is written under it' USING ERRCODE = 'PE001';
    END IF;
    IF v_at IS NULL OR v_at < p_from OR v_at > greatest(p_now, p_from) THEN
        RAISE EXCEPTION 'the instant of the batch is not that of the database' USING ERRCODE = 'PE001';
    END IF;
    IF EXISTS (SELECT 1 FROM unnest(p_seqs) AS s (seq) WHERE s.seq < v_first OR s.seq >= v_first + v_count) THEN
        RAISE EXCEPTION 'a body belongs to no entry of its batch' USING ERRCODE = 'PE001';
    END IF;
    INSERT INTO entries (log_id, seq, public, leaf)
        SELECT v_log, v_first + e.place - 1, e.public, sha256('\x00'::bytea || e.public)
        FROM unnest(p_public) WITH ORDINALITY AS e (public, place);
    INSERT INTO bodies (log_id, seq, data_key, sealed, tags)
        SELECT v_log, b.seq, b.data_key, b.sealed, b.tags
        FROM unnest(p_seqs, p_keys, p_sealed, p_tags) AS b (seq, data_key, sealed, tags);
    INSERT INTO batches (log_id, batch_no, first_seq, n, header, hash)
        VALUES (v_log, v_batch, v_first, v_count, p_header, v_hash);
    IF v_batch = 0 THEN
        INSERT INTO heads (log_id, next_seq, next_batch, head_hash, last_at, tagged)
            VALUES (v_log, v_count, 1, v_hash, v_at, 0);
    ELSE
        UPDATE heads SET next_seq = v_first + v_count, next_batch = v_batch + 1, head_hash = v_hash, last_at = v_at
            WHERE heads.log_id = v_log;
    END IF;
END $$;

-- What a transaction finds, behind its locks: the state, the clock, the instant that entries get, and the head.
CREATE FUNCTION moment(p_log text, p_now bigint, p_from bigint) RETURNS TABLE (
    epoch bigint, release text, facts_revision bigint, sample integer, now bigint, at bigint,
    next_seq bigint, next_batch bigint, head_hash text, last_at bigint, tagged bigint
)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT s.epoch, s.release, s.facts_revision, s.sample, p_now, greatest(p_now, p_from),
        coalesce(h.next_seq, 0), coalesce(h.next_batch, 0), coalesce(h.head_hash, repeat('0', 64)),
        coalesce(h.last_at, 0), coalesce(h.tagged, 0)
    FROM state s LEFT JOIN heads h ON h.log_id = p_log;
END $$;

CREATE FUNCTION earliest_entry(p_log text) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (SELECT greatest(f.changed_at, (SELECT h.last_at FROM heads h WHERE h.log_id = p_log)) FROM fence f);
END $$;

CREATE FUNCTION earliest_change() RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (SELECT greatest(f.changed_at, (SELECT max(h.last_at) FROM heads h)) + 1 FROM fence f);
END $$;

-- For writers.

CREATE FUNCTION begin_batch(p_log text, p_given bigint, p_key_ids text[], p_wrapped bytea[]) RETURNS TABLE (
    epoch bigint, release text, facts_revision bigint, sample integer, now bigint, at bigint,
    next_seq bigint, next_batch bigint, head_hash text, last_at bigint, tagged bigint, stored bytea[]
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_now bigint;
    v_stored bytea[] := '{}';
BEGIN
    PERFORM enter_log(p_log);
    PERFORM pg_advisory_xact_lock_shared(28773, 1);
    v_now := clock(p_given);
    IF cardinality(p_key_ids) > 0 THEN
        PERFORM add_data_keys(p_key_ids, p_wrapped);
        v_stored := ARRAY(
            SELECT d.wrapped FROM unnest(p_key_ids) WITH ORDINALITY AS k (id, place)
            JOIN data_keys d ON d.id = k.id ORDER BY k.place);
    END IF;
    RETURN QUERY SELECT m.*, v_stored FROM moment(p_log, v_now, earliest_entry(p_log)) m;
END $$;

-- The fence. The lock is a statement of its own, before the state is read: what is read cannot move until the commit.
CREATE FUNCTION append(
    p_given bigint, p_window bigint, p_header bytea, p_public bytea[],
    p_seqs bigint[], p_keys text[], p_sealed bytea[], p_tags bytea[],
    p_allows boolean[], p_instants bigint[], p_untils bigint[], p_facts bigint[],
    p_rest_places integer[], p_rest_registers text[], p_rest_ids text[], p_rest_revisions bigint[]
) RETURNS TABLE (place integer, reason text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_header json := convert_from(p_header, 'UTF8')::json;
    v_log text := v_header ->> 'log';
    v_count integer := cardinality(p_public);
    v_window bigint := least(p_window, 1000000);
    v_from bigint;
    v_now bigint;
    v_state state%ROWTYPE;
BEGIN
    PERFORM enter_log(v_log);
    PERFORM pg_advisory_xact_lock_shared(28773, 1);
    v_now := clock(p_given);
    SELECT * INTO STRICT v_state FROM state;
    v_from := earliest_entry(v_log);
    IF v_count IS DISTINCT FROM cardinality(p_allows) OR v_count IS DISTINCT FROM cardinality(p_instants)
        OR v_count IS DISTINCT FROM cardinality(p_untils) OR v_count IS DISTINCT FROM cardinality(p_facts)
        OR array_position(p_allows, NULL) IS NOT NULL OR array_position(p_instants, NULL) IS NOT NULL
        OR array_position(p_untils, NULL) IS NOT NULL OR array_position(p_facts, NULL) IS NOT NULL
        OR v_count = 0 OR v_count > 256
    THEN
        RAISE EXCEPTION 'what a batch rests on is not said for each of its entries' USING ERRCODE = 'PE001';
    END IF;
    IF (v_header ->> 'epoch')::bigint IS DISTINCT FROM v_state.epoch
        OR (v_header ->> 'release') IS DISTINCT FROM v_state.release
    THEN
        RETURN QUERY SELECT n, 'epoch'::text FROM generate_series(0, v_count - 1) AS n;
        RETURN;
    END IF;
    RETURN QUERY
        SELECT found.place, found.reason FROM (
            SELECT (d.n - 1)::integer AS place, CASE
                WHEN d.until <= v_now THEN 'boundary'
                WHEN d.allows AND (v_now < v_from - v_window OR abs(v_now - d.instant) > v_window) THEN 'clock'
                WHEN d.facts <> v_state.facts_revision AND EXISTS (
                    SELECT 1 FROM unnest(p_rest_places, p_rest_registers, p_rest_ids, p_rest_revisions)
                        AS r (n, register, id, revision)
                    WHERE r.n = d.n - 1 AND live_revision(r.register, r.id) IS DISTINCT FROM r.revision
                ) THEN 'facts'
            END AS reason
            FROM unnest(p_allows, p_instants, p_untils, p_facts) WITH ORDINALITY AS d (allows, instant, until, facts, n)
        ) AS found WHERE found.reason IS NOT NULL;
    IF FOUND THEN
        RETURN;
    END IF;
    PERFORM write_batch(
        p_header, p_public, p_seqs, p_keys, p_sealed, p_tags, v_state.epoch, v_state.release, v_from, v_now);
END $$;

-- For whoever does not know what became of a commit: waits for the session that made it, and commits something itself,
-- so that whatever it finds is as durable as this transaction.
CREATE FUNCTION settle(p_log text) RETURNS TABLE (
    next_seq bigint, next_batch bigint, head_hash text, last_at bigint, tagged bigint
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
BEGIN
    PERFORM enter_log(p_log);
    UPDATE heads SET tagged = heads.tagged WHERE heads.log_id = p_log;
    RETURN QUERY
        SELECT h.next_seq, h.next_batch, h.head_hash, h.last_at, h.tagged FROM heads h WHERE h.log_id = p_log;
END $$;

-- The index of tags is filled behind the commits; what a crash takes of it is put there again, so it need not be synced.
-- Logs that nobody has written to for a minute are looked after by whoever has time.
CREATE FUNCTION index_tags(p_log text, p_count bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_quiet bigint := floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint - 60000000;
    v_head heads%ROWTYPE;
    v_end bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT * INTO v_head FROM heads h
        WHERE h.tagged < h.next_seq AND (h.log_id = p_log OR h.last_at < v_quiet)
        ORDER BY h.log_id = p_log DESC, h.last_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        v_end := least(v_head.tagged + p_count, v_head.next_seq);
        INSERT INTO tags (tag, log_id, seq)
            SELECT DISTINCT substring(b.tags FROM t.n * 16 + 1 FOR 16), b.log_id, b.seq
            FROM bodies b CROSS JOIN LATERAL generate_series(0, length(b.tags) / 16 - 1) AS t (n)
            WHERE b.log_id = v_head.log_id AND b.seq >= v_head.tagged AND b.seq < v_end
            ORDER BY 1, 2, 3
            ON CONFLICT DO NOTHING;
        UPDATE heads SET tagged = v_end WHERE heads.log_id = v_head.log_id;
    END IF;
    RETURN (
        SELECT coalesce(sum(h.next_seq - h.tagged), 0)::bigint FROM heads h
        WHERE h.tagged < h.next_seq AND (h.log_id = p_log OR h.last_at < v_quiet));
END $$;

-- For operators.

CREATE FUNCTION begin_change(p_log text, p_given bigint) RETURNS TABLE (
    epoch bigint, release text, facts_revision bigint, sample integer, now bigint, at bigint,
    next_seq bigint, next_batch bigint, head_hash text, last_at bigint, tagged bigint
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
BEGIN
    PERFORM enter_log(p_log);
    PERFORM pg_advisory_xact_lock(28773, 1);
    RETURN QUERY SELECT m.* FROM moment(p_log, clock(p_given), earliest_change()) m;
END $$;

CREATE FUNCTION put_rows(
    p_log text, p_registers text[], p_ids text[], p_was bigint[], p_revisions bigint[], p_documents text[],
    p_salts bytea[], p_seqs bigint[], p_items integer[]
) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_rows CONSTANT text := 'unnest($2, $3, $4, $5, $6, $7, $8, $9)'
        ' AS w (register, id, was, revision, document, salt, seq, item)';
    v_register text;
    v_typed text[];
    v_names text;
    v_values text;
    v_sets text;
    v_count bigint;
    v_written bigint := 0;
BEGIN
    FOREACH v_register IN ARRAY ARRAY['persons', 'tenants', 'orders', 'switches', 'keys', 'approvals', 'releases'] LOOP
        CONTINUE WHEN v_register <> ALL (p_registers);
        v_typed := CASE v_register
            WHEN 'keys' THEN ARRAY['hash'] WHEN 'approvals' THEN ARRAY['status', 'proposed_by', 'decided_by']
            ELSE '{}' END;
        SELECT coalesce(string_agg(format(', %I', t.name), ''), ''),
            coalesce(string_agg(format(', w.document::json ->> %L', t.name), ''), ''),
            coalesce(string_agg(format(', %I = w.document::json ->> %L', t.name, t.name), ''), '')
            INTO v_names, v_values, v_sets FROM unnest(v_typed) AS t (name);
        EXECUTE format(
            'UPDATE %1$I t SET revision = w.revision, document = w.document, salt = w.salt, log_id = $1, seq = w.seq,'
            ' item = w.item %2$s FROM %3$s WHERE w.register = %1$L AND w.was > 0 AND t.id = w.id'
            ' AND t.revision = w.was AND w.revision > w.was', v_register, v_sets, v_rows)
            USING p_log, p_registers, p_ids, p_was, p_revisions, p_documents, p_salts, p_seqs, p_items;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        v_written := v_written + v_count;
        EXECUTE format(
            'INSERT INTO %1$I (id, revision, document, salt, log_id, seq, item %2$s) SELECT w.id, w.revision,'
            ' w.document, w.salt, $1, w.seq, w.item %3$s FROM %4$s WHERE w.register = %1$L AND w.was = 0',
            v_register, v_names, v_values, v_rows)
            USING p_log, p_registers, p_ids, p_was, p_revisions, p_documents, p_salts, p_seqs, p_items;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        v_written := v_written + v_count;
    END LOOP;
    RETURN v_written;
END $$;

CREATE FUNCTION change(
    p_given bigint, p_header bytea, p_public bytea[],
    p_seqs bigint[], p_keys text[], p_sealed bytea[], p_tags bytea[],
    p_was_epoch bigint, p_facts_revision bigint, p_sample integer,
    p_key_ids text[], p_wrapped bytea[], p_blob_hashes text[], p_blobs bytea[],
    p_registers text[], p_ids text[], p_was bigint[], p_revisions bigint[], p_documents text[],
    p_salts bytea[], p_row_seqs bigint[], p_row_items integer[]
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_header json := convert_from(p_header, 'UTF8')::json;
    v_log text := v_header ->> 'log';
    v_epoch bigint := (v_header ->> 'epoch')::bigint;
    v_release text := v_header ->> 'release';
    v_at bigint := (v_header ->> 'at')::bigint;
    v_now bigint;
    v_facts boolean := p_registers && ARRAY['persons', 'tenants'];
    v_state state%ROWTYPE;
BEGIN
    PERFORM enter_log(v_log);
    PERFORM pg_advisory_xact_lock(28773, 1);
    v_now := clock(p_given);
    SELECT * INTO STRICT v_state FROM state;
    IF v_state.epoch IS DISTINCT FROM p_was_epoch OR v_epoch IS NULL OR v_epoch < v_state.epoch
        OR v_epoch > v_state.epoch + cardinality(p_public)
    THEN
        RAISE EXCEPTION 'the change does not follow the state' USING ERRCODE = 'PE001';
    END IF;
    IF v_epoch = v_state.epoch
        AND (p_registers && ARRAY['orders', 'switches', 'keys'] OR v_release IS DISTINCT FROM v_state.release)
    THEN
        RAISE EXCEPTION 'the change has to raise the epoch' USING ERRCODE = 'PE001';
    END IF;
    IF p_facts_revision IS NULL OR (p_facts_revision > v_state.facts_revision) IS DISTINCT FROM v_facts
        OR p_sample IS NULL OR p_sample < v_state.sample
    THEN
        RAISE EXCEPTION 'the change does not follow the state' USING ERRCODE = 'PE001';
    END IF;
    PERFORM add_data_keys(p_key_ids, p_wrapped);
    INSERT INTO blobs (hash, content)
        SELECT encode(sha256(b.content), 'hex'), b.content FROM unnest(p_blob_hashes, p_blobs) AS b (hash, content);
    IF put_rows(v_log, p_registers, p_ids, p_was, p_revisions, p_documents, p_salts, p_row_seqs, p_row_items)
        IS DISTINCT FROM cardinality(p_ids)::bigint
    THEN
        RAISE EXCEPTION 'a row is not at the revision that the change replaces' USING ERRCODE = 'PE001';
    END IF;
    IF v_release IS DISTINCT FROM v_state.release AND live_revision('releases', v_release) = 0 THEN
        RAISE EXCEPTION 'the release to activate is not stored' USING ERRCODE = 'PE001';
    END IF;
    PERFORM write_batch(
        p_header, p_public, p_seqs, p_keys, p_sealed, p_tags, v_epoch, v_release, earliest_change(), v_now);
    UPDATE state SET epoch = v_epoch, release = v_release, facts_revision = p_facts_revision, sample = p_sample;
    UPDATE fence SET changed_at = v_at;
END $$;

-- Who may do what. Nobody but the owner writes to a table, and the functions above are nobody's by default.

REVOKE ALL ON ALL TABLES IN SCHEMA policy_engine FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA policy_engine FROM PUBLIC;
REVOKE ALL ON SCHEMA policy_engine FROM PUBLIC;
GRANT USAGE ON SCHEMA policy_engine
    TO policy_engine_writer, policy_engine_operator, policy_engine_sequencer, policy_engine_auditor;
GRANT SELECT ON ALL TABLES IN SCHEMA policy_engine
    TO policy_engine_writer, policy_engine_operator, policy_engine_auditor;
GRANT SELECT ON entries, batches, heads, state, alembic_version TO policy_engine_sequencer;
GRANT EXECUTE ON FUNCTION header_at(bytea)
    TO policy_engine_writer, policy_engine_operator, policy_engine_sequencer, policy_engine_auditor;
GRANT EXECUTE ON FUNCTION
    begin_batch(text, bigint, text[], bytea[]),
    append(bigint, bigint, bytea, bytea[], bigint[], text[], bytea[], bytea[], boolean[], bigint[], bigint[], bigint[],
        integer[], text[], text[], bigint[]),
    index_tags(text, bigint), settle(text)
    TO policy_engine_writer;
GRANT EXECUTE ON FUNCTION
    begin_change(text, bigint),
    change(bigint, bytea, bytea[], bigint[], text[], bytea[], bytea[], bigint, bigint, integer, text[], bytea[], text[],
        bytea[], text[], text[], bigint[], bigint[], text[], bytea[], bigint[], integer[]),
    settle(text)
    TO policy_engine_operator;
