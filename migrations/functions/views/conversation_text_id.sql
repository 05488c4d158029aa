-- The text form of a conversation's id. The two low bits are the kind, so no lookup is needed.

CREATE FUNCTION conversation_text_id(id bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT CASE id & 3 WHEN 0 THEN 'dm_' WHEN 1 THEN 'group_' ELSE 'room_' END || id $$;
