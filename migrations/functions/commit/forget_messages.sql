-- Removes what belongs to messages of a dropped partition, whose ids are p_first_id or more and below p_next_id, p_most
-- rows at a time. Returns whether there is more. At the end it forgets the range.
-- It needs the rights of the owner, in a transaction with app.data_rights.
-- Locks: the rows; those of the files and of file_usage.

CREATE FUNCTION forget_messages(p_first_id bigint, p_next_id bigint, p_most bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_files bigint[];
    v_count bigint;
    v_table text;
    v_key   text;
BEGIN
    WITH gone AS (
        DELETE FROM message_files x
         WHERE x.ctid = ANY (array(SELECT y.ctid FROM message_files y
                                    WHERE y.message_id >= p_first_id AND y.message_id < p_next_id LIMIT p_most))
        RETURNING x.file_id)
    SELECT array_agg(g.file_id) INTO v_files FROM gone g;
    IF v_files IS NOT NULL THEN
        PERFORM remove_unused_files(v_files);
        RETURN true;
    END IF;
    FOR v_table, v_key IN VALUES ('message_edits', 'message_id'), ('message_mentions', 'message_id'),
        ('message_reactions', 'message_id'), ('message_pins', 'message_id'),
        ('thread_statistics', 'root_message_id'), ('thread_followers', 'root_message_id')
    LOOP
        EXECUTE format(
            'DELETE FROM %1$I x WHERE x.ctid = ANY (array(
                 SELECT y.ctid FROM %1$I y WHERE y.%2$I >= $1 AND y.%2$I < $2 LIMIT $3))', v_table, v_key)
          USING p_first_id, p_next_id, p_most;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        IF v_count > 0 THEN
            RETURN true;
        END IF;
    END LOOP;
    DELETE FROM conversation_partitions x WHERE x.first_id = p_first_id;
    DELETE FROM message_partitions x WHERE x.first_id = p_first_id;
    RETURN false;
END $$;
