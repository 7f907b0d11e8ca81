-- Replacing budgets: for the administrator. What a revision means for balances is worked out by the client,
-- which knows calendars, between `revision_begin` and `revision_end`, in one transaction.

-- Lets no verb begin until the transaction ends; returns every revision, the oldest first.
CREATE OR REPLACE FUNCTION revision_begin() RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
BEGIN
  LOCK TABLE budget_revision IN EXCLUSIVE MODE;
  RETURN jsonb_build_object('now', current_instant(), 'revisions', (
    SELECT coalesce(jsonb_agg(jsonb_build_object('digest', digest, 'document', document) ORDER BY revision), '[]')
    FROM budget_revision
  ));
END $$;

-- Counts one reservation in one more bucket, unless it does so already.
CREATE OR REPLACE FUNCTION carry_over(p_reservation text, p_claim jsonb, p_held bigint, p_spent bigint, p_now timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  kept reservation := reread(p_reservation);
  own bigint[] := (buckets_of(jsonb_build_array(p_claim), kept.created_at)).ids;
BEGIN
  INSERT INTO reservation_line (reservation, bucket, held, spent, rate)
  VALUES (p_reservation, own[1], p_held, p_spent, (p_claim->>'rate')::numeric) ON CONFLICT DO NOTHING;
  IF FOUND THEN
    PERFORM enter(
      p_now, 'carry_over', p_reservation, own,
      ARRAY[CASE WHEN kept.state IN ('reserved', 'dispatching', 'bound') THEN p_held ELSE 0 END], ARRAY[p_spent], NULL
    );
  END IF;
END $$;

-- Whether a budget that counts otherwise from now on began a window with an opening balance.
CREATE OR REPLACE FUNCTION has_opening(p_budget text, p_definition text, p_now timestamptz) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  SELECT EXISTS (
    SELECT 1 FROM journal JOIN bucket ON bucket.id = journal.bucket
    WHERE kind = 'opening' AND budget = p_budget AND definition <> p_definition AND window_end > p_now
  )
$$;

-- Puts in force what verbs go by; the windows that are not over get the new caps and thresholds.
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

-- What a revision set off whose answer was lost.
CREATE OR REPLACE FUNCTION revision_alerts(p_call text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT alerts_of(p_call)
$$;
