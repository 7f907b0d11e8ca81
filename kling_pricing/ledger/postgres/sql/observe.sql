-- Stores an observation of a task, and applies it to the task's reservation. If the task has no reservation yet,
-- `bind` applies the observation later. `p_compared` is its comparison with the quote: [made, remark].
CREATE OR REPLACE FUNCTION observe(
  p_call text, p_ref text[], p_provider text, p_task_id text, p_state text, p_charge jsonb, p_duration_s numeric,
  p_model text, p_facts jsonb, p_compared jsonb
) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  task text[] := ARRAY[p_provider, p_task_id];
  kept reservation;
  stored bigint;
  refusal text;
BEGIN
  PERFORM require_amount((p_compared->>0)::numeric);
  PERFORM lock_task(p_provider, p_task_id);   -- so that either `bind` sees the observation, or this call sees the binding
  IF p_compared IS NULL AND needs_comparison(p_state, p_charge, p_duration_s, p_facts) THEN
    kept := lookup(task);
    IF kept.id IS NOT NULL AND (p_ref IS NULL OR p_ref IN (task, ARRAY[kept.id])) THEN
      RETURN jsonb_build_object('reservation', shown(kept, now), 'uncompared', '[]'::jsonb);
    END IF;
  END IF;
  INSERT INTO observation (provider, task_id, state, charge, duration_s, model, facts, seen_at, seal)
  VALUES (
    p_provider, p_task_id, p_state, p_charge, p_duration_s, p_model, p_facts, now,
    observation_sealed(p_provider, p_task_id, p_state, p_charge, p_duration_s, p_model, p_facts, now)
  )
  ON CONFLICT DO NOTHING;
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
    -- An equal observation that was refused earlier was stored but not applied. The comparisons are those of the index
    -- `observation_once`.
    UPDATE observation SET applied_to = kept.id
    WHERE provider = p_provider AND task_id = p_task_id AND state IS NOT DISTINCT FROM p_state
      AND charge::text IS NOT DISTINCT FROM p_charge::text AND duration_s IS NOT DISTINCT FROM p_duration_s
      AND facts::text IS NOT DISTINCT FROM p_facts::text AND applied_to IS NULL
    RETURNING id INTO stored;
    IF stored IS NOT NULL THEN
      PERFORM take_up(p_call, kept, p_state, p_charge, p_compared, now);
      kept := reread(kept.id);
    END IF;
    RETURN jsonb_build_object('reservation', shown(kept, now), 'alerts', alerts_of(p_call));
  END IF;
  BEGIN
    RETURN bound(p_call, kept, p_task_id, '{}', now);
  EXCEPTION WHEN SQLSTATE 'KP001' THEN   -- undoes only `bound`; commits the observation, because the task may be billed
    GET STACKED DIAGNOSTICS refusal = PG_EXCEPTION_DETAIL;
  END;
  RETURN jsonb_build_object('refusal', refusal::jsonb);
END $$;

