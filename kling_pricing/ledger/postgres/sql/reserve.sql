-- Sets money aside in every bucket that an order claims, or in none.
CREATE OR REPLACE FUNCTION reserve(p_id text, p_order jsonb, p_candidates jsonb, p_expires_after interval)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  is_known boolean;       -- whether the key was used before
  is_outdated boolean;    -- whether other budgets are in force
  is_late boolean;        -- whether something is still reserved that has expired
  before reservation;
  holds boolean;          -- whether the windows and the price are still those of now
  claimed record;
  own bigint[];           -- by place of the claim; null where that falls away
  made bigint[];          -- those among them that were not there before
  lacking jsonb;          -- who has no room for the first candidate
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
  -- In one statement, for it is asked every time, and mostly there is nothing to do.
  SELECT EXISTS (SELECT FROM reservation WHERE project = p_order->>'project' AND key = p_order->>'key'),
    (SELECT digest FROM budget_revision ORDER BY revision DESC LIMIT 1) IS DISTINCT FROM p_order->>'budgets',
    is_late(now)
  INTO is_known, is_outdated, is_late;
  IF is_known THEN
    SELECT * INTO before FROM reservation
    WHERE project = p_order->>'project' AND key = p_order->>'key' ORDER BY id = p_id DESC, attempt DESC LIMIT 1
    FOR UPDATE;
  END IF;
  IF before.id = p_id THEN   -- the same call once more: its answer was lost on the way
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
    own := claimed.ids;
    made := claimed.made;
  END IF;
  IF is_late THEN
    PERFORM expire(now, own);
  ELSE
    PERFORM lock_buckets(own);
  END IF;
  IF before.id IS NOT NULL THEN
    before := reread(before.id);
    IF before.fingerprint <> p_order->>'fingerprint' THEN
      PERFORM refuse('key_taken', jsonb_build_object('reservation', shown(before, now)));
    ELSIF before.state = 'reserved' THEN
      DELETE FROM bucket WHERE id = ANY (made);
      RETURN jsonb_build_object('reserved', shown(before, now), 'replayed', true, 'alerts', jsonb_build_array());
    ELSIF before.state <> 'released' THEN
      PERFORM refuse_state('key_sent', before, now);
    END IF;
  END IF;

  IF NOT holds THEN
    RETURN jsonb_build_object('mistimed', now);
  END IF;
  IF array_remove(own, NULL) = '{}' AND NOT (p_order->>'may_be_unmatched')::boolean THEN
    RETURN jsonb_build_object('refused', jsonb_build_array());
  END IF;
  chosen := p_candidates->0;
  lacking := without_room(own, chosen->'amounts');
  IF lacking <> '[]' THEN
    chosen := NULL;
    IF NOT lacking @? '$[*] ? (@.may_cap == false)' THEN   -- else one budget that does not cap is enough
      FOR place IN 1..jsonb_array_length(p_candidates) - 1 LOOP
        IF without_room(own, p_candidates->place->'amounts') = '[]' THEN
          place_chosen := place;
          chosen := p_candidates->place;
          EXIT;
        END IF;
      END LOOP;
    END IF;
    IF chosen IS NULL THEN
      DELETE FROM bucket WHERE id = ANY (made);
      RETURN jsonb_build_object('refused', lacking);
    END IF;
  END IF;

  attempt := coalesce(before.attempt, 0) + 1;
  PERFORM insert_reservation(p_id, p_order->>'key', attempt, p_order, chosen, now, now + p_expires_after);
  FOR place IN 1..cardinality(own) LOOP
    IF own[place] IS NOT NULL THEN
      amount := (chosen->'amounts'->>(place - 1))::bigint;
      INSERT INTO reservation_line (reservation, bucket, held, rate)
      VALUES (p_id, own[place], amount, (p_order->'claims'->(place - 1)->>'rate')::numeric);
      buckets := buckets || own[place];
      held := held || amount;
      nothing := nothing || 0::bigint;
    END IF;
  END LOOP;
  alerts := jsonb_build_array();
  IF enter(now, 'reserve', p_id, buckets, held, nothing, NULL) THEN
    PERFORM alert_thresholds(now, p_id, p_id, buckets, held, nothing);
    alerts := alerts_of(p_id);
  END IF;
  -- The caller knows the rest.
  RETURN jsonb_build_object(
    'candidate', place_chosen, 'attempt', attempt, 'created_at', now, 'deadline', now + p_expires_after,
    'alerts', alerts
  );
END $$;

-- Every bucket that does not take these amounts.
CREATE OR REPLACE FUNCTION without_room(p_buckets bigint[], p_amounts jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  needed bigint;
  fits boolean := true;
BEGIN
  FOR place IN 1..cardinality(p_buckets) LOOP   -- mostly there is room, which this finds out sooner
    EXIT WHEN NOT fits;
    needed := (p_amounts->>(place - 1))::bigint;
    SELECT bucket.cap::numeric - held - spent >= needed AND needed <= coalesce(max_request, needed) INTO fits
    FROM bucket JOIN budget ON budget.name = bucket.budget WHERE bucket.id = p_buckets[place];
    fits := coalesce(fits, true);   -- a claim that falls away, or of a budget that is not in force, asks for nothing
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
