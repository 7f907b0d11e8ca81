-- Pages of reservations, and the release of expired reservations.

-- Returns one page, the newest reservation first. p_after is the id of the last reservation of the previous page.
CREATE OR REPLACE FUNCTION reservation_page(
  p_project text, p_key text, p_state text, p_in_doubt boolean, p_after text, p_limit bigint
) RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := current_instant();
BEGIN
  RETURN QUERY
  SELECT shown(reservation, now) FROM reservation
  WHERE (p_after IS NULL OR seq < (SELECT before.seq FROM reservation AS before WHERE before.id = p_after))
    AND (p_project IS NULL OR project = p_project)
    AND (p_key IS NULL OR key = p_key)
    AND (p_state IS NULL OR state = p_state)
    AND (NOT p_in_doubt OR in_doubt(reservation, now))
  ORDER BY seq DESC LIMIT p_limit;
END $$;

-- Returns one page of the reservations that were created in a period, the newest first. The index of these instants
-- leads to the page, so a page of an old day takes no longer than one of today.
CREATE OR REPLACE FUNCTION reservation_page(
  p_project text, p_key text, p_state text, p_in_doubt boolean, p_after text, p_limit bigint, p_since timestamptz,
  p_until timestamptz
) RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := current_instant();
  end_at timestamptz := coalesce(p_until, 'infinity');
  end_seq bigint := 0;   -- every reservation has a higher number
BEGIN
  SELECT coalesce(min(created_at), end_at), coalesce(min(seq), end_seq) INTO end_at, end_seq
  FROM reservation WHERE id = p_after AND created_at < end_at;
  RETURN QUERY
  SELECT shown(reservation, now) FROM reservation
  WHERE (created_at, seq) < (end_at, end_seq)
    AND created_at >= coalesce(p_since, '-infinity')
    AND (p_project IS NULL OR project = p_project)
    AND (p_key IS NULL OR key = p_key)
    AND (p_state IS NULL OR state = p_state)
    AND (NOT p_in_doubt OR in_doubt(reservation, now))
  ORDER BY created_at DESC, seq DESC LIMIT p_limit;
END $$;

-- Returns the reservations that were sent and are neither settled nor released.
CREATE OR REPLACE FUNCTION unsettled() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT shown(reservation, current_instant()) FROM reservation
  WHERE state IN ('dispatching', 'bound') ORDER BY created_at, seq
$$;

-- Releases the reservations that have expired, except those that another transaction has locked. Returns their number.
CREATE OR REPLACE FUNCTION release_expired() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := current_instant();
  before bigint;
BEGIN
  IF NOT is_late(now) THEN
    RETURN 0;
  END IF;
  SELECT count(*) INTO before FROM reservation WHERE state = 'reserved' AND deadline <= now;
  PERFORM expire(now, NULL);
  RETURN before - (SELECT count(*) FROM reservation WHERE state = 'reserved' AND deadline <= now);
END $$;

-- Returns the journal entries about a reservation.
CREATE OR REPLACE FUNCTION entries_of(p_reservation text) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT to_jsonb(journal) || jsonb_build_object(
    'budget', budget, 'labels', labels, 'currency', coalesce(bucket.currency, allowance.currency)
  )
  FROM journal LEFT JOIN bucket ON bucket.id = journal.bucket LEFT JOIN allowance ON allowance.id = journal.allowance
  WHERE reservation = p_reservation ORDER BY journal.seq
$$;

-- Returns the observations of a task.
CREATE OR REPLACE FUNCTION observations_of(p_provider text, p_task_id text) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT to_jsonb(observation) FROM observation WHERE provider = p_provider AND task_id = p_task_id ORDER BY id
$$;

-- Returns the rows of `bucket_histories`, with one entry for all changes of an hour.
CREATE OR REPLACE FUNCTION bucket_hours(p_since timestamptz, p_until timestamptz) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  WITH shown AS (
    SELECT * FROM bucket WHERE window_end > p_since AND window_start < p_until
  ), hour AS (
    SELECT journal.bucket, max(journal.seq) AS seq, max(at) AS at, sum(held_delta) AS held_delta,
      sum(spent_delta) AS spent_delta
    FROM journal JOIN shown ON shown.id = journal.bucket WHERE held_delta <> 0 OR spent_delta <> 0
    GROUP BY journal.bucket, date_trunc('hour', at)
  ), moved AS (
    SELECT bucket AS id, jsonb_agg(jsonb_build_object(
      'seq', seq, 'at', at, 'kind', 'sum', 'reservation', NULL, 'held_delta', held_delta, 'spent_delta', spent_delta,
      'detail', NULL, 'billed', NULL
    ) ORDER BY seq) AS entries FROM hour GROUP BY bucket
  )
  SELECT to_jsonb(shown) - 'opening_token' || jsonb_build_object('entries', coalesce(entries, '[]'))
  FROM shown LEFT JOIN moved USING (id) ORDER BY budget, labels, window_start, definition
$$;
