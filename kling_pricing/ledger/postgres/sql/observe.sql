-- Stores an observation of a task, and applies it to the task's reservation. If the task has no reservation yet,
-- `bind` applies the observation later.
CREATE OR REPLACE FUNCTION observe(
  p_call text, p_ref text[], p_provider text, p_task_id text, p_state text, p_amount numeric, p_amount_unit text,
  p_duration_s numeric, p_model text
) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  task text[] := ARRAY[p_provider, p_task_id];
  kept reservation;
  is_new boolean;
  refusal text;
BEGIN
  PERFORM lock_task(p_provider, p_task_id);   -- so that either `bind` sees the observation, or this call sees the binding
  INSERT INTO observation (provider, task_id, state, amount, amount_unit, duration_s, model, seen_at)
  VALUES (p_provider, p_task_id, p_state, p_amount, CASE WHEN p_amount IS NOT NULL THEN p_amount_unit END,
    p_duration_s, p_model, now)
  ON CONFLICT DO NOTHING;
  is_new := FOUND;
  IF p_ref IS NULL THEN
    kept := lookup(task);
    IF kept.id IS NULL THEN
      RETURN NULL;
    END IF;
  END IF;
  kept := locked(coalesce(p_ref, task));
  IF kept.provider <> p_provider THEN
    RETURN jsonb_build_object('refusal', jsonb_build_object(   -- commits the observation: the task may be billed
      'kind', 'other_provider', 'reservation', shown(kept, now), 'provider', p_provider
    ));
  END IF;
  IF kept.task_id = p_task_id THEN
    IF is_new THEN
      PERFORM take_up(p_call, kept, p_state, p_amount, p_amount_unit, now);
      kept := reread(kept.id);
    END IF;
    RETURN jsonb_build_object('reservation', shown(kept, now), 'alerts', alerts_of(p_call));
  END IF;
  BEGIN
    RETURN bound(p_call, kept, p_task_id, now);
  EXCEPTION WHEN SQLSTATE 'KP001' THEN   -- undoes only `bound`; commits the observation, because the task may be billed
    GET STACKED DIAGNOSTICS refusal = PG_EXCEPTION_DETAIL;
  END;
  RETURN jsonb_build_object('refusal', refusal::jsonb);
END $$;

-- Applies an observation to the locked reservation of its task. An observation is applied only once, because its effect
-- could differ later.
CREATE OR REPLACE FUNCTION take_up(
  p_call text, p_kept reservation, p_state text, p_amount numeric, p_amount_unit text, p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  charged numeric := CASE
    WHEN p_amount_unit = p_kept.currency THEN p_amount
    WHEN p_amount_unit IS NOT DISTINCT FROM p_kept.statement_unit THEN p_amount * p_kept.unit_value
  END;                    -- the stated charge in the reservation's currency; null if there is none that can be converted
BEGIN
  IF charged > 4000000000 THEN   -- a higher amount must be a mistake
    charged := NULL;
  END IF;
  IF p_state IS NULL OR p_state NOT IN ('succeeded', 'failed', 'cancelled') THEN
    RETURN;
  ELSIF charged > 0 OR (p_state = 'succeeded' AND charged IS NOT NULL) THEN
    PERFORM spend(p_call, p_kept, charged, 'response', p_now);
  ELSIF p_state = 'succeeded' OR (charged IS NULL AND p_kept.failed_tasks <> 'refunded') THEN
    PERFORM spend(p_call, p_kept, from_nanos(p_kept.expected), 'quote', p_now);
  ELSIF p_kept.state = 'settled' THEN   -- it was not charged after all
    PERFORM spend(p_call, p_kept, 0, 'response', p_now);
  ELSIF p_kept.state <> 'released' THEN
    PERFORM give_back(p_kept.id, p_state, 'release', p_now);
  END IF;
END $$;
