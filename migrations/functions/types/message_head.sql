-- The columns of a message that a mutation may read. The text is not among them: chat_writer cannot read texts.

CREATE TYPE message_head AS (
    id bigint, seq bigint, sender_id bigint, parent_message_id bigint, created_at timestamptz, edited_at timestamptz,
    deleted_at timestamptz, message_type message_type);
