-- Messages that a search found, the newest first, and the oldest message that it compared if it did not compare all.

CREATE TYPE searched AS (ids bigint[], times timestamptz[], stopped_id bigint, stopped_at timestamptz);
