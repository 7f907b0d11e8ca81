-- Administrative actions: who changed what, when, and why.

-- Writes an action in the transaction that carries it out. One transaction at a time writes, because the seal of an
-- action depends on all earlier actions; see actions.action_seal.
CREATE OR REPLACE FUNCTION administer(
  p_now timestamptz, p_actor text, p_action text, p_subject text, p_old text, p_new text, p_reason text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  previous text;
BEGIN
  LOCK TABLE administration IN SHARE ROW EXCLUSIVE MODE;
  SELECT seal INTO previous FROM administration ORDER BY seq DESC LIMIT 1;
  INSERT INTO administration (at, actor, role, action, subject, old, new, reason, seal)
  VALUES (p_now, p_actor, session_user, p_action, p_subject, p_old, p_new, p_reason, left(encode(sha256(convert_to(
    array_to_string(ARRAY[
      coalesce(previous, ''), instant_text(p_now), p_actor, session_user, p_action, p_subject, coalesce(p_old, ''),
      coalesce(p_new, ''), coalesce(p_reason, '')
    ], E'\x1f'), 'UTF8')), 'hex'), 32));
END $$;

CREATE OR REPLACE FUNCTION administrative_actions() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT to_jsonb(administration) - 'seal' FROM administration ORDER BY seq
$$;
