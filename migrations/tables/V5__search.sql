-- Full text search. Words are found without case and accents in any language; prefixes, phrases and exclusions by
-- PostgreSQL's tsquery; substrings, and scripts that put no spaces between words, by trigrams.
--
-- A task of the I/O shard (storage/indexer.rs) writes the index behind the messages: analysing a text costs more than
-- committing it, and no sender waits for that. search_progress holds how far each conversation is indexed, so the next
-- start finds what is missing. A deletion removes a text from the index in its own transaction.

CREATE TABLE message_search (
    message_id      bigint      PRIMARY KEY,
    conversation_id bigint      NOT NULL,
    sender_id       bigint      NOT NULL,
    created_at      timestamptz NOT NULL,
    has_link        boolean     NOT NULL,
    has_file        boolean     NOT NULL,
    words           tsvector    NOT NULL,
    text            text        NOT NULL
);
CREATE INDEX message_search_by_words ON message_search USING gin (words);
CREATE INDEX message_search_by_place ON message_search (conversation_id, created_at, message_id);
CREATE INDEX message_search_by_sender ON message_search (sender_id, created_at, message_id);
CREATE INDEX message_search_by_time ON message_search (created_at, message_id);
-- Without pg_trgm a search finds whole words and beginnings of words only.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') THEN
        CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public;
        CREATE INDEX message_search_by_text ON message_search USING gin (text gin_trgm_ops);
    END IF;
END $$;

-- No foreign key: it would lock the conversation while its messages are indexed.
CREATE TABLE search_progress (
    conversation_id bigint PRIMARY KEY,
    indexed_seq     bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);

-- Users are found by the beginning of their user name (users_by_username_prefix) or of any word of their name.
CREATE INDEX users_by_name ON users USING gin (to_tsvector('public.veza', folded(display_name)));
