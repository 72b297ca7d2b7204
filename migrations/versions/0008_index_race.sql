-- PostgreSQL only. Run by the role policy_engine_owner with the schema policy_engine as its search path.
--
-- Between the look at the tree and the lock another connection may have filled the index to its end, so what is to be
-- filled is looked at again behind the lock. Before, the second of two failed there; nothing was written by it.

CREATE OR REPLACE FUNCTION index_columns(p_count bigint) RETURNS TABLE (left_leaves bigint, pending_batches bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_mine boolean := false;
    v_first bigint;
    v_size bigint;
    v_end bigint;
    v_top bigint;
    v_late bigint;
    v_leaves bigint[];
    v_seqs bigint[];
    v_says text[];
    v_ids bytea[];
    v_epochs bigint[];
    v_releases text[];
    v_ats bigint[];
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT t.indexed, t.size INTO STRICT v_first, v_size FROM tree t;
    IF v_first < v_size THEN
        v_mine := pg_try_advisory_xact_lock(28773, 3);
        SELECT t.indexed, t.size INTO STRICT v_first, v_size FROM tree t;
    END IF;
    IF v_mine AND v_first < v_size THEN
        SELECT max(c.leaf) + 1 INTO v_end FROM (
            SELECT l.leaf, coalesce(b.n, 0) AS n, sum(coalesce(b.n, 0)) OVER (ORDER BY l.leaf) AS upto
            FROM tree_leaves l LEFT JOIN batches b ON b.log_id = l.log_id AND b.batch_no = l.batch_no
            WHERE l.leaf >= v_first AND l.leaf < least(v_size, v_first + p_count)
        ) AS c WHERE c.upto - c.n < p_count;
        SELECT array_agg(f.leaf ORDER BY f.leaf, f.seq), array_agg(f.seq ORDER BY f.leaf, f.seq),
            array_agg(label_of(f.public) ORDER BY f.leaf, f.seq),
            array_agg(CASE WHEN f.public ->> 'id' ~ '^[0-9a-f]{32}$' THEN decode(left(f.public ->> 'id', 8), 'hex')
                ELSE '\x00000000'::bytea END ORDER BY f.leaf, f.seq),
            array_agg((f.public ->> 'epoch')::bigint ORDER BY f.leaf, f.seq),
            array_agg(f.public ->> 'release' ORDER BY f.leaf, f.seq),
            array_agg((f.public ->> 'at')::bigint ORDER BY f.leaf, f.seq)
            INTO v_leaves, v_seqs, v_says, v_ids, v_epochs, v_releases, v_ats
            FROM (
                SELECT l.leaf, e.seq, convert_from(e.public, 'UTF8')::json AS public
                FROM tree_leaves l JOIN batches b ON b.log_id = l.log_id AND b.batch_no = l.batch_no
                JOIN entries e ON e.log_id = b.log_id AND e.seq >= b.first_seq AND e.seq < b.first_seq + b.n
                WHERE l.leaf >= v_first AND l.leaf < v_end
            ) AS f;
        IF v_leaves IS NOT NULL THEN
            INSERT INTO labels (label, digest, says)
                SELECT (SELECT coalesce(max(k.label), 0) FROM labels k) + row_number() OVER (ORDER BY n.says),
                    sha256(convert_to(n.says, 'UTF8')), n.says
                FROM (SELECT DISTINCT s.says FROM unnest(v_says) AS s (says)) AS n
                WHERE NOT EXISTS (SELECT 1 FROM labels k WHERE k.digest = sha256(convert_to(n.says, 'UTF8')));
            INSERT INTO columns (label, leaf, seq)
                SELECT k.label, f.leaf, f.seq FROM unnest(v_leaves, v_seqs, v_says) AS f (leaf, seq, says)
                JOIN labels k ON k.digest = sha256(convert_to(f.says, 'UTF8')) ORDER BY 1, 2, 3;
            SELECT s.top, s.late INTO v_top, v_late FROM spans s ORDER BY s.leaf DESC LIMIT 1;
            INSERT INTO spans (leaf, log_id, first_seq, n, at, top, late, ids, labels)
                SELECT u.leaf, b.log_id, b.first_seq, b.n, u.at, u.top,
                    greatest(v_late, max(u.top - u.at) OVER (ORDER BY u.leaf), 0), u.ids, u.labels
                FROM (
                    SELECT g.leaf, g.at, greatest(v_top, max(g.at) OVER (ORDER BY g.leaf)) AS top, g.ids, g.labels
                    FROM (
                        SELECT f.leaf, min(f.at) AS at, string_agg(f.id, ''::bytea ORDER BY f.seq) AS ids,
                            string_agg(int4send(k.label), ''::bytea ORDER BY f.seq) AS labels
                        FROM unnest(v_leaves, v_seqs, v_says, v_ids, v_ats) AS f (leaf, seq, says, id, at)
                        JOIN labels k ON k.digest = sha256(convert_to(f.says, 'UTF8')) GROUP BY f.leaf
                    ) AS g
                ) AS u
                JOIN tree_leaves l ON l.leaf = u.leaf
                JOIN batches b ON b.log_id = l.log_id AND b.batch_no = l.batch_no;
            INSERT INTO eras (epoch, release, leaf, at)
                SELECT DISTINCT ON (f.epoch) f.epoch, f.release, f.leaf, f.at
                FROM unnest(v_leaves, v_seqs, v_epochs, v_releases, v_ats) AS f (leaf, seq, epoch, release, at)
                ORDER BY f.epoch, f.leaf, f.seq
                ON CONFLICT DO NOTHING;
        END IF;
        UPDATE tree SET indexed = v_end WHERE tree.id = 1;
        v_first := v_end;
    END IF;
    RETURN QUERY SELECT v_size - v_first, (
        SELECT coalesce(sum(h.next_batch - coalesce(t.batches, 0)), 0)::bigint
        FROM heads h LEFT JOIN tree_logs t ON t.log_id = h.log_id WHERE h.next_batch > coalesce(t.batches, 0));
END $$;
