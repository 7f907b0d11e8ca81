-- Functions that read. Each is STABLE, so its result comes from one snapshot.

CREATE OR REPLACE FUNCTION installed() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  SELECT jsonb_build_object('digest', digest, 'document', document)
  FROM budget_revision ORDER BY revision DESC LIMIT 1
$$;

CREATE OR REPLACE FUNCTION one_reservation(p_ref text[])
RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  kept reservation := lookup(p_ref);
BEGIN
  IF kept.id IS NULL THEN
    PERFORM refuse('unknown', jsonb_build_object('ref', p_ref));
  END IF;
  RETURN shown(kept, current_instant());
END $$;

CREATE OR REPLACE FUNCTION reservations(
  p_project text, p_key text, p_in_doubt boolean, p_since timestamptz, p_until timestamptz
) RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := current_instant();
BEGIN
  RETURN QUERY
  SELECT shown(reservation, now) FROM reservation
  WHERE (p_project IS NULL OR project = p_project)
    AND (p_key IS NULL OR key = p_key)
    AND (NOT p_in_doubt OR in_doubt(reservation, now))
    AND (p_since IS NULL OR created_at >= p_since)
    AND (p_until IS NULL OR created_at < p_until)
  ORDER BY created_at, seq;
END $$;

-- Returns lines of text with the fields of sent_lines.SENT. The last field has the fields of terms.TERMS. No text in a ledger
-- has a control character, so the separators are unambiguous.
CREATE OR REPLACE FUNCTION sent(p_provider text, p_before timestamptz) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  WITH ended AS (
    SELECT task_id, max(state) AS state FROM observation AS seen
    WHERE provider = p_provider AND state IN ('failed', 'cancelled') AND NOT EXISTS (
      SELECT 1 FROM observation AS later
      WHERE later.provider = seen.provider AND later.task_id = seen.task_id AND later.state = 'succeeded'
        AND later.id > seen.id
    )
    GROUP BY task_id
  )
  SELECT concat_ws(E'\x1f', id, project, key, reservation.state, coalesce(account, provider), coalesce(reservation.task_id, ''),
    coalesce(billed::text, ''), coalesce(basis, ''), labels::text,
    to_char(dispatched_at, 'YYYY-MM-DD"T"HH24:MI:SS.US'),
    coalesce(to_char(closed_at, 'YYYY-MM-DD"T"HH24:MI:SS.US'), ''), coalesce(ended.state, ''),
    concat_ws(E'\x17', model, resolution, tier, quantity::text, unit, currency, expected,
      coalesce(list_total::text, ''), price_table, coalesce(statement_unit, ''), coalesce(trim_scale(unit_value)::text, ''), failed_tasks))
  FROM reservation LEFT JOIN ended USING (task_id)
  WHERE provider = p_provider AND dispatched_at < p_before
    AND NOT (reservation.state = 'released' AND reservation.task_id IS NULL)
$$;

-- Returns the accounts of the providers at which an account was named.
CREATE OR REPLACE FUNCTION accounts() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  WITH named AS (SELECT DISTINCT provider, account FROM reservation WHERE account IS NOT NULL)
  SELECT jsonb_build_array(provider, account) FROM named
  UNION SELECT jsonb_build_array(provider, provider) FROM named
  WHERE EXISTS (SELECT 1 FROM reservation WHERE reservation.provider = named.provider AND reservation.account IS NULL)
$$;

CREATE OR REPLACE FUNCTION unclaimed() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT to_jsonb(observation) FROM observation
  WHERE NOT EXISTS (
    SELECT 1 FROM reservation
    WHERE reservation.provider = observation.provider AND reservation.task_id = observation.task_id
  )
  ORDER BY id
$$;

-- Returns the windows in the calendar that contain an instant; all windows, if the instant is null.
CREATE OR REPLACE FUNCTION windows(p_at timestamptz) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT jsonb_build_array(schedule, window_start, window_end, zone_data) FROM calendar
  WHERE p_at IS NULL OR (window_start <= p_at AND p_at < window_end) ORDER BY schedule, window_start
$$;

CREATE OR REPLACE FUNCTION calendar_ends() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT DISTINCT ON (schedule) jsonb_build_array(schedule, window_start, window_end, zone_data) FROM calendar
  ORDER BY schedule, window_start DESC
