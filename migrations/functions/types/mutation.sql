-- A mutation as its function receives it: the command's name, the actor, the server's own key for it, the fields.

CREATE TYPE mutation AS (kind text, conversation_id bigint, actor_id bigint, id bigint, arguments jsonb);
