-- Adds to what the receipt of a person's erasure counts, in the transaction that removes it: a job that is killed
-- before it has noted its progress does not remove these again.
-- Locks: the row of erasures.

CREATE FUNCTION count_erased(p_user bigint, p_what text, p_count bigint) RETURNS void LANGUAGE sql AS $$
    UPDATE erasures e SET counts = added_counts(e.counts, jsonb_build_object(p_what, p_count))
     WHERE e.user_id = p_user AND p_count > 0
$$;
