-- Rolling windows. A rolling window moves in steps of 1/24 of its length; what is booked counts from the start of its step
-- until 25 steps later. All steps that have not left the window count, and so do later ones, which exist if the clock has
-- stepped back or another verb was faster.

-- Returns the window of a budget at an instant; its bounds are null if the budget has no window then.
CREATE OR REPLACE FUNCTION window_of(p_budget budget, p_at timestamptz, OUT opens timestamptz, OUT closes timestamptz)
LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF p_budget.step_us IS NOT NULL THEN
    opens := date_bin(p_budget.step_us * interval '1 microsecond', p_at, '1970-01-01 00:00:00+00');
    closes := opens + 25 * p_budget.step_us * interval '1 microsecond';
    RETURN;
  END IF;
  SELECT window_start, window_end INTO opens, closes FROM calendar
  WHERE schedule = p_budget.schedule AND window_start <= p_at ORDER BY window_start DESC LIMIT 1;
  IF closes <= p_at THEN
    IF p_budget.recurs THEN
      PERFORM refuse('calendar_over', jsonb_build_object('budget', p_budget.name, 'ended', closes));
    END IF;
    opens := NULL;
    closes := NULL;
  END IF;
END $$;

-- Returns the steps that count at an instant, of the rolling window to which a step belongs.
CREATE OR REPLACE FUNCTION counting(p_step bucket, p_at timestamptz) RETURNS SETOF bucket LANGUAGE sql STABLE AS $$
  SELECT * FROM bucket
  WHERE budget = p_step.budget AND definition = p_step.definition AND labels = p_step.labels
    AND window_start > p_at - 25 * p_step.step_us * interval '1 microsecond'
$$;

-- Creates the row of a rolling window, if there is none yet. The caller has locked the budget and the labels with
-- `lock_new_bucket`.
CREATE OR REPLACE FUNCTION create_rolling_window(p_budget text, p_definition text, p_labels text) RETURNS void
LANGUAGE sql AS $$
  INSERT INTO rolling_window (budget, definition, labels) VALUES (p_budget, p_definition, p_labels) ON CONFLICT DO NOTHING
$$;

