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

-- Adds existing reservations that a budget matches to its buckets, for windows that are not over.
CREATE OR REPLACE FUNCTION carry_over(p_budget text, p_accounting_rates jsonb, p_now timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  counting budget;
  since timestamptz;
  kept reservation;
  rates numeric[];
  bucket_ids bigint[];
  held bigint;
  spent bigint;
BEGIN
  SELECT * INTO counting FROM budget WHERE name = p_budget;
  IF counting.step_us IS NOT NULL THEN   -- since the first step that counts
    since := (window_of(counting, p_now)).opens - 24 * counting.step_us * interval '1 microsecond';
  ELSE
    SELECT window_start INTO since FROM calendar
    WHERE schedule = counting.schedule AND window_start <= p_now AND p_now < window_end;
  END IF;
  FOR kept IN SELECT * FROM reservation WHERE created_at >= since ORDER BY created_at, seq LOOP
    CONTINUE WHEN counting <> ALL (matching(kept.labels));
    bucket_ids := (buckets_of(ARRAY[counting], kept.labels, kept.created_at)).ids;
    CONTINUE WHEN bucket_ids[1] IS NULL;
    rates := rates_of(kept.currency, ARRAY[counting], p_accounting_rates);
    held := (amounts_of(kept.reserved, rates))[1];
    spent := (amounts_of(coalesce(kept.billed, 0), rates))[1];
    INSERT INTO reservation_line (reservation, bucket, held, spent, rate)
    VALUES (kept.id, bucket_ids[1], held, spent, rates[1]) ON CONFLICT DO NOTHING;
    IF FOUND THEN
      PERFORM enter(
        p_now, 'carry_over', kept.id, bucket_ids,
        ARRAY[CASE WHEN kept.state IN ('reserved', 'dispatching', 'bound') THEN held ELSE 0 END], ARRAY[spent], NULL
      );
    END IF;
  END LOOP;
END $$;

-- Returns whether an open window of an earlier definition of a budget has an opening balance.
CREATE OR REPLACE FUNCTION has_opening(p_budget text, p_definition text, p_now timestamptz) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  SELECT EXISTS (
    SELECT 1 FROM journal JOIN bucket ON bucket.id = journal.bucket
    WHERE kind = 'opening' AND budget = p_budget AND definition <> p_definition AND window_end > p_now
  )
$$;

-- Replaces parts of the calendar, one schedule for each element of `p_changes`. Open buckets get the new end of their
-- window. `p_schedules` maps the definition of every budget that ever was in force to its schedule.
CREATE OR REPLACE FUNCTION put_calendar(p_changes jsonb, p_schedules jsonb, p_is_replaced boolean, p_now timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  change jsonb;
BEGIN
  FOR change IN SELECT * FROM jsonb_array_elements(p_changes) LOOP
    DELETE FROM calendar WHERE schedule = change->>'schedule' AND window_end > p_now;
    INSERT INTO calendar (schedule, window_start, window_end, zone_data)
    SELECT change->>'schedule', (bounds->>0)::timestamptz, (bounds->>1)::timestamptz, change->>'zone_data'
    FROM jsonb_array_elements(change->'windows') AS bounds;
    UPDATE bucket SET window_end = calendar.window_end FROM calendar
    WHERE calendar.schedule = change->>'schedule' AND p_schedules->>definition = calendar.schedule
      AND bucket.window_start = calendar.window_start AND bucket.window_end > p_now AND calendar.window_start <= p_now
      AND bucket.window_end <> calendar.window_end;
  END LOOP;
  UPDATE calendar_digest SET digest = calendar_digest();
  IF NOT FOUND THEN
    INSERT INTO calendar_digest (digest, begun_at) VALUES (calendar_digest(), p_now);
  ELSIF p_is_replaced THEN
    PERFORM enter(p_now, 'calendar', NULL, NULL, NULL, NULL, calendar_digest());
  END IF;
END $$;

-- Returns the windows of the buckets of a ledger that has no calendar yet.
CREATE OR REPLACE FUNCTION windows_of_buckets() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT DISTINCT jsonb_build_array(definition, window_start, window_end) FROM bucket
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

CREATE OR REPLACE FUNCTION revision_end(
  p_call text, p_digest text, p_document text, p_now timestamptz, p_actor text, p_reason text, p_action text,
  p_subject text, p_old text, p_new text
) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  open bigint[] := ARRAY(
    SELECT bucket.id FROM bucket JOIN budget ON budget.name = bucket.budget AND budget.definition = bucket.definition
    WHERE window_end > p_now AND bucket.step_us IS NULL ORDER BY bucket.id
  );
  rolling bucket;
BEGIN
  PERFORM administer(p_now, p_actor, p_action, p_subject, p_old, p_new, p_reason);
  INSERT INTO budget_revision (digest, document, installed_at) VALUES (p_digest, p_document, p_now);
  PERFORM enter(p_now, 'revision', NULL, NULL, NULL, NULL, p_digest);
  PERFORM alert_thresholds(
    p_now, p_call, NULL, open,
    array_fill(0::bigint, ARRAY[cardinality(open)]), array_fill(1::bigint, ARRAY[cardinality(open)])
  );
  FOR rolling IN
    SELECT bucket.* FROM bucket
    JOIN budget ON budget.name = bucket.budget AND budget.definition = bucket.definition
    WHERE window_end > p_now AND bucket.step_us IS NOT NULL ORDER BY bucket.id
  LOOP
    PERFORM alert_rolling(p_now, p_call, NULL, rolling, 0);
  END LOOP;
  RETURN alerts_of(p_call);
END $$;

-- Returns the alerts of a revision whose response was lost.
CREATE OR REPLACE FUNCTION revision_alerts(p_call text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT alerts_of(p_call)
$$;
