-- PostgreSQL only. Run by the role policy_engine_owner with the schema policy_engine as its search path.
--
-- Whoever fills the index reads tags of bodies and writes them; whoever empties bodies takes both away. Without a lock
-- between them, tags that were read before an erasure would be written behind it. The lock is a statement of its own, in
-- front of what it guards, so that the next statement sees what the other has committed. Filling takes it shared: the
-- logs are filled side by side.

CREATE OR REPLACE FUNCTION index_tags(p_log text, p_count bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_quiet bigint := floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint - 60000000;
    v_head heads%ROWTYPE;
    v_end bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(28773, 4);
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

CREATE OR REPLACE FUNCTION empty_bodies(p_logs text[], p_seqs bigint[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_logs text[];
    v_seqs bigint[];
    v_tags bytea[];
BEGIN
    PERFORM pg_advisory_xact_lock(28773, 4);
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
