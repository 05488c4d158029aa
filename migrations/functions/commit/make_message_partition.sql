-- Makes tables for the range of ids that begins with p_first_id, unless they are there: future partitions of messages
-- and message_search (open_message_partition). The indexes of messages are those of messages_0, but those for counting
-- have the id too: the counts are bounded by it, and read no message. Only the owner can execute it.
-- Locks: none of other tables that anybody waits for.

CREATE FUNCTION make_message_partition(p_first_id bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_messages text := partition_name('messages', p_first_id);
BEGIN
    IF to_regclass('public.' || v_messages) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE replace(replace($sql$
        CREATE TABLE public.NAME (LIKE public.messages INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
        ALTER TABLE public.NAME ADD CONSTRAINT NAME_pkey PRIMARY KEY (conversation_id, seq);
        CREATE UNIQUE INDEX NAME_id_key ON public.NAME (id);
        CREATE UNIQUE INDEX NAME_dedupe_key ON public.NAME (conversation_id, sender_id, client_message_id)
            INCLUDE (seq, id) WHERE client_message_id IS NOT NULL;
        CREATE INDEX NAME_by_parent ON public.NAME (parent_message_id, seq) INCLUDE (sender_id, id)
            WHERE parent_message_id IS NOT NULL;
        CREATE INDEX NAME_deleted ON public.NAME (conversation_id, seq) INCLUDE (sender_id, id)
            WHERE deleted_at IS NOT NULL AND message_type <> 'system';
        CREATE INDEX NAME_deleted_replies ON public.NAME (parent_message_id, seq) INCLUDE (sender_id, id)
            WHERE deleted_at IS NOT NULL AND parent_message_id IS NOT NULL;
        ALTER TABLE public.NAME ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE TABLE public.SEARCH (LIKE public.message_search INCLUDING DEFAULTS INCLUDING CONSTRAINTS
            INCLUDING INDEXES);
        ALTER TABLE public.SEARCH ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY$sql$,
        'NAME', v_messages), 'SEARCH', partition_name('message_search', p_first_id));
END $$;
