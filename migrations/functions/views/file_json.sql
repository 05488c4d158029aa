-- A file as the protocol shows it.

CREATE FUNCTION file_json(f files) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object(
        'file_id', f.id, 'name', f.name, 'media_type', coalesce(f.media_type, f.declared_type), 'size', f.size,
        'state', f.state, 'width', f.width, 'height', f.height, 'duration', f.duration, 'blurhash', f.blurhash,
        'animated', CASE WHEN f.animated THEN true END,
        'variants', CASE WHEN f.state = 'ready' THEN (
            SELECT jsonb_agg(jsonb_build_object('kind', v.kind, 'url', format('/files/%s/variants/%s', f.id, v.kind),
                       'media_type', v.media_type, 'width', v.width, 'height', v.height) ORDER BY v.size)
              FROM file_variants v WHERE v.file_id = f.id AND v.kind <> 'original') END))
$$;
