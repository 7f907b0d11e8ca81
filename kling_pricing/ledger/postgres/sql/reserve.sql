-- Sets money aside in every bucket of the budgets that match a request's labels, or in none.
CREATE OR REPLACE FUNCTION reserve(p_id text, p_order jsonb, p_candidates jsonb, p_expires_after interval)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  is_known boolean;       -- whether the key was used before
  is_outdated boolean;    -- whether other budgets are in force
  is_frozen boolean;      -- whether anything is frozen
  is_late boolean;        -- whether an expired reservation has not been released yet
  before reservation;
  holds boolean;          -- whether the request's windows and price are valid now
  claimed budget[] := '{}';       -- the budgets that match
  found record;
  bucket_ids bigint[] := '{}';    -- one for each of them; null where the budget has no window now
  created bigint[] := '{}';       -- the buckets that this call has created
  kept bucket;
  rooms room[] := '{}';           -- the balances of these buckets
  decided record;
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
  FOR place IN 1..cardinality(bucket_ids) LOOP   -- new statements, which see all that was committed before the locks
    SELECT * INTO kept FROM bucket WHERE id = bucket_ids[place];
    rooms := array_append(rooms, room_of(kept, now));
  END LOOP;
  IF before.id IS NOT NULL THEN
    before := reread(before.id);
  END IF;
  SELECT * INTO decided FROM decision(p_order, p_candidates, before, is_frozen, holds, claimed, rooms, NULL, now);
  IF decided.covers <> '[]' THEN   -- decides again, by what is left of allowances now that nobody else can use them
    PERFORM lock_allowances();
    SELECT * INTO decided FROM decision(p_order, p_candidates, before, is_frozen, holds, claimed, rooms, NULL, now);
  END IF;
  IF decided.answer ? 'refusal' THEN
    PERFORM refuse(decided.answer->'refusal'->>'kind', decided.answer->'refusal');
  ELSIF decided.answer IS NOT NULL THEN
    PERFORM drop_created(created);
    RETURN decided.answer;
  END IF;

  attempt := coalesce(before.attempt, 0) + 1;
  PERFORM insert_reservation(p_id, p_order->>'key', attempt, p_order, p_candidates->decided.place, now, now + p_expires_after);
  FOR place IN 1..cardinality(bucket_ids) LOOP
    IF bucket_ids[place] IS NOT NULL THEN
      INSERT INTO reservation_line (reservation, bucket, held, rate)
      VALUES (p_id, bucket_ids[place], decided.amounts[place], decided.rates[place]);
      buckets := buckets || bucket_ids[place];
      held := held || decided.amounts[place];
      nothing := nothing || 0::bigint;
    END IF;
  END LOOP;
  alerts := jsonb_build_array();
  IF enter(now, 'reserve', p_id, buckets, held, nothing, instant_text(now + p_expires_after)) THEN
    PERFORM alert_thresholds(now, p_id, p_id, buckets, held, nothing);
    alerts := alerts_of(p_id);
  END IF;
  IF decided.covers <> '[]' THEN
    PERFORM use_allowances(now, p_id, decided.covers, bucket_ids);
  END IF;
  PERFORM waive(now, p_id, claimed, rooms, decided.amounts);
  -- The caller knows the other columns.
  RETURN jsonb_build_object(
    'candidate', decided.place, 'attempt', attempt, 'created_at', now, 'deadline', now + p_expires_after,
    'alerts', alerts
  );
END $$;
