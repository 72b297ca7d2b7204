-- PostgreSQL only: how the global tree is written, how logs begin and end, and the guards and rights of both.
-- Run by the role policy_engine_owner with the schema policy_engine as its search path.

-- Guards against mistakes, as in 0002.

CREATE FUNCTION refuse_smaller_tree() RETURNS trigger LANGUAGE plpgsql SET search_path = policy_engine, pg_temp AS $$
BEGIN
    IF NEW.size < OLD.size OR NEW.horizon < OLD.horizon OR NEW.rising < OLD.rising
        OR (OLD.origin <> '' AND (NEW.origin <> OLD.origin OR NEW.key <> OLD.key))
    THEN
        RAISE EXCEPTION 'the tree never becomes smaller, nor another' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION refuse_other_hashes() RETURNS trigger LANGUAGE plpgsql SET search_path = policy_engine, pg_temp AS $$
BEGIN
    IF NEW.level <> OLD.level OR NEW.number <> OLD.number
        OR substring(NEW.data FROM 1 FOR length(OLD.data)) <> OLD.data
    THEN
        RAISE EXCEPTION 'a tile only grows' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION refuse_log_going_back() RETURNS trigger LANGUAGE plpgsql SET search_path = policy_engine, pg_temp AS $$
BEGIN
    IF NEW.log_id <> OLD.log_id OR NEW.opened <> OLD.opened OR NEW.batches < OLD.batches
        OR (OLD.ended IS NOT NULL AND (NEW.ended IS DISTINCT FROM OLD.ended OR NEW.batches <> OLD.batches))
    THEN
        RAISE EXCEPTION 'a log in the tree only grows' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION refuse_second_end() RETURNS trigger LANGUAGE plpgsql SET search_path = policy_engine, pg_temp AS $$
BEGIN
    IF NEW.kind <> 'open' AND EXISTS (SELECT 1 FROM log_events e WHERE e.log_id = NEW.log_id AND e.kind <> 'open') THEN
        RAISE EXCEPTION 'an ended log stays ended' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER only_grows BEFORE UPDATE ON tree FOR EACH ROW EXECUTE FUNCTION refuse_smaller_tree();
CREATE TRIGGER never_gone BEFORE DELETE OR TRUNCATE ON tree
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('the row of the tree stays');
CREATE TRIGGER only_grows BEFORE UPDATE ON tree_tiles FOR EACH ROW EXECUTE FUNCTION refuse_other_hashes();
CREATE TRIGGER never_gone BEFORE DELETE OR TRUNCATE ON tree_tiles
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('a tile only grows');
CREATE TRIGGER only_grows BEFORE UPDATE ON tree_logs FOR EACH ROW EXECUTE FUNCTION refuse_log_going_back();
CREATE TRIGGER never_gone BEFORE DELETE OR TRUNCATE ON tree_logs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('a log in the tree only grows');
CREATE TRIGGER one_end BEFORE INSERT ON log_events FOR EACH ROW EXECUTE FUNCTION refuse_second_end();

DO $$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['tree_leaves', 'checkpoints', 'cosignatures', 'log_events'] LOOP
        EXECUTE format(
            'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION refuse(%L)', v_table, v_table || ' is append-only');
    END LOOP;
END $$;

-- Small parts; nobody but the owner may call them.

CREATE FUNCTION check_durable() RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') OR current_setting('fsync') <> 'on'
        OR current_setting('full_page_writes') <> 'on'
    THEN
        RAISE EXCEPTION 'this server or session does not make commits durable' USING ERRCODE = 'PE003';
    END IF;
END $$;

CREATE FUNCTION refuse_ended(p_log text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM log_events e WHERE e.log_id = p_log AND e.kind IN ('close', 'abandoned')) THEN
        RAISE EXCEPTION 'the log has ended' USING ERRCODE = 'PE005';
    END IF;
END $$;

-- No entry or change that begins from here on is dated before `rising`, whatever the server's clock does: this is what
-- makes the horizon exact. Whoever held the fence when `rising` was set may still be earlier, and is waited for; so what
-- a batch is held against when it is written (`earliest_entry`) is what was so when it began, and not `rising`.
CREATE FUNCTION rising() RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (SELECT t.rising FROM tree t);
END $$;

