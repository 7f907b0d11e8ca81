-- Sessions of people who signed in to the pages of the server.

-- Begins a session of the access key with a digest, whose text the caller must know. Returns null if no valid key has it.
CREATE OR REPLACE FUNCTION begin_session(p_key_digest text, p_digest text, p_lasts interval) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := current_instant();
  key access_key;
  begun session;
BEGIN
  SELECT * INTO key FROM access_key
  WHERE digest = p_key_digest AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now);
  IF key.name IS NULL THEN
    RETURN NULL;
  END IF;
  DELETE FROM session WHERE digest IN (SELECT digest FROM session WHERE ends_at <= now FOR UPDATE SKIP LOCKED);
  DELETE FROM session WHERE digest IN (
    SELECT digest FROM session WHERE access_key = key.name ORDER BY created_at DESC, digest OFFSET 49
  );
  INSERT INTO session (digest, access_key, created_at, used_at, ends_at)
  VALUES (p_digest, key.name, now, now, now + least(p_lasts, '365 days')) RETURNING * INTO begun;
  RETURN to_jsonb(begun) - 'digest' || jsonb_build_object('key', shown_access_key(key));
END $$;

-- Returns null if there is no such session, or if it or its access key has ended.
CREATE OR REPLACE FUNCTION find_session(p_digest text, p_idle interval) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT to_jsonb(session) - 'digest' || jsonb_build_object('key', shown_access_key(known))
  FROM session JOIN access_key AS known ON known.name = session.access_key, (SELECT current_instant() AS now) AS present
  WHERE session.digest = p_digest AND session.ends_at > now AND session.used_at > now - p_idle
    AND known.revoked_at IS NULL AND (known.expires_at IS NULL OR known.expires_at > now)
$$;

CREATE OR REPLACE FUNCTION keep_session(p_digest text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  UPDATE session SET used_at = greatest(used_at, current_instant()) WHERE digest = p_digest AND ends_at > current_instant()
$$;

CREATE OR REPLACE FUNCTION end_session(p_digest text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  DELETE FROM session WHERE digest = p_digest
$$;
