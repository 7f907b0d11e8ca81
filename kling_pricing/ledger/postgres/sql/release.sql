-- Releases the reserved money if the reservation is in one of these states. Has no effect if it is already released.
-- A reservation that was marked in doubt is released only if the states include 'in doubt'.
CREATE OR REPLACE FUNCTION release(p_ref text[], p_reason text, p_states text[])
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  kept reservation := locked(p_ref);
BEGIN
  IF kept.state = 'released' THEN
    RETURN shown(kept, now);
  ELSIF kept.state <> ALL (p_states) OR kept.state = 'settled' THEN
    PERFORM refuse_state('release', kept, now);
  ELSIF kept.state = 'dispatching' AND kept.doubted AND 'in doubt' <> ALL (p_states) THEN
    PERFORM refuse_state('doubted', kept, now);
  END IF;
  PERFORM give_back(kept.id, p_reason, 'release', now);
  RETURN shown(reread(kept.id), now);
END $$;