$$;

-- Expired reservations do not count as held, even if they have not been released yet. Of a rolling window, returns each
-- step; at the present or later, all steps that an admission would count.
CREATE OR REPLACE FUNCTION buckets(p_at timestamptz) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  WITH late AS (
    SELECT line.bucket AS id, sum(line.held) AS held
    FROM reservation JOIN reservation_line AS line ON line.reservation = reservation.id
    WHERE state = 'reserved' AND deadline <= (SELECT current_instant()) GROUP BY line.bucket
  )
  SELECT to_jsonb(bucket) - 'opening_token' || jsonb_build_object(
    'held', bucket.held - coalesce(late.held, 0), 'cap', cap_at(bucket.budget, bucket.cap, p_at)
  )
  FROM bucket LEFT JOIN late USING (id)
  WHERE (window_start <= p_at OR step_us IS NOT NULL AND p_at >= (SELECT current_instant())) AND p_at < window_end
  ORDER BY budget, labels, definition, window_start
$$;

-- Returns the rows of `buckets` for the budgets and labels that count a reservation.
CREATE OR REPLACE FUNCTION buckets_of(p_reservation text, p_at timestamptz) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  WITH own AS (
    SELECT DISTINCT budget, definition, labels FROM reservation_line AS line JOIN bucket ON bucket.id = line.bucket
    WHERE reservation = p_reservation
  ), late AS (
    SELECT line.bucket AS id, sum(line.held) AS held
    FROM reservation JOIN reservation_line AS line ON line.reservation = reservation.id
    WHERE state = 'reserved' AND deadline <= (SELECT current_instant()) GROUP BY line.bucket
  )
  SELECT to_jsonb(bucket) - 'opening_token' || jsonb_build_object(
    'held', bucket.held - coalesce(late.held, 0), 'cap', cap_at(bucket.budget, bucket.cap, p_at)
  )
  FROM own JOIN bucket USING (budget, definition, labels) LEFT JOIN late USING (id)
  WHERE (window_start <= p_at OR step_us IS NOT NULL AND p_at >= (SELECT current_instant())) AND p_at < window_end
  ORDER BY budget, labels, definition, window_start
$$;

CREATE OR REPLACE FUNCTION bucket_histories(p_since timestamptz, p_until timestamptz) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  WITH moved AS (
    SELECT journal.bucket AS id, jsonb_agg(to_jsonb(journal) ORDER BY seq) AS entries FROM journal
    WHERE held_delta <> 0 OR spent_delta <> 0 GROUP BY journal.bucket
  )
  SELECT to_jsonb(bucket) - 'opening_token' || jsonb_build_object('entries', coalesce(entries, '[]'))
  FROM bucket LEFT JOIN moved USING (id)
  WHERE window_end > p_since AND window_start < p_until ORDER BY budget, labels, window_start, definition
$$;

CREATE OR REPLACE FUNCTION entries(p_since timestamptz, p_until timestamptz) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT to_jsonb(journal) || jsonb_build_object(
    'budget', budget, 'labels', labels, 'currency', coalesce(bucket.currency, allowance.currency)
  )
  FROM journal LEFT JOIN bucket ON bucket.id = journal.bucket LEFT JOIN allowance ON allowance.id = journal.allowance
  WHERE (p_since IS NULL OR at >= p_since) AND (p_until IS NULL OR at < p_until)
  ORDER BY journal.seq
$$;

-- Returns the projects that have reservations. Reads one entry of the index for each project.
CREATE OR REPLACE FUNCTION projects() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  WITH RECURSIVE known (project) AS (
    SELECT min(project) FROM reservation
    UNION ALL
    SELECT (SELECT min(project) FROM reservation WHERE project > known.project) FROM known WHERE project IS NOT NULL
  )
  SELECT project FROM known WHERE project IS NOT NULL
$$;

-- Facts for the administrator. The settings of the server can be read without a function.
CREATE OR REPLACE FUNCTION facts() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT jsonb_build_object(
    'schema_version', (SELECT version FROM schema_version),
    'revisions', (SELECT count(*) FROM budget_revision),
    'digest', (SELECT digest FROM budget_revision ORDER BY revision DESC LIMIT 1),
    'now', current_instant()
  )
$$;
