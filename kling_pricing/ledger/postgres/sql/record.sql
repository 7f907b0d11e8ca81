-- Books spend that was made elsewhere, whatever the caps say; of no effect if repeated.
CREATE OR REPLACE FUNCTION record_spend(p_id text, p_order jsonb, p_spent jsonb, p_task_id text, p_at timestamptz)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  outdated jsonb := outdated(p_order->>'budgets');
  kept reservation;
  own bigint[];
  own_key text := p_order->>'key';
  buckets bigint[];
  amounts bigint[];
  nothing bigint[];
BEGIN
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
  own := (buckets_of(p_order->'claims', p_at)).ids;
  PERFORM lock_buckets(own);
  IF EXISTS (SELECT 1 FROM reservation WHERE project = p_order->>'project' AND key = own_key) THEN
    own_key := own_key || ':' || p_id;   -- a job may have been given the same one
  END IF;
  PERFORM insert_reservation(p_id, own_key, 1, p_order, p_spent, p_at, p_at);
  UPDATE reservation
  SET state = 'settled', task_id = p_task_id, billed = expected, basis = 'operator', dispatched_at = created_at,
    closed_at = now
  WHERE id = p_id;
  INSERT INTO reservation_line (reservation, bucket, held, spent, rate)
  SELECT p_id, own[place], 0, amount::bigint, (p_order->'claims'->(place::integer - 1)->>'rate')::numeric
  FROM jsonb_array_elements_text(p_spent->'amounts') WITH ORDINALITY AS part (amount, place)
  WHERE own[place] IS NOT NULL;
  SELECT array_agg(own[place] ORDER BY place), array_agg(amount::bigint ORDER BY place), array_agg(0::bigint)
  INTO buckets, amounts, nothing
  FROM jsonb_array_elements_text(p_spent->'amounts') WITH ORDINALITY AS part (amount, place)
  WHERE own[place] IS NOT NULL;
  PERFORM enter(now, 'record', p_id, buckets, nothing, amounts, NULL);
  PERFORM alert_thresholds(now, p_id, p_id, buckets, nothing, amounts);
  RETURN jsonb_build_object('reservation', shown(reread(p_id), now), 'alerts', alerts_of(p_id));
END $$;
