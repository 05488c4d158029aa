-- The sentence of a system message, for clients that do not know its kind. p_system is {kind, user, actor?}.

CREATE FUNCTION system_text(p_system jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN jsonb_typeof(p_system -> 'actor') = 'object'
                THEN format('%s %s %s', p_system #>> '{actor,display_name}', p_system ->> 'kind',
                            p_system #>> '{user,display_name}')
                ELSE format('%s %s', p_system #>> '{user,display_name}', p_system ->> 'kind') END
$$;
