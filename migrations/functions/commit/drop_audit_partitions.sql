-- Drops partitions of audit_logs after a closing checkpoint was signed that covers their rows, up to p_size. The
-- checkpoints before that cover rows that no longer exist, so they go too. Only the owner can execute it.
-- Locks: the row of audit_head, as append_audit does, then audit_logs (ACCESS EXCLUSIVE).

CREATE FUNCTION drop_audit_partitions(p_names text[], p_size bigint, p_note text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_name text;
BEGIN
    PERFORM FROM audit_head FOR UPDATE;
    FOREACH v_name IN ARRAY p_names LOOP
        EXECUTE format('DROP TABLE public.%I', v_name);
    END LOOP;
    IF p_size IS NOT NULL THEN
        DELETE FROM audit_checkpoints x WHERE x.size < p_size OR x.closing;
        INSERT INTO audit_checkpoints (size, closing, note) VALUES (p_size, true, p_note);
        PERFORM append_audit(jsonb_build_array(jsonb_build_object(
            'action', 'drop_audit_partitions', 'details', jsonb_build_object('names', p_names, 'size', p_size))));
    END IF;
END $$;
