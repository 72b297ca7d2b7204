-- PostgreSQL only: how a replica says that it lives and what it has acknowledged, how a new epoch is announced, and the
-- one change that may leap over epochs. Run by the role policy_engine_owner with the schema policy_engine as its search
-- path.

-- For writers.

-- Says that a replica lives and has acknowledged an epoch, and returns the epoch that holds. The first word of a replica
-- is durable before it decides; losing a later one makes a replica look older than it is, which errs on the safe side.
CREATE FUNCTION beat(p_id text, p_label text, p_epoch bigint, p_valid_for_ms bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
DECLARE
    v_now bigint := floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
BEGIN
    UPDATE replicas SET heartbeat = v_now, epoch = p_epoch, label = p_label, valid_for_ms = p_valid_for_ms,
        acknowledged = CASE WHEN replicas.epoch = p_epoch THEN replicas.acknowledged ELSE v_now END
        WHERE replicas.id = p_id AND replicas.ended IS NULL;
    IF FOUND THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    ELSE
        DELETE FROM replicas WHERE replicas.id <> p_id AND replicas.ended < v_now - 86400000000;
        INSERT INTO replicas (id, label, started, heartbeat, epoch, acknowledged, valid_for_ms)
            VALUES (p_id, p_label, v_now, v_now, p_epoch, v_now, p_valid_for_ms)
            ON CONFLICT (id) DO UPDATE SET heartbeat = v_now, epoch = p_epoch, acknowledged = v_now, label = p_label,
                valid_for_ms = p_valid_for_ms, ended = NULL;
    END IF;
    RETURN (SELECT s.epoch FROM state s);
END $$;

-- Says that a replica has ended, or is gone because its heartbeat stayed what it was for whoever says so.
CREATE FUNCTION end_replica(p_id text, p_heartbeat bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = policy_engine, pg_temp AS $$
BEGIN
    UPDATE replicas SET ended = floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint
        WHERE replicas.id = p_id AND replicas.ended IS NULL
        AND (p_heartbeat IS NULL OR replicas.heartbeat = p_heartbeat);
    RETURN FOUND;
END $$;

-- A new epoch is announced with its commit; who missed it finds it by asking.
CREATE FUNCTION announce_epoch() RETURNS trigger
LANGUAGE plpgsql SET search_path = policy_engine, pg_temp AS $$
BEGIN
    PERFORM pg_notify('policy_engine_epoch', NEW.epoch::text);
    RETURN NULL;
END $$;

CREATE TRIGGER announced AFTER UPDATE ON state
    FOR EACH ROW WHEN (NEW.epoch IS DISTINCT FROM OLD.epoch) EXECUTE FUNCTION announce_epoch();

-- For operators: as in 0002, and a recovery may leap beyond an epoch that somebody remembers of a lost database.

-- Returns the epoch that an entry may lead to when it is a recovery, nothing otherwise.
CREATE FUNCTION recovered_epoch(p_public bytea) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_public json := convert_from(p_public, 'UTF8')::json;
BEGIN
    RETURN CASE WHEN v_public ->> 'kind' = 'epoch.recovered' THEN (v_public ->> 'beyond')::bigint + 1 END;
END $$;

CREATE OR REPLACE FUNCTION change(
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
    v_most bigint;
BEGIN
    PERFORM enter_log(v_log);
    PERFORM pg_advisory_xact_lock(28773, 1);
    v_now := clock(p_given);
    SELECT * INTO STRICT v_state FROM state;
    v_most := v_state.epoch + cardinality(p_public);
    IF cardinality(p_public) = 1 THEN
        v_most := greatest(v_most, recovered_epoch(p_public[1]));
    END IF;
    IF v_state.epoch IS DISTINCT FROM p_was_epoch OR v_epoch IS NULL OR v_epoch < v_state.epoch OR v_epoch > v_most
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

-- Who may do what.

REVOKE ALL ON replicas FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA policy_engine FROM PUBLIC;
GRANT SELECT ON replicas TO policy_engine_writer, policy_engine_operator, policy_engine_auditor;
GRANT EXECUTE ON FUNCTION beat(text, text, bigint, bigint), end_replica(text, bigint) TO policy_engine_writer;
