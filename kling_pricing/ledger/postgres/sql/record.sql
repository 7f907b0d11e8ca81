-- Records spend that happened outside the guard, even beyond a cap. A repeated call has no effect.
CREATE OR REPLACE FUNCTION record_spend(p_id text, p_order jsonb, p_spent jsonb, p_task_id text, p_at timestamptz)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  outdated jsonb := outdated(p_order->>'budgets');
  kept reservation;
  claimed budget[];
  rates numeric[];
  counted bigint[];
  bucket_ids bigint[];
  new_key text := p_order->>'key';
  buckets bigint[];
  amounts bigint[];
  nothing bigint[];
BEGIN
  PERFORM require_order(p_order);
  IF outdated IS NOT NULL THEN
    RETURN outdated;
  END IF;
  PERFORM lock_task(p_order->>'provider', p_task_id);
  kept := lookup(ARRAY[p_order->>'provider', p_task_id]);
  IF kept.id IS NOT NULL THEN
    IF kept.fingerprint = p_order->>'fingerprint' AND kept.billed = (p_spent->'terms'->>'expected')::bigint THEN
      RETURN jsonb_build_object('reservation', shown(kept, now), 'alerts', alerts_of(p_id));
    END IF;
    PERFORM refuse('task_known', jsonb_build_object('reservation', shown(kept, now)));
  END IF;
  claimed := matching(p_order->'labels');
  SELECT rates_of(p_spent->'terms'->>'currency', claimed, accounting_rates) INTO rates
  FROM budget_revision ORDER BY revision DESC LIMIT 1;
  counted := amounts_of((p_spent->'terms'->>'expected')::bigint, rates);
  bucket_ids := (buckets_of(claimed, p_order->'labels', p_at)).ids;
  PERFORM lock_buckets(bucket_ids);
  IF EXISTS (SELECT 1 FROM reservation WHERE project = p_order->>'project' AND key = new_key) THEN
    new_key := new_key || ':' || p_id;   -- a job may have the same key
  END IF;
  PERFORM insert_reservation(p_id, new_key, 1, p_order, p_spent, p_at, p_at);
  UPDATE reservation
  SET state = 'settled', task_id = p_task_id, billed = expected, basis = 'operator', dispatched_at = created_at,
    closed_at = now
  WHERE id = p_id;
  INSERT INTO reservation_line (reservation, bucket, held, spent, rate)
  SELECT p_id, bucket, 0, amount, rate FROM unnest(bucket_ids, counted, rates) AS part (bucket, amount, rate)
  WHERE bucket IS NOT NULL;
  SELECT array_agg(bucket ORDER BY place), array_agg(amount ORDER BY place), array_agg(0::bigint)
  INTO buckets, amounts, nothing
  FROM unnest(bucket_ids, counted) WITH ORDINALITY AS part (bucket, amount, place) WHERE bucket IS NOT NULL;
  PERFORM enter(
    now, 'record', p_id, buckets, nothing, amounts, p_task_id, (p_spent->'terms'->>'expected')::bigint
  );
  PERFORM alert_thresholds(now, p_id, p_id, buckets, nothing, amounts);
  RETURN jsonb_build_object('reservation', shown(reread(p_id), now), 'alerts', alerts_of(p_id));
END $$;
