-- Binds a reservation to the provider's task, and applies earlier observations of that task.
-- `p_compared` has the comparisons of observations with the quote: the observation's id -> [made, remark].
CREATE OR REPLACE FUNCTION bind(p_call text, p_ref text[], p_task_id text, p_compared jsonb)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  kept reservation := lookup(p_ref);
BEGIN
  PERFORM require_amount((comparison.value->>0)::numeric) FROM jsonb_each(p_compared) AS comparison;
  PERFORM lock_task(kept.provider, p_task_id);
  kept := locked(p_ref);
  RETURN bound(p_call, kept, p_task_id, p_compared, now);
END $$;

-- Does the work of `bind`. The caller holds the locks of the reservation and of its task.
CREATE OR REPLACE FUNCTION bound(
  p_call text, p_kept reservation, p_task_id text, p_compared jsonb, p_now timestamptz
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  other reservation;
  seen observation;
  uncompared jsonb;
BEGIN
  IF p_kept.task_id = p_task_id THEN
    RETURN jsonb_build_object('reservation', shown(p_kept, p_now), 'alerts', alerts_of(p_call));
  ELSIF p_kept.task_id IS NOT NULL THEN
    PERFORM refuse_state('bound_to_another', p_kept, p_now, jsonb_build_object('task_id', p_task_id));
  ELSIF p_kept.dispatched_at IS NULL THEN
    PERFORM refuse_state('bound_unsent', p_kept, p_now, jsonb_build_object('task_id', p_task_id));
  END IF;
  other := lookup(ARRAY[p_kept.provider, p_task_id]);
  IF other.id IS NOT NULL THEN
    PERFORM refuse_state('task_of_another', p_kept, p_now, jsonb_build_object('task_id', p_task_id, 'other', other.id));
  END IF;
  SELECT jsonb_agg(to_jsonb(observation) ORDER BY id) INTO uncompared FROM observation
  WHERE provider = p_kept.provider AND task_id = p_task_id
    AND needs_comparison(state, charge, duration_s, facts) AND NOT p_compared ? id::text;
  IF uncompared IS NOT NULL THEN
    RETURN jsonb_build_object('reservation', shown(p_kept, p_now), 'uncompared', uncompared);
  END IF;
  UPDATE reservation SET task_id = p_task_id, doubted = false,
    state = CASE state WHEN 'dispatching' THEN 'bound' ELSE state END
  WHERE id = p_kept.id;
  PERFORM enter(p_now, 'bind', p_kept.id, NULL, NULL, NULL, p_task_id);
  FOR seen IN
    SELECT * FROM observation WHERE provider = p_kept.provider AND task_id = p_task_id ORDER BY id
  LOOP
    PERFORM take_up(p_call, reread(p_kept.id), seen.state, seen.charge, p_compared->seen.id::text, p_now);
  END LOOP;
  UPDATE observation SET applied_to = p_kept.id WHERE provider = p_kept.provider AND task_id = p_task_id;
  RETURN jsonb_build_object('reservation', shown(reread(p_kept.id), p_now), 'alerts', alerts_of(p_call));
END $$;

-- Whether an observation states something that can contradict the quote, as `outcomes.needs_comparison`.
CREATE OR REPLACE FUNCTION needs_comparison(p_state text, p_charge jsonb, p_duration_s numeric, p_facts jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(p_state = 'succeeded' AND (p_facts IS NOT NULL OR p_duration_s <> 0 OR p_charge ? 'list_price'), false)
$$;
