-- Sets money aside in every bucket of the budgets that match a request's labels, or in none.
CREATE OR REPLACE FUNCTION reserve(p_id text, p_order jsonb, p_candidates jsonb, p_expires_after interval)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  is_known boolean;       -- whether the key was used before
  is_outdated boolean;    -- whether other budgets are in force
  is_frozen boolean;      -- whether spending is frozen
  is_late boolean;        -- whether an expired reservation has not been released yet
  before reservation;
  holds boolean;          -- whether the request's windows and price are valid now
  claimed budget[];       -- the budgets that match
  rates numeric[];        -- their accounting rates; null where the currency is the same
  amounts bigint[];       -- the amount of a candidate in each of them
  found record;
  in_force record;
  bucket_ids bigint[];    -- one for each of them; null where the budget has no window now
  created bigint[];       -- the buckets that this call has created
  lacking jsonb;          -- the shortfalls for the first candidate
  place_chosen integer := 0;
  chosen jsonb;
  attempt integer;
  buckets bigint[] := '{}';
  held bigint[] := '{}';
  nothing bigint[] := '{}';
  alerts jsonb;
BEGIN
  PERFORM require_order(p_order);
  PERFORM require_interval(p_expires_after);
  PERFORM lock_key(p_order->>'project', p_order->>'key');
  -- One statement, because every reservation needs it and usually there is nothing to do.
  SELECT EXISTS (SELECT FROM reservation WHERE project = p_order->>'project' AND key = p_order->>'key'),
    (SELECT digest FROM budget_revision ORDER BY revision DESC LIMIT 1) IS DISTINCT FROM p_order->>'budgets',
    EXISTS (SELECT FROM frozen), is_late(now)
  INTO is_known, is_outdated, is_frozen, is_late;
  IF is_known THEN
    SELECT * INTO before FROM reservation
    WHERE project = p_order->>'project' AND key = p_order->>'key' ORDER BY id = p_id DESC, attempt DESC LIMIT 1
    FOR UPDATE;
  END IF;
  IF before.id = p_id THEN   -- the same call again, because its response was lost
    RETURN jsonb_build_object('reserved', shown(before, now), 'replayed', false, 'alerts', alerts_of(p_id));
  END IF;
  IF is_outdated THEN
    RETURN outdated(p_order->>'budgets');
  END IF;
  IF is_frozen AND (before.id IS NULL OR (before.fingerprint = p_order->>'fingerprint' AND before.state IN ('reserved', 'released'))) THEN
    PERFORM refuse('frozen', frozen_refusal());
  END IF;
  holds := coalesce(
    now >= (p_order->'holds'->>0)::timestamptz AND now < (p_order->'holds'->>1)::timestamptz, false
  );
  IF holds AND (before.id IS NULL OR before.fingerprint = p_order->>'fingerprint') THEN
    claimed := matching(p_order->'labels');
    found := buckets_of(claimed, p_order->'labels', now);
    bucket_ids := found.ids;
    created := found.created;
  END IF;
  IF is_late THEN
    PERFORM expire(now, bucket_ids);
  ELSE
    PERFORM lock_buckets(bucket_ids);
  END IF;
  IF before.id IS NOT NULL THEN
    before := reread(before.id);
    IF before.fingerprint <> p_order->>'fingerprint' THEN
      PERFORM refuse('key_taken', jsonb_build_object('reservation', shown(before, now)));
    ELSIF before.state = 'reserved' THEN
      DELETE FROM bucket WHERE id = ANY (created);
      RETURN jsonb_build_object('reserved', shown(before, now), 'replayed', true, 'alerts', jsonb_build_array());
    ELSIF before.state <> 'released' THEN
      PERFORM refuse_state('key_sent', before, now);
    END IF;
  END IF;

  IF NOT holds THEN
    RETURN jsonb_build_object('mistimed', now);
  END IF;
  SELECT may_be_unmatched, accounting_rates, projects, require_labels INTO in_force
  FROM budget_revision ORDER BY revision DESC LIMIT 1;
  IF NOT coalesce(in_force.projects ? (p_order->>'project'), true)
    OR EXISTS (SELECT 1 FROM jsonb_array_elements_text(in_force.require_labels) AS label WHERE NOT p_order->'labels' ? label)
  THEN   -- a guard refuses such a request itself, and says why
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'the budgets do not let this project or these labels spend';
  END IF;
  IF array_remove(bucket_ids, NULL) = '{}' AND NOT in_force.may_be_unmatched THEN
    RETURN jsonb_build_object('refused', jsonb_build_array());
  END IF;
  chosen := p_candidates->0;
  rates := rates_of(chosen->'terms'->>'currency', claimed, in_force.accounting_rates);
  amounts := amounts_of((chosen->>'reserved')::bigint, rates);
  lacking := without_room(bucket_ids, amounts);
  IF lacking <> '[]' THEN
    chosen := NULL;
    IF NOT lacking @? '$[*] ? (@.may_cap == false)' THEN   -- one budget that does not cap is enough to refuse
      FOR place IN 1..jsonb_array_length(p_candidates) - 1 LOOP
        chosen := p_candidates->place;
        rates := rates_of(chosen->'terms'->>'currency', claimed, in_force.accounting_rates);
        amounts := amounts_of((chosen->>'reserved')::bigint, rates);
        IF without_room(bucket_ids, amounts) = '[]' THEN
          place_chosen := place;
          EXIT;
        END IF;
        chosen := NULL;
      END LOOP;
    END IF;
    IF chosen IS NULL THEN
      DELETE FROM bucket WHERE id = ANY (created);
      RETURN jsonb_build_object('refused', lacking);
    END IF;
  END IF;

  attempt := coalesce(before.attempt, 0) + 1;
  PERFORM insert_reservation(p_id, p_order->>'key', attempt, p_order, chosen, now, now + p_expires_after);
  FOR place IN 1..cardinality(bucket_ids) LOOP
    IF bucket_ids[place] IS NOT NULL THEN
      INSERT INTO reservation_line (reservation, bucket, held, rate)
      VALUES (p_id, bucket_ids[place], amounts[place], rates[place]);
      buckets := buckets || bucket_ids[place];
      held := held || amounts[place];
      nothing := nothing || 0::bigint;
    END IF;
  END LOOP;
  alerts := jsonb_build_array();
  IF enter(now, 'reserve', p_id, buckets, held, nothing, instant_text(now + p_expires_after)) THEN
    PERFORM alert_thresholds(now, p_id, p_id, buckets, held, nothing);
    alerts := alerts_of(p_id);
  END IF;
  -- The caller knows the other columns.
  RETURN jsonb_build_object(
    'candidate', place_chosen, 'attempt', attempt, 'created_at', now, 'deadline', now + p_expires_after,
    'alerts', alerts
  );
