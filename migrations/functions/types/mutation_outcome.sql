-- What one mutation did. Its function fills this, and apply_mutations returns it as columns of these names.
-- conversation_id: apply_mutations sets it; only create_conversation sets its own.
-- events: [{seq, kind, payload, created_at}], in the order of the log (append_event, append_system_message).
-- result: the data of the acknowledgement. seq: apply_mutations adds it to the result, unless it is NULL.
-- gained, lost: users whose membership changed. signal: {kind, payload, hidden_from} of an event without
-- seq, for all members but those of hidden_from.
-- notices: [{users, kind, payload}] for the connections of those users.
-- blocked: a user whom the actor has blocked; neither receives the other's presence any longer.

CREATE TYPE mutation_outcome AS (
    conversation_id bigint, events jsonb, result jsonb, seq bigint, gained bigint[], lost bigint[], signal jsonb,
    notices jsonb, blocked bigint);
