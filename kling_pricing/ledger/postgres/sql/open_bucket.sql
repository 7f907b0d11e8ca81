-- Sets the opening balance of a bucket's current window: spend from before the ledger began to count. Once per window.
CREATE OR REPLACE FUNCTION open_bucket(
  p_call text, p_budget text, p_labels jsonb, p_spent bigint, p_actor text, p_reason text
) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  bucket_ids bigint[];
  counted bucket;
BEGIN
  IF EXISTS (SELECT FROM budget WHERE name = p_budget AND step_us IS NOT NULL) THEN
    PERFORM refuse('no_opening', jsonb_build_object('budget', p_budget));
  END IF;
  bucket_ids := (buckets_of(ARRAY(SELECT budget FROM budget WHERE name = p_budget), p_labels, now)).ids;
  IF bucket_ids[1] IS NULL THEN
    PERFORM refuse('no_window', jsonb_build_object('budget', p_budget));
  END IF;
  SELECT * INTO counted FROM bucket WHERE id = bucket_ids[1] FOR UPDATE;
  IF counted.opening_token = p_call THEN
    RETURN alerts_of(p_call);
  ELSIF counted.opening_token IS NOT NULL THEN
    PERFORM refuse('opened', jsonb_build_object('budget', counted.budget));
  END IF;
  UPDATE bucket SET opening_token = p_call WHERE id = counted.id;
  PERFORM enter(now, 'opening', NULL, bucket_ids, ARRAY[0], ARRAY[p_spent], NULL);
  PERFORM administer(
    now, p_actor, 'open', counted.budget, NULL,
    jsonb_build_object('spent', trim_scale(from_nanos(p_spent))::text, 'labels', p_labels)::text, p_reason
  );
  PERFORM alert_thresholds(now, p_call, NULL, bucket_ids, ARRAY[0], ARRAY[1]);
  RETURN alerts_of(p_call);
END $$;
