-- Observe mode: a budget that counts, and refuses nothing.

-- Records the budgets in observe mode that would have refused a new reservation, whose amounts they count already.
CREATE OR REPLACE FUNCTION waive(p_now timestamptz, p_reservation text, p_buckets bigint[], p_held bigint[])
RETURNS void LANGUAGE sql AS $$
  INSERT INTO journal (at, kind, reservation, bucket, detail)
  SELECT p_now, 'waive', p_reservation, id, CASE WHEN available < amount
    THEN trim_scale(from_nanos(greatest(available, 0)::bigint)) || ' ' || currency || ' left' ELSE 'maximum per request' END
  FROM (
    SELECT bucket.id, bucket.currency, part.amount, part.place, max_request,
      bucket.cap::numeric - held - spent + part.amount AS available
    FROM unnest(p_buckets, p_held) WITH ORDINALITY AS part (bucket, amount, place)
    JOIN bucket ON bucket.id = part.bucket
    JOIN budget ON budget.name = bucket.budget
    WHERE observes
  ) AS observed
  WHERE available < amount OR amount > max_request ORDER BY place
$$;

-- Returns the refusals that budgets in observe mode waived in a period, by bucket and project.
CREATE OR REPLACE FUNCTION waived(p_since timestamptz, p_until timestamptz) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT jsonb_build_object(
    'budget', bucket.budget, 'labels', bucket.labels, 'project', refusals.project, 'requests', refusals.requests, 'amount', refusals.amount,
    'currency', bucket.currency, 'window_start', bucket.window_start, 'window_end', bucket.window_end
  )
  FROM (
    SELECT journal.bucket, reservation.project, count(*) AS requests, sum(line.held) AS amount FROM journal
    JOIN reservation ON reservation.id = journal.reservation
    JOIN reservation_line AS line ON line.reservation = journal.reservation AND line.bucket = journal.bucket
    WHERE kind = 'waive' AND at >= p_since AND at < p_until GROUP BY journal.bucket, reservation.project
  ) AS refusals
  JOIN bucket ON bucket.id = refusals.bucket
  ORDER BY bucket.budget, bucket.labels, bucket.window_start, refusals.project
$$;
