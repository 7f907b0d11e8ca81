-- Sets money aside in every bucket that a request claims, or in none.
CREATE OR REPLACE FUNCTION reserve(p_id text, p_order jsonb, p_candidates jsonb, p_expires_after interval)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  is_known boolean;       -- whether the key was used before
  is_outdated boolean;    -- whether other budgets are in force
  is_late boolean;        -- whether an expired reservation has not been released yet
  before reservation;
  holds boolean;          -- whether the request's windows and price are valid now
  claimed record;
  bucket_ids bigint[];    -- by place of the claim; null where the claim does not apply
  created bigint[];       -- the buckets that this call has created
  lacking jsonb;          -- the shortfalls for the first candidate
  place_chosen integer := 0;
  chosen jsonb;
  attempt integer;
  amount bigint;
  buckets bigint[] := '{}';
  held bigint[] := '{}';
  nothing bigint[] := '{}';
  alerts jsonb;
BEGIN
  PERFORM lock_key(p_order->>'project', p_order->>'key');
  -- One statement, because every reservation needs it and usually there is nothing to do.
  SELECT EXISTS (SELECT FROM reservation WHERE project = p_order->>'project' AND key = p_order->>'key'),
    (SELECT digest FROM budget_revision ORDER BY revision DESC LIMIT 1) IS DISTINCT FROM p_order->>'budgets',
    is_late(now)
  INTO is_known, is_outdated, is_late;
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
  holds := coalesce(
    now >= (p_order->'holds'->>0)::timestamptz AND now < (p_order->'holds'->>1)::timestamptz, false
  );
  IF holds AND (before.id IS NULL OR before.fingerprint = p_order->>'fingerprint') THEN
    claimed := buckets_of(p_order->'claims', now);
    bucket_ids := claimed.ids;
    created := claimed.created;
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
  IF array_remove(bucket_ids, NULL) = '{}' AND NOT (p_order->>'may_be_unmatched')::boolean THEN
    RETURN jsonb_build_object('refused', jsonb_build_array());
  END IF;
  chosen := p_candidates->0;
  lacking := without_room(bucket_ids, chosen->'amounts');
  IF lacking <> '[]' THEN
    chosen := NULL;
    IF NOT lacking @? '$[*] ? (@.may_cap == false)' THEN   -- one budget that does not cap is enough to refuse
      FOR place IN 1..jsonb_array_length(p_candidates) - 1 LOOP
        IF without_room(bucket_ids, p_candidates->place->'amounts') = '[]' THEN
          place_chosen := place;
          chosen := p_candidates->place;
          EXIT;
        END IF;
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
      amount := (chosen->'amounts'->>(place - 1))::bigint;
      INSERT INTO reservation_line (reservation, bucket, held, rate)
      VALUES (p_id, bucket_ids[place], amount, (p_order->'claims'->(place - 1)->>'rate')::numeric);
      buckets := buckets || bucket_ids[place];
      held := held || amount;
      nothing := nothing || 0::bigint;
    END IF;
  END LOOP;
  alerts := jsonb_build_array();
  IF enter(now, 'reserve', p_id, buckets, held, nothing, NULL) THEN
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
CREATE OR REPLACE FUNCTION without_room(p_buckets bigint[], p_amounts jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  needed bigint;
  fits boolean := true;
BEGIN
  FOR place IN 1..cardinality(p_buckets) LOOP   -- usually everything fits, and this loop finds that faster
    EXIT WHEN NOT fits;
    needed := (p_amounts->>(place - 1))::bigint;
    SELECT bucket.cap::numeric - held - spent >= needed AND needed <= coalesce(max_request, needed) INTO fits
    FROM bucket JOIN budget ON budget.name = bucket.budget WHERE bucket.id = p_buckets[place];
    fits := coalesce(fits, true);   -- the claim does not apply, or its budget is not in force
  END LOOP;
  IF fits THEN
    RETURN '[]';
  END IF;
  RETURN coalesce(jsonb_agg(jsonb_build_object(
    'budget', name, 'labels', labels, 'requested', amount::bigint, 'available', cap::numeric - held - spent,
    'max_request', max_request, 'currency', currency, 'window_end', window_end, 'may_cap', may_cap
  ) ORDER BY place), '[]')
  FROM (
    SELECT budget.name, labels, bucket.cap, held, spent, max_request, may_cap, bucket.currency, window_end, place, amount
    FROM jsonb_array_elements_text(p_amounts) WITH ORDINALITY AS part (amount, place)
    JOIN bucket ON bucket.id = p_buckets[place]
    JOIN budget ON budget.name = bucket.budget
  ) AS asked
  WHERE cap::numeric - held - spent < amount::bigint OR amount::bigint > max_request;
END $$;
