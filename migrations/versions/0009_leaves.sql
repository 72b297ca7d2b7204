-- PostgreSQL only. Run by the role policy_engine_owner with the schema policy_engine as its search path.
--
-- Bytes that are no leaf of the tree, a root that is not that of the entries, or entries that are none: whoever holds a
-- writer's login could append them, the sequencer would refuse the tree from there on, no store would open, and nothing
-- takes them away again. So each function writes down the bytes that it expects, and takes no others.

-- The root over the hashes of a batch, as in RFC 6962: neighbours in pairs, level by level; an odd last one moves up.
CREATE FUNCTION batch_root(p_public bytea[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_hashes bytea[] := ARRAY(
        SELECT sha256('\x00'::bytea || e.public) FROM unnest(p_public) WITH ORDINALITY AS e (public, place)
        ORDER BY e.place);
    v_count integer := cardinality(v_hashes);
BEGIN
    WHILE v_count > 1 LOOP
        v_hashes := ARRAY(
            SELECT CASE WHEN n < v_count THEN sha256('\x01'::bytea || v_hashes[n] || v_hashes[n + 1])
                ELSE v_hashes[n] END
            FROM generate_series(1, v_count, 2) AS n ORDER BY n);
        v_count := cardinality(v_hashes);
    END LOOP;
    RETURN encode(v_hashes[1], 'hex');
END $$;

-- Raises for an entry that is no object, or names another place or instant than its own, or an epoch that is not from the
-- one before the batch (a change may raise it with each of its entries) to the one behind it. What else an entry says is
-- its writer's word.
CREATE FUNCTION check_entries(
    p_public bytea[], p_log text, p_first bigint, p_at bigint, p_least bigint, p_most bigint
) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM unnest(p_public) WITH ORDINALITY AS e (public, place)
        CROSS JOIN LATERAL json_to_record(convert_from(e.public, 'UTF8')::json)
            AS m (v bigint, kind text, id text, log text, seq bigint, at bigint, epoch bigint, release text, sealed text)
        WHERE m.v IS DISTINCT FROM 1 OR m.kind IS NULL OR m.id IS NULL OR m.sealed IS NULL
        OR m.log IS DISTINCT FROM p_log OR m.seq IS DISTINCT FROM p_first + e.place - 1 OR m.at IS DISTINCT FROM p_at
        OR m.epoch IS NULL OR m.epoch NOT BETWEEN p_least AND p_most)
    THEN
        RAISE EXCEPTION 'an entry does not say where and under what it is written' USING ERRCODE = 'PE001';
    END IF;
END $$;

-- As in 0003; the header is the one that this function would write.
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
    v_opened bigint;
    v_head heads%ROWTYPE;
BEGIN
    PERFORM refuse_ended(v_log);
    SELECT * INTO v_head FROM heads WHERE heads.log_id = v_log;
    IF NOT FOUND THEN
        SELECT (convert_from(e.data, 'UTF8')::json ->> 'at')::bigint INTO v_opened
            FROM log_events e WHERE e.log_id = v_log AND e.kind = 'open';
        IF v_opened IS NULL THEN
            RAISE EXCEPTION 'the log was not opened' USING ERRCODE = 'PE001';
        END IF;
        v_head := ROW(v_log, 0, 0, repeat('0', 64), v_opened, 0);
    END IF;
    IF v_batch IS DISTINCT FROM v_head.next_batch OR v_first IS DISTINCT FROM v_head.next_seq
        OR (v_header ->> 'prev') IS DISTINCT FROM v_head.head_hash
    THEN
        RAISE EXCEPTION 'the head of the log is not the one that was read' USING ERRCODE = 'PE002';
    END IF;
    IF v_at IS NULL OR v_at < greatest(p_from, v_head.last_at) OR v_at > greatest(p_now, p_from, rising()) THEN
        RAISE EXCEPTION 'the instant of the batch is not that of the database' USING ERRCODE = 'PE001';
    END IF;
    IF p_header IS DISTINCT FROM convert_to(format(
        '{"at":%s,"batch":%s,"epoch":%s,"first":%s,"log":"%s","n":%s,"prev":"%s","release":%s,"root":"%s","v":1}',
        v_at, v_batch, p_epoch, v_first, v_log, v_count, v_head.head_hash, coalesce(to_json(p_release)::text, 'null'),
        batch_root(p_public)), 'UTF8')
    THEN
        RAISE EXCEPTION 'the header does not say what is written under it' USING ERRCODE = 'PE001';
    END IF;
    PERFORM check_entries(p_public, v_log, v_first, v_at, (SELECT s.epoch FROM state s), p_epoch);
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

-- Returns the bytes of the `open` leaf that says what a leaf says.
CREATE FUNCTION opening_leaf(p_leaf json) RETURNS bytea
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF (p_leaf ->> 'boot') = '' OR (p_leaf ->> 'key') = '' OR (p_leaf ->> 'release') = ''
        OR (p_leaf ->> 'at')::bigint NOT BETWEEN 0 AND 9007199254740991
        OR (p_leaf ->> 'epoch')::bigint NOT BETWEEN 0 AND (SELECT s.epoch FROM state s)
    THEN
        RETURN NULL;
    END IF;
    RETURN convert_to(format(
        '{"at":%s,"boot":%s,"epoch":%s,"key":%s,"kind":"open","log":"%s","release":%s,"v":1}',
        (p_leaf ->> 'at')::bigint, to_json(p_leaf ->> 'boot'), (p_leaf ->> 'epoch')::bigint,
        coalesce(to_json(p_leaf ->> 'key')::text, 'null'), p_leaf ->> 'log',
        coalesce(to_json(p_leaf ->> 'release')::text, 'null')), 'UTF8');
END $$;

CREATE OR REPLACE FUNCTION open_log(p_data bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_leaf json := convert_from(p_data, 'UTF8')::json;
    v_log text := v_leaf ->> 'log';
BEGIN
    PERFORM enter_log(v_log);
    IF p_data IS DISTINCT FROM opening_leaf(v_leaf) OR EXISTS (SELECT 1 FROM heads h WHERE h.log_id = v_log) THEN
        RAISE EXCEPTION 'a log is opened once, before its first batch, by a leaf of its own' USING ERRCODE = 'PE001';
    END IF;
    INSERT INTO log_events (log_id, kind, data) VALUES (v_log, 'open', p_data);
END $$;

CREATE OR REPLACE FUNCTION adopt_log(p_data bytea) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_leaf json := convert_from(p_data, 'UTF8')::json;
    v_log text := v_leaf ->> 'log';
BEGIN
    PERFORM enter_log(v_log);
    IF p_data IS DISTINCT FROM opening_leaf(v_leaf) OR NOT EXISTS (SELECT 1 FROM heads h WHERE h.log_id = v_log) THEN
        RAISE EXCEPTION 'only a log that has batches is adopted, by a leaf of its own' USING ERRCODE = 'PE001';
    END IF;
    INSERT INTO log_events (log_id, kind, data) VALUES (v_log, 'open', p_data);
END $$;

-- As in 0003; the leaf is the one that this function would write, and time and epoch do not run backwards in its log.
CREATE OR REPLACE FUNCTION end_log(p_kind text, p_data bytea) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_leaf json := convert_from(p_data, 'UTF8')::json;
    v_log text := v_leaf ->> 'log';
    v_at bigint := (v_leaf ->> 'at')::bigint;
    v_epoch bigint := (v_leaf ->> 'epoch')::bigint;
    v_head heads%ROWTYPE;
BEGIN
    PERFORM enter_log(v_log);
    PERFORM refuse_ended(v_log);
    SELECT * INTO v_head FROM heads h WHERE h.log_id = v_log;
    IF NOT FOUND OR v_at IS NULL OR v_at NOT BETWEEN v_head.last_at AND 9007199254740991
        OR v_epoch IS NULL OR v_epoch > (SELECT s.epoch FROM state s)
        OR v_epoch < (
            SELECT (convert_from(b.header, 'UTF8')::json ->> 'epoch')::bigint FROM batches b
            WHERE b.log_id = v_log AND b.batch_no = v_head.next_batch - 1)
        OR p_data IS DISTINCT FROM convert_to(format(
            '{"at":%s,"batches":%s,"entries":%s,"epoch":%s,"head":"%s","kind":"%s","log":"%s","v":1}',
            v_at, v_head.next_batch, v_head.next_seq, v_epoch, v_head.head_hash, p_kind, v_log), 'UTF8')
    THEN
        RAISE EXCEPTION 'the log does not end there' USING ERRCODE = 'PE002';
    END IF;
    IF p_kind = 'abandoned' AND is_leased(v_log) THEN
        RAISE EXCEPTION 'the writer of the log is there' USING ERRCODE = 'PE002';
    END IF;
    INSERT INTO log_events (log_id, kind, data) VALUES (v_log, p_kind, p_data);
END $$;

-- Who may do what.

REVOKE ALL ON FUNCTION
    batch_root(bytea[]), opening_leaf(json), check_entries(bytea[], text, bigint, bigint, bigint, bigint)
    FROM PUBLIC;
