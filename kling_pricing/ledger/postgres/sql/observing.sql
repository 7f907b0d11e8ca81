-- Observe mode: a budget that counts, and refuses nothing.

-- Records the budgets in observe mode that would have refused a new reservation. `p_rooms` are the balances before it.
CREATE OR REPLACE FUNCTION waive(
  p_now timestamptz, p_reservation text, p_claimed budget[], p_rooms room[], p_amounts bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  available numeric;
BEGIN
  FOR place IN 1..cardinality(p_claimed) LOOP
    CONTINUE WHEN NOT p_claimed[place].observes OR p_rooms[place].window_end IS NULL;
    available := p_rooms[place].cap - p_rooms[place].held - p_rooms[place].spent;
    IF available < p_amounts[place] OR p_amounts[place] > p_claimed[place].max_request THEN
      INSERT INTO journal (at, kind, reservation, bucket, detail)
      VALUES (p_now, 'waive', p_reservation, p_rooms[place].bucket, CASE WHEN available < p_amounts[place]
        THEN trim_scale(from_nanos(greatest(available, 0)::bigint)) || ' ' || p_claimed[place].currency || ' left'
        ELSE 'maximum per request' END);
    END IF;
  END LOOP;
END $$;

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
