-- Marks a reservation in doubt: the provider may or may not have accepted the request. Has no effect if the outcome
-- is already known.
CREATE OR REPLACE FUNCTION doubt(p_ref text[], p_reason text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  kept reservation := locked(p_ref);
BEGIN
  IF kept.state = 'reserved' THEN
    PERFORM refuse_state('doubt', kept, now);
  ELSIF kept.state = 'dispatching' AND NOT (kept.doubted AND kept.reason = p_reason) THEN
    UPDATE reservation SET doubted = true, reason = p_reason WHERE id = kept.id RETURNING * INTO kept;
    PERFORM enter(now, 'doubt', kept.id, NULL, NULL, NULL, p_reason);
  END IF;
  RETURN shown(kept, now);
END $$;
