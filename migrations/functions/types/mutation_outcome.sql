-- What one mutation did, and whom the server tells about it.
-- events: [{seq, kind, payload, created_at}], in the order of the log. result: the data of the acknowledgement.
-- gained, lost: users whose membership changed. signal: {kind, payload} of an event without seq.
-- notices: [{users, kind, payload}] for the connections of those users. parted: a user whom the actor has blocked.

CREATE TYPE mutation_outcome AS (
    conversation_id bigint, events jsonb, result jsonb, gained bigint[], lost bigint[], signal jsonb, notices jsonb,
    parted bigint);
