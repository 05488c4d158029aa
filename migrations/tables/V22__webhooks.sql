-- Outgoing webhooks.
--
-- The change log is the outbox. An event is in the log from the commit on, and a webhook owes a delivery for every
-- event after its cursor in that conversation. So an event and its delivery are committed together, and the commit of a
-- message does nothing for webhooks. webhook_deliveries has a row for each event that was taken from the log.
--
-- Invariants:
-- - a cursor moves in the transaction that adds the rows of the events it passes, so no event is passed over;
-- - a delivery holds no text. Its body is read from the log when it is sent, through the row policies of the webhook's
--   owner. So a deleted message is not sent, and an owner who leaves a conversation receives nothing more from it.

CREATE SEQUENCE webhook_ids AS bigint MAXVALUE 9007199254740991;

CREATE TABLE webhooks (
    id                 bigint      PRIMARY KEY DEFAULT nextval('webhook_ids'),
    owner_id           bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    -- Without one, the webhook receives the events of every conversation of its owner.
    conversation_id    bigint      REFERENCES conversations ON DELETE CASCADE,
    url                text        NOT NULL CHECK (octet_length(url) BETWEEN 8 AND 2000),
    -- Names of events; empty means all.
    events             text[]      NOT NULL DEFAULT '{}' CHECK (cardinality(events) <= 50),
    -- Whether the events of a conversation arrive in the order of seq.
    is_ordered         boolean     NOT NULL DEFAULT false,
    -- The secret that signs, encrypted; and the one before it, which signs too until it expires.
    key_id             text        NOT NULL,
    sealed             bytea       NOT NULL,
    previous_key_id    text,
    previous_sealed    bytea,
    previous_until     timestamptz,
    created_at         timestamptz NOT NULL DEFAULT now(),
    -- Counts the changes by people. What a server has found out about the receiver before a change does not count.
    version            bigint      NOT NULL DEFAULT 0,
    disabled_at        timestamptz,
    disabled_reason    text        CHECK (char_length(disabled_reason) <= 200),
    -- The circuit breaker: failed attempts in a row, and until when nothing is sent.
    failures           integer     NOT NULL DEFAULT 0 CHECK (failures >= 0),
    paused_until       timestamptz,
    last_success_at    timestamptz,
    last_failure_at    timestamptz,
    CHECK ((previous_sealed IS NULL) = (previous_key_id IS NULL)),
    CHECK ((previous_sealed IS NULL) = (previous_until IS NULL))
);
CREATE INDEX webhooks_by_owner ON webhooks (owner_id, id);
CREATE INDEX webhooks_by_conversation ON webhooks (conversation_id, id);

-- How far a webhook has taken events from the log of a conversation.
CREATE TABLE webhook_cursors (
    webhook_id      bigint NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    conversation_id bigint NOT NULL REFERENCES conversations ON DELETE CASCADE,
    seq             bigint NOT NULL CHECK (seq >= 0),
    PRIMARY KEY (webhook_id, conversation_id)
);
CREATE INDEX webhook_cursors_by_conversation ON webhook_cursors (conversation_id, webhook_id);

CREATE TABLE webhook_deliveries (
    id              bigint      GENERATED ALWAYS AS IDENTITY,
    webhook_id      bigint      NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    conversation_id bigint      NOT NULL,
    seq             bigint      NOT NULL,
    kind            text        NOT NULL,
    -- dead: given up. withdrawn: its owner can no longer read the event.
    state           text        NOT NULL DEFAULT 'pending'
                                CHECK (state IN ('pending', 'delivered', 'dead', 'withdrawn')),
    attempts        integer     NOT NULL DEFAULT 0,
    next_at         timestamptz NOT NULL DEFAULT now(),
    -- The last attempts: {at, status, ms, error}.
    log             jsonb       NOT NULL DEFAULT '[]',
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- When it began to wait, which a replay renews.
    queued_at       timestamptz NOT NULL DEFAULT now(),
    settled_at      timestamptz,
    PRIMARY KEY (webhook_id, conversation_id, seq)
);
CREATE INDEX webhook_deliveries_by_time ON webhook_deliveries (webhook_id, created_at);
CREATE UNIQUE INDEX webhook_deliveries_by_id ON webhook_deliveries (webhook_id, id);
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (webhook_id, next_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_by_end ON webhook_deliveries (state, settled_at) WHERE settled_at IS NOT NULL;

ALTER TABLE webhooks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE webhook_cursors ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE webhook_deliveries ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

GRANT USAGE ON SEQUENCE webhook_ids TO chat_writer;
GRANT SELECT, INSERT, DELETE ON webhooks, webhook_cursors, webhook_deliveries TO chat_writer;
GRANT UPDATE (url, events, is_ordered, key_id, sealed, previous_key_id, previous_sealed, previous_until, version,
    disabled_at, disabled_reason, failures, paused_until, last_success_at, last_failure_at) ON webhooks TO chat_writer;
GRANT UPDATE (seq) ON webhook_cursors TO chat_writer;
GRANT UPDATE (state, attempts, next_at, log, queued_at, settled_at) ON webhook_deliveries TO chat_writer;

CREATE POLICY writer_manages ON webhooks TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_moves ON webhook_cursors TO chat_writer USING (true) WITH CHECK (true);
CREATE POLICY writer_delivers ON webhook_deliveries TO chat_writer USING (true) WITH CHECK (true);
