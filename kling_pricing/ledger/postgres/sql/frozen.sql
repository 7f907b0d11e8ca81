-- Freezes and thaws all spending, for the administrator. The journal keeps who did so, and why.

CREATE OR REPLACE FUNCTION freeze_all(p_actor text, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC'
SET lock_timeout = '5s' AS $$   -- every verb waits behind it meanwhile; see LOCK_WAIT_S
DECLARE
  now timestamptz;
BEGIN
  LOCK TABLE budget_revision IN EXCLUSIVE MODE;   -- no verb runs meanwhile, so nothing is admitted afterwards
  now := current_instant();
  INSERT INTO frozen (scope, actor, reason, frozen_at) VALUES ('all', p_actor, p_reason, now) ON CONFLICT DO NOTHING;
  IF FOUND THEN
    PERFORM enter(now, 'freeze', NULL, NULL, NULL, NULL, p_actor || ': ' || p_reason);
    PERFORM administer(now, p_actor, 'freeze', 'all', '{"frozen":false}', '{"frozen":true}', p_reason);
  END IF;
END $$;

CREATE OR REPLACE FUNCTION thaw_all(p_actor text, p_reason text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
BEGIN
  DELETE FROM frozen WHERE scope = 'all';
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM enter(now, 'thaw', NULL, NULL, NULL, NULL, p_actor || ': ' || p_reason);
  PERFORM administer(now, p_actor, 'thaw', 'all', '{"frozen":true}', '{"frozen":false}', p_reason);
  RETURN true;
END $$;

-- Returns the refusal of a request while spending is frozen, or null if it is not.
CREATE OR REPLACE FUNCTION frozen_refusal() RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('kind', 'frozen', 'actor', actor, 'reason', reason, 'frozen_at', frozen_at)
  FROM frozen WHERE scope = 'all'
$$;