END $$;

-- Returns a shortfall for every bucket that these amounts do not fit into.
CREATE OR REPLACE FUNCTION without_room(p_buckets bigint[], p_amounts bigint[]) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  needed bigint;
  fits boolean := true;
BEGIN
  FOR place IN 1..cardinality(p_buckets) LOOP   -- usually everything fits, and this loop finds that faster
    EXIT WHEN NOT fits;
    needed := p_amounts[place];
    SELECT cap_at(bucket.budget, bucket.cap, current_instant())::numeric - held - spent >= needed AND needed <= coalesce(max_request, needed) INTO fits
    FROM bucket JOIN budget ON budget.name = bucket.budget WHERE bucket.id = p_buckets[place];
    fits := coalesce(fits, true);   -- the budget has no window now
  END LOOP;
  IF fits THEN
    RETURN '[]';
  END IF;
  RETURN coalesce(jsonb_agg(jsonb_build_object(
    'budget', name, 'labels', labels, 'requested', amount, 'available', cap::numeric - held - spent,
    'max_request', max_request, 'currency', currency, 'window_end', window_end, 'may_cap', may_cap
  ) ORDER BY place), '[]')
  FROM (
    SELECT budget.name, labels, cap_at(budget.name, bucket.cap, current_instant()) AS cap, held, spent, max_request, may_cap, bucket.currency, window_end, part.place, amount
    FROM unnest(p_buckets, p_amounts) WITH ORDINALITY AS part (bucket, amount, place)
    JOIN bucket ON bucket.id = part.bucket
    JOIN budget ON budget.name = bucket.budget
  ) AS asked
  WHERE cap::numeric - held - spent < amount OR amount > max_request;
END $$;