-- Deletes the buckets that a call has created and counts nothing in, and the rows of their rolling windows.
CREATE OR REPLACE FUNCTION drop_created(p_created bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  dropped bucket;
BEGIN
  IF p_created = '{}' THEN
    RETURN;
  END IF;
  FOR dropped IN DELETE FROM bucket WHERE id = ANY (p_created) RETURNING * LOOP
    IF dropped.step_us IS NOT NULL THEN
      DELETE FROM rolling_window AS rolling
      WHERE rolling.budget = dropped.budget AND rolling.definition = dropped.definition AND rolling.labels = dropped.labels
        AND NOT EXISTS (
          SELECT FROM bucket
          WHERE budget = dropped.budget AND definition = dropped.definition AND labels = dropped.labels
        );
    END IF;
  END LOOP;
END $$;

-- Locks the rows of the rolling windows to which buckets belong, in order. Verbs lock them before the buckets.
CREATE OR REPLACE FUNCTION lock_rolling_windows(p_buckets bigint[]) RETURNS void LANGUAGE sql AS $$
  SELECT 1 FROM rolling_window AS rolling
  WHERE id IN (
    SELECT rolling.id FROM bucket JOIN rolling_window AS rolling USING (budget, definition, labels)
    WHERE bucket.id = ANY (p_buckets) AND bucket.step_us IS NOT NULL
  )
  ORDER BY id FOR UPDATE
$$;

-- Returns the balance of an existing bucket, or of one that would be new (its id is null).
CREATE OR REPLACE FUNCTION room_of(p_bucket bucket, p_now timestamptz) RETURNS room LANGUAGE plpgsql STABLE AS $$
DECLARE
  found room;
BEGIN
  found.bucket := p_bucket.id;
  found.labels := p_bucket.labels;
  found.cap := cap_at(p_bucket.budget, p_bucket.cap, p_now);
  found.held := p_bucket.held;
  found.spent := p_bucket.spent;
  found.window_start := p_bucket.window_start;
  found.window_end := p_bucket.window_end;
  found.step_us := p_bucket.step_us;
  found.assumed := 0;
  IF p_bucket.step_us IS NOT NULL THEN
    SELECT coalesce(sum(held), 0), coalesce(sum(spent), 0) INTO found.held, found.spent FROM counting(p_bucket, p_now);
  END IF;
  RETURN found;
END $$;

-- Returns the amounts that expired reservations still hold in a bucket. For a rolling window, in all steps that count.
CREATE OR REPLACE FUNCTION late_held(p_bucket bucket, p_now timestamptz) RETURNS TABLE (bucket bigint, held numeric)
LANGUAGE sql STABLE AS $$
  SELECT line.bucket, sum(line.held) FROM reservation JOIN reservation_line AS line ON line.reservation = reservation.id
  WHERE state = 'reserved' AND deadline <= p_now AND (
    line.bucket = p_bucket.id
    OR p_bucket.step_us IS NOT NULL AND line.bucket IN (SELECT id FROM counting(p_bucket, p_now))
  )
  GROUP BY line.bucket
$$;

-- Returns the end of a bucket's window. For a rolling window, when so much will have left it that an amount fits, or
-- null if it never fits.
CREATE OR REPLACE FUNCTION ends(p_room room, p_budget budget, p_amount bigint, p_now timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
DECLARE
  step bucket;
BEGIN
  IF p_room.step_us IS NULL THEN
    RETURN p_room.window_end;
  END IF;
  step.budget := p_budget.name;
  step.definition := p_budget.definition;
  step.labels := p_room.labels;
  step.step_us := p_room.step_us;
  RETURN (
    SELECT min(window_end) FROM (
      SELECT window_end, sum(used) OVER (ORDER BY window_end) AS freed FROM (
        SELECT steps.window_end, steps.held::numeric + steps.spent - coalesce(late.held, 0) AS used
        FROM counting(step, p_now) AS steps LEFT JOIN late_held(step, p_now) AS late ON late.bucket = steps.id
        UNION ALL SELECT p_room.window_end, p_room.assumed WHERE p_room.assumed > 0
      ) AS steps
    ) AS leaving
    WHERE p_room.cap - p_room.held - p_room.spent + freed >= p_amount
  );
END $$;

-- Writes an alert for every threshold that a rolling window has just reached, and remembers it. A threshold fires once,
-- and again after the window was below it. `p_grown` is the amount by which the bucket has just grown.
CREATE OR REPLACE FUNCTION alert_rolling(
  p_now timestamptz, p_call text, p_reservation text, p_bucket bucket, p_grown numeric
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  after numeric;
  before numeric;
  part text;
  cap bigint := cap_at(p_bucket.budget, p_bucket.cap, p_now);
  amount numeric;
  threshold text;
  earlier integer;
  remembered text[];
  kept text[] := '{}';
BEGIN
  SELECT coalesce(sum(held), 0) + coalesce(sum(spent), 0) INTO after FROM counting(p_bucket, p_now);
  before := after - CASE WHEN p_bucket.window_end > p_now THEN p_grown ELSE 0 END;
  SELECT reached INTO remembered FROM rolling_window
  WHERE budget = p_bucket.budget AND definition = p_bucket.definition AND labels = p_bucket.labels FOR UPDATE;
  FOREACH part IN ARRAY p_bucket.alerts LOOP
    amount := part::numeric * cap;
    threshold := part || ' of ' || trim_scale(from_nanos(cap));
    IF threshold = ANY (remembered) AND before >= amount THEN
      kept := kept || threshold;
    ELSIF after > 0 AND after >= amount THEN
      SELECT count(*) INTO earlier FROM journal
      WHERE kind = 'alert' AND bucket = p_bucket.id AND detail || ' ' LIKE threshold || ' %';
      INSERT INTO journal (at, kind, reservation, bucket, detail, told) VALUES (
        p_now, 'alert', p_reservation, p_bucket.id,
        threshold || CASE WHEN earlier > 0 THEN ' (' || earlier + 1 || ')' ELSE '' END, p_call
      );
      kept := kept || threshold;
    END IF;
  END LOOP;
  IF kept <> remembered THEN
    UPDATE rolling_window SET reached = kept
    WHERE budget = p_bucket.budget AND definition = p_bucket.definition AND labels = p_bucket.labels;
  END IF;
END $$;
