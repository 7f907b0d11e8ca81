-- Corrections: settlements and records whose author the ledger keeps. A repeated call changes nothing, and adds no action.

-- Returns the amount at which a reservation is settled, as the text of an administrative action; see actions.amount_of.
CREATE OR REPLACE FUNCTION amount_text(p_kept reservation) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN p_kept.billed IS NOT NULL AND p_kept.basis IS NOT NULL THEN
    '{"amount":"' || trim_scale(from_nanos(p_kept.billed)) || '","basis":"' || p_kept.basis || '","currency":"'
      || p_kept.currency || '"}'
  END
$$;

CREATE OR REPLACE FUNCTION settle_by(
  p_call text, p_ref text[], p_amount numeric, p_basis text, p_actor text, p_reason text
) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  before reservation := locked(p_ref);
  after reservation;
  result jsonb := settle(p_call, p_ref, p_amount, p_basis);
BEGIN
  after := reread(before.id);
  IF (after.billed, after.basis) IS DISTINCT FROM (before.billed, before.basis) THEN
    PERFORM administer(now, p_actor, 'settle', after.id, amount_text(before), amount_text(after), p_reason);
  END IF;
  RETURN result;
END $$;

CREATE OR REPLACE FUNCTION record_by(
  p_id text, p_order jsonb, p_spent jsonb, p_task_id text, p_at timestamptz, p_actor text, p_reason text
) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  was_known boolean;
  result jsonb;
  recorded reservation;
BEGIN
  PERFORM lock_task(p_order->>'provider', p_task_id);
  was_known := (lookup(ARRAY[p_order->>'provider', p_task_id])).id IS NOT NULL;
  result := record_spend(p_id, p_order, p_spent, p_task_id, p_at);
  IF NOT was_known AND result ? 'reservation' THEN
    recorded := reread(result->'reservation'->>'id');
    PERFORM administer(now, p_actor, 'record', recorded.id, NULL, amount_text(recorded), p_reason);
  END IF;
  RETURN result;
END $$;