CREATE OR REPLACE FUNCTION begin_batch(p_log text, p_given bigint, p_key_ids text[], p_wrapped bytea[]) RETURNS TABLE (
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
    RETURN QUERY SELECT m.*, v_stored FROM moment(p_log, v_now, greatest(earliest_entry(p_log), rising())) m;
END $$;

CREATE OR REPLACE FUNCTION begin_change(p_log text, p_given bigint) RETURNS TABLE (
    epoch bigint, release text, facts_revision bigint, sample integer, now bigint, at bigint,
    next_seq bigint, next_batch bigint, head_hash text, last_at bigint, tagged bigint
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
BEGIN
    PERFORM enter_log(p_log);
    PERFORM pg_advisory_xact_lock(28773, 1);
    RETURN QUERY SELECT m.* FROM moment(p_log, clock(p_given), greatest(earliest_change(), rising())) m;
END $$;

CREATE OR REPLACE FUNCTION moment(p_log text, p_now bigint, p_from bigint) RETURNS TABLE (
    epoch bigint, release text, facts_revision bigint, sample integer, now bigint, at bigint,
    next_seq bigint, next_batch bigint, head_hash text, last_at bigint, tagged bigint
)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    PERFORM refuse_ended(p_log);
    RETURN QUERY SELECT s.epoch, s.release, s.facts_revision, s.sample, p_now, greatest(p_now, p_from),
        coalesce(h.next_seq, 0), coalesce(h.next_batch, 0), coalesce(h.head_hash, repeat('0', 64)),
        coalesce(h.last_at, 0), coalesce(h.tagged, 0)
    FROM state s LEFT JOIN heads h ON h.log_id = p_log;
END $$;

-- As in 0002, and a log that has ended takes no batch, nor one that was not opened its first.
CREATE OR REPLACE FUNCTION write_batch(
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
    PERFORM refuse_ended(v_log);
    SELECT * INTO v_head FROM heads WHERE heads.log_id = v_log;
    IF NOT FOUND THEN
        IF NOT EXISTS (SELECT 1 FROM log_events e WHERE e.log_id = v_log AND e.kind = 'open') THEN
            RAISE EXCEPTION 'the log was not opened' USING ERRCODE = 'PE001';
        END IF;
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
    IF v_at IS NULL OR v_at < p_from OR v_at > greatest(p_now, p_from, rising()) THEN
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

-- Whether a session holds the lease of a log: a shared session lock that its writer keeps for as long as it lives.
CREATE FUNCTION is_leased(p_log text) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN EXISTS (
        SELECT 1 FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.granted
        AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
        AND l.classid = 28775 AND l.objid = hashtext(p_log)::oid AND l.objsubid = 2);
END $$;

CREATE FUNCTION end_log(p_kind text, p_data bytea) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_leaf json := convert_from(p_data, 'UTF8')::json;
    v_log text := v_leaf ->> 'log';
    v_head heads%ROWTYPE;
BEGIN
    PERFORM enter_log(v_log);
    PERFORM refuse_ended(v_log);
    SELECT * INTO v_head FROM heads h WHERE h.log_id = v_log;
    IF NOT FOUND OR (v_leaf ->> 'kind') IS DISTINCT FROM p_kind
        OR (v_leaf ->> 'batches')::bigint IS DISTINCT FROM v_head.next_batch
        OR (v_leaf ->> 'entries')::bigint IS DISTINCT FROM v_head.next_seq
        OR (v_leaf ->> 'head') IS DISTINCT FROM v_head.head_hash
        OR (v_leaf ->> 'at')::bigint IS NULL OR (v_leaf ->> 'at')::bigint < v_head.last_at
    THEN
        RAISE EXCEPTION 'the log does not end there' USING ERRCODE = 'PE002';
    END IF;
    IF p_kind = 'abandoned' AND is_leased(v_log) THEN
        RAISE EXCEPTION 'the writer of the log is there' USING ERRCODE = 'PE002';
    END IF;
    INSERT INTO log_events (log_id, kind, data) VALUES (v_log, p_kind, p_data);
END $$;

-- For writers and operators: a store opens its log in the transaction of its first batch, and closes it when it is done.

CREATE FUNCTION open_log(p_data bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_leaf json := convert_from(p_data, 'UTF8')::json;
    v_log text := v_leaf ->> 'log';
BEGIN
    PERFORM enter_log(v_log);
    IF (v_leaf ->> 'kind') IS DISTINCT FROM 'open' OR EXISTS (SELECT 1 FROM heads h WHERE h.log_id = v_log) THEN
        RAISE EXCEPTION 'a log is opened once, before its first batch' USING ERRCODE = 'PE001';
    END IF;
    INSERT INTO log_events (log_id, kind, data) VALUES (v_log, 'open', p_data);
END $$;

CREATE FUNCTION close_log(p_data bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
BEGIN
    PERFORM end_log('close', p_data);
END $$;

-- For the sequencer.

-- Ends the log of a writer that is gone. It is refused while a session holds the lease.
CREATE FUNCTION abandon(p_data bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
BEGIN
    PERFORM end_log('abandoned', p_data);
END $$;

CREATE FUNCTION unleased() RETURNS TABLE (log_id text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY WITH unended AS MATERIALIZED (  -- first: there are few of these, and locks are slow to look through
        SELECT e.log_id FROM log_events e GROUP BY e.log_id HAVING bool_and(e.kind = 'open')
    ) SELECT u.log_id FROM unended u WHERE NOT is_leased(u.log_id) ORDER BY u.log_id;
END $$;

-- Opens a log that was begun before there was a tree.
CREATE FUNCTION adopt_log(p_data bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_leaf json := convert_from(p_data, 'UTF8')::json;
    v_log text := v_leaf ->> 'log';
BEGIN
    PERFORM enter_log(v_log);
    IF (v_leaf ->> 'kind') IS DISTINCT FROM 'open' OR NOT EXISTS (SELECT 1 FROM heads h WHERE h.log_id = v_log) THEN
        RAISE EXCEPTION 'only a log that has batches is adopted' USING ERRCODE = 'PE001';
    END IF;
    INSERT INTO log_events (log_id, kind, data) VALUES (v_log, 'open', p_data);
END $$;

-- Moves `rising` to the clock and returns it. Whoever holds the fence afterwards (`fence_holders`) may be earlier.
CREATE FUNCTION raise_horizon(p_given bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_rising bigint;
BEGIN
    UPDATE tree SET rising = greatest(tree.rising, clock(p_given)) RETURNING rising INTO v_rising;
    RETURN v_rising;
END $$;

CREATE FUNCTION fence_holders() RETURNS TABLE (holder text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT DISTINCT l.virtualtransaction FROM pg_catalog.pg_locks l
        WHERE l.locktype = 'advisory' AND l.granted
        AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
        AND l.classid = 28773 AND l.objid = 1 AND l.objsubid = 2;
END $$;

-- The compare-and-swap: false when another sequencer was first, and then nothing is written. Every leaf must be a batch
-- or an event that is there; the batches of a log are taken without a gap.
CREATE FUNCTION integrate(
    p_size bigint, p_logs text[], p_batches bigint[], p_data bytea[],
    p_levels integer[], p_numbers bigint[], p_tiles bytea[],
    p_note bytea, p_at bigint, p_origin text, p_key text, p_horizon bigint
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_count bigint := cardinality(p_logs);
    v_known bigint;
BEGIN
    PERFORM check_durable();
    UPDATE tree SET size = p_size + v_count, origin = p_origin, key = p_key, horizon = greatest(horizon, p_horizon)
        WHERE id = 1 AND size = p_size AND p_horizon <= greatest(rising, horizon);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT count(*) INTO v_known FROM unnest(p_logs, p_batches, p_data) AS l (log_id, batch_no, data)
        WHERE EXISTS (SELECT 1 FROM batches b WHERE b.log_id = l.log_id AND b.batch_no = l.batch_no AND l.data IS NULL)
        OR (l.batch_no IS NULL
            AND EXISTS (SELECT 1 FROM log_events e WHERE e.log_id = l.log_id AND e.data = l.data));
    IF v_count = 0 OR v_known <> v_count THEN
        RAISE EXCEPTION 'a leaf is no batch and no event of a log' USING ERRCODE = 'PE001';
    END IF;
    INSERT INTO tree_leaves (leaf, log_id, batch_no, data)
        SELECT p_size + l.place - 1, l.log_id, l.batch_no, l.data
        FROM unnest(p_logs, p_batches, p_data) WITH ORDINALITY AS l (log_id, batch_no, data, place);
    INSERT INTO tree_logs (log_id, opened, batches, ended)
        SELECT l.log_id, l.leaf, 0, NULL FROM tree_leaves l
        JOIN log_events e ON e.log_id = l.log_id AND e.kind = 'open' AND e.data = l.data
        WHERE l.leaf >= p_size AND l.batch_no IS NULL;
    IF EXISTS (
        SELECT 1 FROM tree_leaves l LEFT JOIN tree_logs t ON t.log_id = l.log_id WHERE l.leaf >= p_size
        GROUP BY l.log_id, t.batches
        HAVING t.batches IS NULL OR min(l.batch_no) <> t.batches
            OR max(l.batch_no) <> t.batches + count(l.batch_no) - 1)
    THEN
        RAISE EXCEPTION 'a batch of a log was left out' USING ERRCODE = 'PE001';
    END IF;
    UPDATE tree_logs t SET batches = t.batches + n.batches, ended = n.ended FROM (
        SELECT l.log_id, count(l.batch_no) AS batches,
            max(l.leaf) FILTER (WHERE l.batch_no IS NULL AND e.kind <> 'open') AS ended
        FROM tree_leaves l LEFT JOIN log_events e ON l.batch_no IS NULL AND e.log_id = l.log_id AND e.data = l.data
        WHERE l.leaf >= p_size GROUP BY l.log_id
    ) n WHERE t.log_id = n.log_id;
    INSERT INTO tree_tiles (level, number, data)
        SELECT t.level, t.number, t.data FROM unnest(p_levels, p_numbers, p_tiles) AS t (level, number, data)
        ON CONFLICT (level, number) DO UPDATE SET data = excluded.data;
    INSERT INTO checkpoints (size, note, at) VALUES (p_size + v_count, p_note, p_at);
    RETURN true;
END $$;

-- Nothing is pending: only the horizon moves.
CREATE FUNCTION move_horizon(p_size bigint, p_horizon bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
BEGIN
    UPDATE tree SET horizon = greatest(horizon, p_horizon)
        WHERE id = 1 AND size = p_size AND p_horizon <= rising;
    RETURN FOUND;
END $$;

CREATE FUNCTION add_cosignature(p_size bigint, p_cosigner text, p_line text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
BEGIN
    PERFORM check_durable();
    IF NOT EXISTS (SELECT 1 FROM checkpoints c WHERE c.size = p_size) THEN
        RAISE EXCEPTION 'there is no checkpoint of this size' USING ERRCODE = 'PE001';
    END IF;
    INSERT INTO cosignatures (size, cosigner, line) VALUES (p_size, p_cosigner, p_line) ON CONFLICT DO NOTHING;
END $$;

-- Who may do what.

REVOKE ALL ON ALL TABLES IN SCHEMA policy_engine FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA policy_engine FROM PUBLIC;
GRANT SELECT ON tree, tree_leaves, tree_tiles, checkpoints, cosignatures, log_events, tree_logs
    TO policy_engine_writer, policy_engine_operator, policy_engine_sequencer, policy_engine_auditor;
GRANT EXECUTE ON FUNCTION open_log(bytea), close_log(bytea) TO policy_engine_writer, policy_engine_operator;
GRANT EXECUTE ON FUNCTION
    abandon(bytea), unleased(), adopt_log(bytea), raise_horizon(bigint), fence_holders(),
    move_horizon(bigint, bigint), add_cosignature(bigint, text, text),
    integrate(bigint, text[], bigint[], bytea[], integer[], bigint[], bytea[], bytea, bigint, text, text, bigint)
    TO policy_engine_sequencer;
