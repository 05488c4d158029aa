-- Whether a file has content on the disk or in the store, or will have some.

CREATE FUNCTION has_content(f files) RETURNS boolean LANGUAGE sql IMMUTABLE AS
    $$ SELECT f.state IN ('uploading', 'scanning', 'ready') $$;
