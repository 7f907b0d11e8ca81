-- Access keys of callers of the server: issued and revoked by the administrator, found and marked as used by guards.

CREATE OR REPLACE FUNCTION shown_access_key(p_key access_key) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT to_jsonb(p_key) - 'digest' || jsonb_build_object(
    'fingerprint', left(p_key.digest, 16),
    'used_at', (SELECT used_at FROM access_key_use WHERE access_key_use.name = p_key.name)
  )
$$;

CREATE OR REPLACE FUNCTION issue_key(
  p_name text, p_digest text, p_project text, p_role text, p_labels jsonb, p_expires_at timestamptz, p_actor text, p_reason text
) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := current_instant();
  issued access_key;
BEGIN
  LOCK TABLE administration IN SHARE ROW EXCLUSIVE MODE;   -- two keys with one name would both pass the next check
  IF EXISTS (SELECT FROM access_key WHERE name = p_name OR digest = p_digest) THEN
    PERFORM refuse('key_name_taken', jsonb_build_object('name', p_name));
  END IF;
  INSERT INTO access_key (name, digest, project, role, labels, created_at, expires_at, actor)
  VALUES (p_name, p_digest, p_project, p_role, p_labels, now, p_expires_at, p_actor) RETURNING * INTO issued;
  PERFORM administer(now, p_actor, 'issue_key', p_name, NULL, jsonb_build_object(
    'project', p_project, 'role', p_role, 'labels', p_labels, 'expires_at', instant_text(p_expires_at),
    'fingerprint', left(p_digest, 16)
  )::text, p_reason);
  RETURN shown_access_key(issued);
END $$;

CREATE OR REPLACE FUNCTION revoke_key(p_name text, p_actor text, p_reason text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := current_instant();
BEGIN
  UPDATE access_key SET revoked_at = now WHERE name = p_name AND revoked_at IS NULL;
  IF FOUND THEN
    PERFORM administer(now, p_actor, 'revoke_key', p_name, '{"revoked": false}', '{"revoked": true}', p_reason);
  ELSIF NOT EXISTS (SELECT FROM access_key WHERE name = p_name) THEN
    PERFORM refuse('unknown_access_key', jsonb_build_object(
      'name', p_name, 'known', (SELECT coalesce(jsonb_agg(name ORDER BY name), '[]') FROM access_key)
    ));
  END IF;
  RETURN (SELECT shown_access_key(access_key) FROM access_key WHERE name = p_name);
END $$;

CREATE OR REPLACE FUNCTION access_keys() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT shown_access_key(access_key) FROM access_key ORDER BY created_at, name
$$;

-- Returns null if no key has this digest.
CREATE OR REPLACE FUNCTION find_access_key(p_digest text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT shown_access_key(access_key) FROM access_key WHERE digest = p_digest
$$;

CREATE OR REPLACE FUNCTION mark_key_used(p_name text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  INSERT INTO access_key_use AS kept (name, used_at)
  SELECT name, current_instant() FROM access_key WHERE name = p_name
  ON CONFLICT (name) DO UPDATE SET used_at = greatest(kept.used_at, excluded.used_at)
$$;
