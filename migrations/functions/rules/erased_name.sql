-- What an account is called whose person was erased. Nobody can register such a name (control/validate.rs).

CREATE FUNCTION erased_name(p_user bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT 'deleted-' || p_user $$;
