-- A file as the protocol shows it.

CREATE FUNCTION file_json(f files) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object('file_id', f.id, 'name', f.name, 'media_type', coalesce(f.media_type, f.declared_type),
                              'size', f.size, 'state', f.state, 'width', f.width, 'height', f.height))
$$;
