-- What imports of other chat servers have written, so that the same dump is never imported twice; docs/migration.md
-- describes them. Messages need no row here: their client_message_id names the row that they come from.

CREATE TABLE import_ids (
    -- The name of the old database, as the operator gave it.
    source    text   NOT NULL CHECK (char_length(source) BETWEEN 1 AND 20),
    -- What it is, and the generation of its table: user:1, room:4, file:1.
    kind      text   NOT NULL CHECK (char_length(kind) BETWEEN 1 AND 20),
    legacy_id text   NOT NULL,
    -- Its id here.
    id        bigint NOT NULL,
    PRIMARY KEY (source, kind, legacy_id)
);

-- Completed imports.
CREATE TABLE import_runs (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source      text        NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now(),
    summary     jsonb       NOT NULL
);

-- The owner imports, and suspends this for its own transaction. Nobody else has any right to these tables.
ALTER TABLE import_ids ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE import_runs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