-- Applies an observation, and its comparison with the quote, to the locked reservation of its task. An observation is
-- applied only once, because its effect could differ later. The rules are those of `outcomes.outcome`.
CREATE OR REPLACE FUNCTION take_up(
  p_call text, p_kept reservation, p_state text, p_charge jsonb, p_compared jsonb, p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  made numeric := p_compared->>0;
  charged numeric;
  unclear text;
BEGIN
  IF p_state IS NULL OR p_state NOT IN ('succeeded', 'failed', 'cancelled') THEN
    RETURN;
  END IF;
  SELECT amount, reason INTO charged, unclear FROM charged_amount(p_kept, p_charge);
  IF unclear IS NOT NULL THEN
    PERFORM keep_open(p_call, p_kept, unclear, p_now);
  ELSIF charged > 0 OR (p_state = 'succeeded' AND charged IS NOT NULL) THEN
    PERFORM spend(p_call, p_kept, charged, 'response', p_now);
  ELSIF p_state = 'succeeded' AND made IS NOT NULL THEN
    PERFORM spend(p_call, p_kept, made, 'response', p_now);
  ELSIF p_state = 'succeeded' OR (charged IS NULL AND p_kept.failed_tasks <> 'refunded') THEN
    PERFORM spend(p_call, p_kept, from_nanos(p_kept.expected), 'quote', p_now);
  ELSIF p_kept.state = 'settled' THEN   -- it was not charged after all
    PERFORM spend(p_call, p_kept, 0, 'response', p_now);
  ELSIF p_kept.state <> 'released' THEN
    PERFORM give_back(p_kept.id, p_state, 'release', p_now);
  END IF;
  IF p_compared->>1 IS NOT NULL THEN
    PERFORM alert_charge(p_now, p_call, p_kept.id, p_compared->>1);
  END IF;
END $$;

-- The exact sum of a charge's parts in the reservation's currency, or why it is not known; both null: no charge.
-- The rules and the words are those of `outcomes.charged_amount`.
CREATE OR REPLACE FUNCTION charged_amount(p_kept reservation, p_charge jsonb, OUT amount numeric, OUT reason text)
LANGUAGE plpgsql AS $$
DECLARE
  part jsonb;
  unit_value numeric;
BEGIN
  reason := p_charge->>'problem';
  IF p_charge IS NULL OR reason IS NOT NULL THEN
    RETURN;
  END IF;
  amount := 0;
  FOR part IN SELECT value FROM jsonb_array_elements(p_charge->'parts') WITH ORDINALITY ORDER BY ordinality LOOP
    CONTINUE WHEN (part->>0)::numeric = 0;
    unit_value := value_of(p_kept, part->>1);
    IF unit_value IS NULL THEN
      amount := NULL;
      reason := why_unclear(p_kept, part->>0, part->>1);
      RETURN;
    END IF;
    amount := amount + (part->>0)::numeric * unit_value;
  END LOOP;
  IF amount > 4000000000 OR amount > from_nanos(p_kept.reserved) AND EXISTS (
    SELECT 1 FROM reservation_line WHERE reservation = p_kept.id AND amount * rate > 4000000000
  ) THEN
    reason := 'the charge of ' || trim_scale(amount) || ' ' || p_kept.currency || ' is implausibly high';
    amount := NULL;
  END IF;
END $$;

-- The value of a unit in the reservation's currency; null: it is not known.
CREATE OR REPLACE FUNCTION value_of(p_kept reservation, p_unit text) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN p_unit = p_kept.currency OR (p_unit = 'cash' AND p_kept.account_currency = p_kept.currency) THEN 1
    WHEN p_unit = p_kept.statement_unit THEN p_kept.unit_value
    WHEN p_kept.pack_units ? p_unit THEN (p_kept.pack_units->>p_unit)::numeric
    WHEN p_unit NOT IN ('unit', 'video') THEN NULL
    WHEN p_kept.statement_unit IN ('unit', 'video') THEN p_kept.unit_value
    ELSE coalesce(p_kept.pack_units->>'video', p_kept.pack_units->>'unit')::numeric
  END
$$;

CREATE OR REPLACE FUNCTION why_unclear(p_kept reservation, p_amount text, p_unit text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN p_unit = 'cash' AND p_kept.account_currency IS NULL THEN
      p_amount || ' was paid in money, and the currency of the account is not known; set account_currency in the price table'
    WHEN p_unit = 'cash' OR p_unit ~ '^[A-Z]{3}$' THEN
      p_amount || ' ' || CASE p_unit WHEN 'cash' THEN p_kept.account_currency ELSE p_unit END
        || ' was paid, and the reservation is in ' || p_kept.currency
    ELSE p_amount || ' was paid in units of ' || p_unit || ', and the price table gives no value for that unit'
  END
$$;

-- Marks a locked reservation in doubt whose charge has no value here, unless its amount is known already.
CREATE OR REPLACE FUNCTION keep_open(p_call text, p_kept reservation, p_reason text, p_now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF p_kept.basis <> 'quote' THEN   -- not true if it is null
    RETURN;
  END IF;
  IF p_kept.state <> 'released' AND NOT coalesce(p_kept.doubted AND p_kept.reason = p_reason, false) THEN
    UPDATE reservation SET doubted = true, reason = p_reason WHERE id = p_kept.id;
    PERFORM enter(p_now, 'doubt', p_kept.id, NULL, NULL, NULL, p_reason);
  END IF;
  PERFORM alert_charge(p_now, p_call, p_kept.id, p_reason);
END $$;
