-- Caps that replace the cap of a budget until an instant, for the administrator.

CREATE OR REPLACE FUNCTION cap_overlays() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT to_jsonb(cap_overlay) FROM cap_overlay ORDER BY budget
$$;

-- Puts an overlay in the place of the budget's earlier one, or ends that one if `p_cap` is null. Called between
-- `revision_begin` and the end of the transaction. Returns the alerts for the thresholds that balances already reach.
CREATE OR REPLACE FUNCTION set_cap(
  p_call text, p_budget text, p_cap bigint, p_until timestamptz, p_now timestamptz, p_actor text, p_reason text,
  p_old text, p_new text
) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  open bigint[] := ARRAY(SELECT id FROM bucket WHERE budget = p_budget AND window_end > p_now ORDER BY id);
BEGIN
  DELETE FROM cap_overlay WHERE budget = p_budget;
  IF p_cap IS NOT NULL THEN
    INSERT INTO cap_overlay (budget, cap, set_at, ends_at, actor, reason)
    VALUES (p_budget, p_cap, p_now, p_until, p_actor, p_reason);
  END IF;
  PERFORM administer(p_now, p_actor, 'set', p_budget, p_old, p_new, p_reason);
  PERFORM enter(p_now, 'set', NULL, NULL, NULL, NULL, p_actor || ': ' || coalesce(p_reason, 'no reason given'));
  PERFORM alert_thresholds(
    p_now, p_call, NULL, open,
    array_fill(0::bigint, ARRAY[cardinality(open)]), array_fill(1::bigint, ARRAY[cardinality(open)])
  );
  RETURN alerts_of(p_call);
END $$;

-- Ends the overlays of budgets that are no longer in force, and the one of a budget whose cap is changed for good.
CREATE OR REPLACE FUNCTION end_cap_overlays(p_budget text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  DELETE FROM cap_overlay WHERE budget = p_budget OR budget NOT IN (SELECT name FROM budget)
$$;
