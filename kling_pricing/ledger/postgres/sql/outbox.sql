-- Alerts, their receivers, refusals and leases.

-- Taken by every transaction that writes an alert, before the alert gets its number.
CREATE OR REPLACE FUNCTION lock_outbox() RETURNS void LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock_shared(1263555183)
$$;

-- Returns the alerts with a higher number, in order. Waits until no transaction is writing an alert, so that no alert with
-- a lower number than a returned one can appear later.
CREATE OR REPLACE FUNCTION outbox(p_after bigint, p_limit bigint) RETURNS SETOF jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(1263555183);
  RETURN QUERY SELECT to_jsonb(alert) FROM alert WHERE seq > p_after ORDER BY seq LIMIT p_limit;
END $$;

-- Returns the alerts with a lower number, or all, the newest first.
CREATE OR REPLACE FUNCTION newest_alerts(p_before bigint, p_limit bigint) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT to_jsonb(alert) FROM alert WHERE p_before IS NULL OR seq < p_before ORDER BY seq DESC LIMIT p_limit
$$;

CREATE OR REPLACE FUNCTION receivers() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT to_jsonb(alert_receiver) FROM alert_receiver ORDER BY name
$$;

CREATE OR REPLACE FUNCTION mark_delivered(p_receiver text, p_seq bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  UPDATE alert_receiver SET delivered = greatest(delivered, least(p_seq, (SELECT max(seq) FROM alert))), failures = 0,
    failed_at = NULL, problem = NULL, next_at = NULL
  WHERE name = p_receiver
$$;

-- Records a failed attempt. Without a time until the next attempt, the receiver is stopped.
CREATE OR REPLACE FUNCTION mark_failed(p_receiver text, p_problem text, p_retry_after interval) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  UPDATE alert_receiver SET failures = failures + 1, failed_at = current_instant(), problem = left(p_problem, 200),
    next_at = current_instant() + CASE WHEN p_retry_after IS NOT NULL THEN least(p_retry_after, '1 hour') END,
    stopped_at = CASE WHEN p_retry_after IS NULL THEN current_instant() END
  WHERE name = p_receiver
$$;

CREATE OR REPLACE FUNCTION resume_receiver(p_receiver text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
BEGIN
  UPDATE alert_receiver SET failures = 0, next_at = NULL, stopped_at = NULL WHERE name = p_receiver;
  RETURN FOUND;
END $$;

-- Writes the alerts that no verb of a guard causes, each once: refusals, jobs in doubt, and the given forecasts. The
-- server takes everything but the facts of a forecast from its own rows.
CREATE OR REPLACE FUNCTION raise_alerts(p_forecasts jsonb, p_doubtful_for interval) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := current_instant();
  raised bigint := 0;
  added bigint;
BEGIN
  PERFORM lock_outbox();
  INSERT INTO alert (at, kind, cause, budget, labels, facts)
  SELECT now, 'refusals', 'refusals ' || jsonb_build_array(budget, labels, reason, day)::text, nullif(budget, ''), labels,
    jsonb_build_object('reason', reason, 'day', day, 'requests', requests::text)
  FROM refused_requests ORDER BY day, budget, labels, reason ON CONFLICT (cause) DO NOTHING;
  GET DIAGNOSTICS added = ROW_COUNT;
  raised := raised + added;
  INSERT INTO alert (at, kind, cause, labels, reservation, facts)
  SELECT now, 'in_doubt', 'job in doubt ' || id, labels::text, id, jsonb_build_object(
    'detail', coalesce(reason, 'no response about the job is known'), 'dispatched_at', instant_text(dispatched_at)
  )
  FROM reservation WHERE in_doubt(reservation, now) AND dispatched_at <= now - p_doubtful_for
  ORDER BY dispatched_at, id ON CONFLICT (cause) DO NOTHING;
  GET DIAGNOSTICS added = ROW_COUNT;
  raised := raised + added;
  INSERT INTO alert (at, kind, cause, budget, labels, cap, used, currency, window_start, window_end, facts)
  SELECT now, 'forecast', 'forecast of ' || id || ' with cap ' || cap, bucket.budget, bucket.labels, cap,
    held::numeric + spent, currency, bucket.window_start, window_end, jsonb_build_object(
      'exhausted_at', replace(instant_text((forecast->'facts'->>'exhausted_at')::timestamptz), '.000000', ''),
      'pace_per_day', trim_scale((forecast->'facts'->>'pace_per_day')::numeric)::text
    )
  FROM jsonb_array_elements(p_forecasts) WITH ORDINALITY AS listed (forecast, place)
  JOIN bucket ON bucket.budget = forecast->>'budget' AND bucket.definition = forecast->>'definition'
    AND bucket.labels = (forecast->'labels')::text AND bucket.window_start = (forecast->>'window_start')::timestamptz
  -- A guard's role gives these facts, so nothing in them may make the alerts unreadable.
  WHERE (forecast->'facts'->>'exhausted_at')::timestamptz BETWEEN '2001-01-01' AND '9999-01-01'
    AND (forecast->'facts'->>'pace_per_day')::numeric BETWEEN 0 AND 1e30
  ORDER BY place ON CONFLICT (cause) DO NOTHING;
  GET DIAGNOSTICS added = ROW_COUNT;
  RETURN raised + added;
END $$;

-- Adds numbers of refused requests: a list of objects with budget, labels, reason, day and requests.
CREATE OR REPLACE FUNCTION count_refusals(p_call text, p_counts jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  INSERT INTO refused_requests AS stored (budget, labels, reason, day, requests, told)
  SELECT budget, labels::text, reason, day, requests, p_call
  FROM jsonb_to_recordset(p_counts) AS new (budget text, labels jsonb, reason text, day date, requests bigint)
  ORDER BY budget, labels::text, reason, day   -- two calls lock rows in the same order
  ON CONFLICT (budget, labels, reason, day) DO UPDATE SET requests = stored.requests + excluded.requests, told = p_call
  WHERE stored.told <> p_call
$$;

CREATE OR REPLACE FUNCTION refusals(p_since date, p_until date) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  SELECT to_jsonb(refused_requests) - 'told' FROM refused_requests
  WHERE (p_since IS NULL OR day >= p_since) AND (p_until IS NULL OR day < p_until)
  ORDER BY budget, labels, reason, day
$$;

CREATE OR REPLACE FUNCTION begun_at() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT instant_text(installed_at) FROM budget_revision ORDER BY revision LIMIT 1
$$;

CREATE OR REPLACE FUNCTION openings(p_at timestamptz) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT jsonb_build_object('budget', budget, 'labels', labels, 'window_start', window_start, 'spent', spent_delta)
  FROM journal JOIN bucket ON bucket.id = journal.bucket
  WHERE kind = 'opening' AND window_start <= p_at AND p_at < window_end ORDER BY seq
$$;

-- Takes or renews a lease for at most an hour, if nobody else holds it. Returns the lease in force.
CREATE OR REPLACE FUNCTION take_lease(p_name text, p_holder text, p_lasts interval) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  kept lease;
BEGIN
  INSERT INTO lease AS held (name, holder, ends_at) VALUES (p_name, p_holder, current_instant() + least(p_lasts, '1 hour'))
  ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, ends_at = excluded.ends_at
  WHERE held.holder = excluded.holder OR held.ends_at <= current_instant();
  SELECT * INTO kept FROM lease WHERE name = p_name;
  RETURN to_jsonb(kept);
END $$;

CREATE OR REPLACE FUNCTION end_lease(p_name text, p_holder text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  DELETE FROM lease WHERE name = p_name AND holder = p_holder
$$;
