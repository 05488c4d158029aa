-- Commits messages whose verdict is known: their senders were allowed to send under the access epoch that the caller
-- names, and nothing has changed since (V29). It is the short form of commit_messages for plain texts without a parent
-- and without files, and every check of that one is here too:
-- - the head and the epoch of each conversation are compared with those that the caller knows, and moved on, in one
--   UPDATE. A conversation that differs is left out, with all of its messages;
-- - a repeated client_message_id is a unique violation, which fails the statement;
-- - mutes of accounts and blocks, which no epoch covers, are looked up.
-- The caller commits in the general form whatever this one leaves out or refuses.
--
-- p_room, p_last_seq, p_epoch and p_count have an element for each conversation, in the order of the ids. The others
-- have one for each message, by conversation and seq. Returns the conversations that were committed, with their
-- messages in the same order, or nothing.
-- Locks: the conversations' rows in the order of their ids, FOR NO KEY UPDATE, until the transaction ends.

CREATE FUNCTION commit_known(
    p_room bigint[], p_last_seq bigint[], p_epoch bigint[], p_count bigint[],
    p_conversation bigint[], p_seq bigint[], p_ordinal bigint[], p_sender bigint[], p_content text[],
    p_client_message_id text[],
    OUT rooms bigint[], OUT seqs bigint[], OUT message_ids bigint[], OUT created_at timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    v_present bigint;
    v_muted   boolean;
    v_recent  bigint;
    v_all     boolean;
BEGIN
    created_at := now();
    SELECT (SELECT max(x.first_id) FROM message_partitions x),
           EXISTS (SELECT FROM users u WHERE u.id = ANY (p_sender) AND u.muted_until > now())
      INTO v_present, v_muted;
    IF v_muted THEN
        RETURN;
    END IF;
    -- The dedupe key is unique in each partition, so repeats of earlier ranges have to be looked up.
    IF v_present > 0 THEN
        v_recent := recent_messages();
        IF EXISTS (
            SELECT FROM unnest(p_conversation, p_sender, p_client_message_id) i (conversation_id, sender_id, key)
             CROSS JOIN LATERAL (
                   SELECT FROM messages x
                    WHERE x.conversation_id = i.conversation_id AND x.sender_id = i.sender_id
                      AND x.client_message_id = i.key AND x.id >= v_recent AND x.id < v_present LIMIT 1) earlier)
        THEN
            RETURN;
        END IF;
    END IF;
    WITH moved AS (
        UPDATE conversations c SET last_seq = k.last_seq + k.count, last_ordinal = c.last_ordinal + k.count
          FROM unnest(p_room, p_last_seq, p_epoch, p_count) k (id, last_seq, epoch, count)
         WHERE c.id = k.id AND c.last_seq = k.last_seq AND c.access_epoch = k.epoch
           AND (c.direct_low IS NULL OR NOT is_blocked(c.direct_low, c.direct_high))
        RETURNING c.id)
    SELECT array_agg(m.id) INTO rooms FROM moved m;
    IF rooms IS NULL THEN
        RETURN;
    END IF;
    v_all := cardinality(rooms) = cardinality(p_room);
    WITH inserted AS (
        INSERT INTO messages (conversation_id, seq, ordinal, sender_id, content, client_message_id)
        SELECT * FROM unnest(p_conversation, p_seq, p_ordinal, p_sender, p_content, p_client_message_id)
                 i (conversation_id, seq, ordinal, sender_id, content, client_message_id)
         WHERE v_all OR i.conversation_id = ANY (rooms)
        RETURNING seq, id)
    SELECT array_agg(i.seq), array_agg(i.id) INTO seqs, message_ids FROM inserted i;
END $$;
