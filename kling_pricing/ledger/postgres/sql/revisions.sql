-- Functions that replace budgets, for the administrator. The client, which knows calendars, computes the effect of a
-- revision on balances. It does so between `revision_begin` and `revision_end`, in one transaction.

-- Lets no verb begin until the transaction ends. Returns every revision, the oldest first.
CREATE OR REPLACE FUNCTION revision_begin() RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
BEGIN
  LOCK TABLE budget_revision IN EXCLUSIVE MODE;
  RETURN jsonb_build_object('now', current_instant(), 'revisions', (
    SELECT coalesce(jsonb_agg(jsonb_build_object('digest', digest, 'document', document) ORDER BY revision), '[]')
    FROM budget_revision
  ));
END $$;

-- Adds a reservation to a bucket, unless the bucket already counts it.
CREATE OR REPLACE FUNCTION carry_over(p_reservation text, p_claim jsonb, p_held bigint, p_spent bigint, p_now timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  kept reservation := reread(p_reservation);
  bucket_ids bigint[] := (buckets_of(jsonb_build_array(p_claim), kept.created_at)).ids;
BEGIN
  INSERT INTO reservation_line (reservation, bucket, held, spent, rate)
  VALUES (p_reservation, bucket_ids[1], p_held, p_spent, (p_claim->>'rate')::numeric) ON CONFLICT DO NOTHING;
  IF FOUND THEN
    PERFORM enter(
      p_now, 'carry_over', p_reservation, bucket_ids,
      ARRAY[CASE WHEN kept.state IN ('reserved', 'dispatching', 'bound') THEN p_held ELSE 0 END], ARRAY[p_spent], NULL
    );
  END IF;
END $$;

-- Returns whether an open window of an earlier definition of a budget has an opening balance.
CREATE OR REPLACE FUNCTION has_opening(p_budget text, p_definition text, p_now timestamptz) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  SELECT EXISTS (
    SELECT 1 FROM journal JOIN bucket ON bucket.id = journal.bucket
    WHERE kind = 'opening' AND budget = p_budget AND definition <> p_definition AND window_end > p_now
  )
$$;

-- Puts budgets in force. Windows that are not over get the new caps and thresholds.
CREATE OR REPLACE FUNCTION put_in_force(p_budgets jsonb, p_now timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
BEGIN
  DELETE FROM budget;
  INSERT INTO budget SELECT * FROM jsonb_populate_recordset(NULL::budget, p_budgets);
  UPDATE bucket SET cap = budget.cap, alerts = budget.alerts FROM budget
  WHERE bucket.budget = budget.name AND bucket.definition = budget.definition AND window_end > p_now;
END $$;

CREATE OR REPLACE FUNCTION revision_end(p_call text, p_digest text, p_document text, p_now timestamptz) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  open bigint[] := ARRAY(
    SELECT bucket.id FROM bucket JOIN budget ON budget.name = bucket.budget AND budget.definition = bucket.definition
    WHERE window_end > p_now ORDER BY bucket.id
  );
BEGIN
  INSERT INTO budget_revision (digest, document, installed_at) VALUES (p_digest, p_document, p_now);
  PERFORM enter(p_now, 'revision', NULL, NULL, NULL, NULL, p_digest);
  PERFORM alert_thresholds(
    p_now, p_call, NULL, open,
    array_fill(0::bigint, ARRAY[cardinality(open)]), array_fill(1::bigint, ARRAY[cardinality(open)])
  );
  RETURN alerts_of(p_call);
END $$;

-- Returns the alerts of a revision whose response was lost.
CREATE OR REPLACE FUNCTION revision_alerts(p_call text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT alerts_of(p_call)
$$;
