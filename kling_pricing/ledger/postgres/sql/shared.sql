-- Functions that the verbs share. The guard's role cannot call them.

-- The ledger's clock.
CREATE OR REPLACE FUNCTION current_instant() RETURNS timestamptz LANGUAGE sql AS $$
  SELECT clock_timestamp()
$$;

-- Refuses a verb and rolls back its changes. The detail is data from which the client builds its error message.
-- KP001 means that the state of the reservation does not allow the verb. KP002 stands for all other refusals.
CREATE OR REPLACE FUNCTION refuse(p_kind text, p_about jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = CASE WHEN p_about ? 'state' THEN 'KP001' ELSE 'KP002' END,
    MESSAGE = 'kling_pricing refuses: ' || p_kind,
    DETAIL = (p_about || jsonb_build_object('kind', p_kind))::text;
END $$;

-- Begins a verb. Its lock conflicts only with the lock of `revision_begin`: no money moves while budgets are replaced,
-- and verbs do not block each other here.
CREATE OR REPLACE FUNCTION begin_verb() RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
  LOCK TABLE budget_revision IN ROW SHARE MODE;
  RETURN current_instant();
END $$;

-- `lock_key` and `lock_task` wait until no other transaction works on the same key or task.
-- All verbs take locks in the same order: key or task, their reservation, expired reservations (skipping locked ones),
-- buckets by id. So no two verbs wait for each other.
CREATE OR REPLACE FUNCTION lock_key(p_project text, p_key text) RETURNS void LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock(1263555147, hashtext(p_project || chr(31) || p_key))
$$;
CREATE OR REPLACE FUNCTION lock_task(p_provider text, p_task_id text) RETURNS void LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock(1263555156, hashtext(p_provider || chr(31) || p_task_id))
$$;
CREATE OR REPLACE FUNCTION lock_buckets(p_buckets bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF cardinality(p_buckets) = 1 THEN   -- the usual case, which needs no sort
    PERFORM 1 FROM bucket WHERE id = p_buckets[1] FOR UPDATE;
  ELSE
    PERFORM 1 FROM bucket WHERE id = ANY (p_buckets) ORDER BY id FOR UPDATE;
  END IF;
END $$;

-- Amounts.

CREATE OR REPLACE FUNCTION from_nanos(p_nanos bigint) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
  SELECT p_nanos * 0.000000001
$$;

-- Returns an amount in nanos, rounded up. Products of numeric are exact.
CREATE OR REPLACE FUNCTION nanos_up(p_amount numeric) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  nanos numeric := ceil(p_amount * 1000000000);
BEGIN
  IF nanos > 4000000000000000000 THEN
    PERFORM refuse('too_large', jsonb_build_object('amount', trim_scale(p_amount)));
  END IF;
  RETURN nanos;
END $$;

-- Reservations.

-- Sent and not known to have arrived, or finished with a charge that has no value here.
CREATE OR REPLACE FUNCTION in_doubt(p_kept reservation, p_now timestamptz) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT (p_kept.state = 'dispatching' AND (p_kept.doubted OR p_kept.deadline <= p_now))
    OR (p_kept.state IN ('bound', 'settled') AND p_kept.doubted)
$$;

CREATE OR REPLACE FUNCTION shown(p_kept reservation, p_now timestamptz) RETURNS jsonb LANGUAGE sql AS $$
  SELECT to_jsonb(p_kept) - 'dispatch_token'
    || jsonb_build_object('in_doubt', in_doubt(p_kept, p_now))
$$;

CREATE OR REPLACE FUNCTION refuse_state(p_kind text, p_kept reservation, p_now timestamptz, p_about jsonb DEFAULT '{}')
RETURNS void LANGUAGE sql AS $$
  SELECT refuse(p_kind, p_about || jsonb_build_object('state', p_kept.state, 'reservation', shown(p_kept, p_now)))
$$;

-- Returns the reservation with an id, or with a provider and a task. All its fields are null if it does not exist.
CREATE OR REPLACE FUNCTION lookup(p_ref text[]) RETURNS reservation LANGUAGE plpgsql STABLE AS $$
DECLARE
  kept reservation;
BEGIN
  IF cardinality(p_ref) = 1 THEN
    SELECT * INTO kept FROM reservation WHERE id = p_ref[1];
  ELSE
    SELECT * INTO kept FROM reservation WHERE provider = p_ref[1] AND task_id = p_ref[2];
  END IF;
  RETURN kept;
END $$;

-- Returns the same reservation in its newest state, and locks it until the transaction ends.
CREATE OR REPLACE FUNCTION locked(p_ref text[]) RETURNS reservation LANGUAGE plpgsql AS $$
DECLARE
  kept reservation;
BEGIN
  IF cardinality(p_ref) = 1 THEN
    SELECT * INTO kept FROM reservation WHERE id = p_ref[1] FOR UPDATE;
  ELSE
    SELECT * INTO kept FROM reservation WHERE provider = p_ref[1] AND task_id = p_ref[2] FOR UPDATE;
  END IF;
  IF kept.id IS NULL THEN
    PERFORM refuse('unknown', jsonb_build_object('ref', p_ref));
  END IF;
  RETURN kept;
END $$;

CREATE OR REPLACE FUNCTION reread(p_id text) RETURNS reservation LANGUAGE sql AS $$
  SELECT * FROM reservation WHERE id = p_id
$$;

DROP FUNCTION IF EXISTS insert_reservation(text, text, integer, jsonb, jsonb, timestamptz, timestamptz);
-- Writes the row of a new, unsent reservation. The terms have the names of the columns.
CREATE FUNCTION insert_reservation(
  p_id text, p_key text, p_attempt integer, p_order jsonb, p_candidate jsonb, p_at timestamptz, p_deadline timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  terms jsonb := p_candidate->'terms';
BEGIN
  IF terms IS NULL THEN   -- releases for schema version 1 sent no terms
    RAISE EXCEPTION 'this guard is older than the ledger, which has schema version 2; upgrade kling-pricing on this machine';
  END IF;
  INSERT INTO reservation (
    id, project, key, attempt, state, provider, wire_format,
    model, resolution, tier, quantity, unit, currency,
    expected, minimum, list_total, price_table, table_digest,
    statement_unit, unit_value, pack_units, account_currency, failed_tasks,
    reserved, labels, changes, fingerprint, created_at, deadline
  ) VALUES (
    p_id, p_order->>'project', p_key, p_attempt, 'reserved', p_order->>'provider', p_order->>'wire_format',
    terms->>'model', terms->>'resolution', terms->>'tier', (terms->>'quantity')::numeric, terms->>'unit', terms->>'currency',
    (terms->>'expected')::bigint, (terms->>'minimum')::bigint, (terms->>'list_total')::bigint, terms->>'price_table', terms->>'table_digest',
    terms->>'statement_unit', (terms->>'unit_value')::numeric, (terms->>'pack_units')::jsonb, terms->>'account_currency',
    terms->>'failed_tasks',
    (p_candidate->>'reserved')::bigint, p_order->'labels', p_candidate->'changes', p_order->>'fingerprint', p_at, p_deadline
  );
END $$;

-- Changes balances and writes the journal entry for each change. The caller holds the locks of the buckets.
-- Returns whether any of the buckets has thresholds.
CREATE OR REPLACE FUNCTION enter(
  p_now timestamptz, p_kind text, p_reservation text,
  p_buckets bigint[], p_held bigint[], p_spent bigint[], p_detail text
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  has_thresholds boolean;
  watched boolean := false;
BEGIN
  IF coalesce(cardinality(p_buckets), 0) = 0 THEN
    INSERT INTO journal (at, kind, reservation, detail) VALUES (p_now, p_kind, p_reservation, p_detail);
    RETURN false;
  END IF;
  FOR place IN 1..cardinality(p_buckets) LOOP   -- one plain statement per bucket is faster than a statement for all
    UPDATE bucket SET held = held + p_held[place], spent = spent + p_spent[place] WHERE id = p_buckets[place]
    RETURNING alerts <> '{}' INTO has_thresholds;
    INSERT INTO journal (at, kind, reservation, bucket, held_delta, spent_delta, detail)
    VALUES (p_now, p_kind, p_reservation, p_buckets[place], p_held[place], p_spent[place], p_detail);
    watched := watched OR has_thresholds;
  END LOOP;
  RETURN watched;
END $$;

-- Alerts.

-- Writes an alert for every threshold that is reached for the first time, so that each alert fires once.
-- A threshold is a fraction of a cap, so a changed cap has new thresholds.
CREATE OR REPLACE FUNCTION alert_thresholds(
  p_now timestamptz, p_call text, p_reservation text, p_buckets bigint[], p_held bigint[], p_spent bigint[]
) RETURNS void LANGUAGE sql AS $$
  INSERT INTO journal (at, kind, reservation, bucket, detail, told)
  SELECT p_now, 'alert', p_reservation, bucket.id, part.text || ' of ' || trim_scale(from_nanos(bucket.cap)), p_call
  FROM unnest(p_buckets, p_held, p_spent) WITH ORDINALITY AS move (bucket, held, spent, place)
  JOIN bucket ON bucket.id = move.bucket
  CROSS JOIN LATERAL unnest(bucket.alerts) WITH ORDINALITY AS part (text, place)
  WHERE move.held + move.spent > 0 AND bucket.held::numeric + bucket.spent > 0
    AND bucket.held::numeric + bucket.spent >= part.text::numeric * bucket.cap
  ORDER BY move.place, part.place
  ON CONFLICT (bucket, detail) WHERE kind = 'alert' DO NOTHING
$$;

-- Writes an alert for a bill above the reserved amount, once for each bucket and amount.
CREATE OR REPLACE FUNCTION alert_overrun(
  p_now timestamptz, p_call text, p_reservation text, p_buckets bigint[], p_billed numeric
) RETURNS void LANGUAGE sql AS $$
  INSERT INTO journal (at, kind, reservation, bucket, detail, told)
  SELECT p_now, 'alert', p_reservation, bucket, trim_scale(p_billed) || ' billed for ' || p_reservation, p_call
  FROM unnest(p_buckets) AS bucket ORDER BY bucket
  ON CONFLICT (bucket, detail) WHERE kind = 'alert' DO NOTHING
$$;

-- Stores the alerts for a doubtful charge, once for each bucket of the reservation and text.
CREATE OR REPLACE FUNCTION alert_charge(p_now timestamptz, p_call text, p_reservation text, p_text text)
RETURNS void LANGUAGE sql AS $$
  INSERT INTO journal (at, kind, reservation, bucket, detail, told)
  SELECT p_now, 'alert', p_reservation, bucket, 'charge of ' || p_reservation || ': ' || p_text, p_call
  FROM reservation_line WHERE reservation = p_reservation ORDER BY bucket
  ON CONFLICT (bucket, detail) WHERE kind = 'alert' DO NOTHING
$$;

-- Returns the alerts that a call caused. A call that is repeated because its response was lost returns them again.
CREATE OR REPLACE FUNCTION alerts_of(p_call text) RETURNS jsonb LANGUAGE sql AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object(
    'kind', CASE WHEN detail LIKE 'charge of %' THEN 'charge' WHEN detail LIKE '% billed for %' THEN 'overrun'
      ELSE 'threshold' END,
    'threshold', CASE WHEN detail NOT LIKE 'charge of %' AND detail NOT LIKE '% billed for %'
      THEN split_part(detail, ' of ', 1) END,
    'detail', CASE WHEN detail LIKE 'charge of %' THEN substr(detail, strpos(detail, ': ') + 2) END,
    'budget', budget, 'labels', labels, 'cap', cap, 'used', held::numeric + spent, 'currency', currency,
    'window_end', window_end, 'reservation_id', reservation
  ) ORDER BY seq), '[]')
  FROM journal JOIN bucket ON bucket.id = journal.bucket WHERE told = p_call
$$;

-- Releases.

CREATE OR REPLACE FUNCTION give_back(p_reservation text, p_reason text, p_kind text, p_now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  buckets bigint[];
  held bigint[];
BEGIN
  SELECT coalesce(array_agg(line.bucket ORDER BY line.bucket), '{}'),
    coalesce(array_agg(-line.held ORDER BY line.bucket), '{}')
  INTO buckets, held FROM reservation_line AS line WHERE line.reservation = p_reservation;
  PERFORM lock_buckets(buckets);
  UPDATE reservation SET state = 'released', reason = p_reason, closed_at = p_now WHERE id = p_reservation;
  PERFORM enter(p_now, p_kind, p_reservation, buckets, held, array_fill(0::bigint, ARRAY[cardinality(buckets)]), p_reason);
END $$;

-- Returns whether an expired reservation has not been released yet.
-- Ordered by deadline, this query uses the index. With EXISTS, the planner may assume that every third row is late, and
-- scan the table for one.
CREATE OR REPLACE FUNCTION is_late(p_now timestamptz) RETURNS boolean LANGUAGE sql AS $$
  SELECT coalesce((SELECT deadline FROM reservation WHERE state = 'reserved' ORDER BY deadline LIMIT 1) <= p_now, false)
$$;

-- Releases the expired reservations. They were never dispatched, so they are certainly unsent.
-- Skips reservations that another transaction has locked. Also locks the buckets of the calling verb, so that all
-- buckets are locked in one order.
CREATE OR REPLACE FUNCTION expire(p_now timestamptz, p_buckets bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  late text[] := ARRAY(
    SELECT id FROM reservation WHERE state = 'reserved' AND deadline <= p_now ORDER BY seq FOR UPDATE SKIP LOCKED
  );
  late_id text;
BEGIN
  PERFORM lock_buckets(p_buckets || ARRAY(SELECT bucket FROM reservation_line WHERE reservation = ANY (late)));
  FOREACH late_id IN ARRAY late LOOP
    PERFORM give_back(late_id, 'expired', 'expire', p_now);
  END LOOP;
END $$;

-- Buckets.

-- Returns the start of the window that contains an instant, or null if none of the windows contains it.
-- The caller also sends the windows before and after its current one, in case its clock is slightly off.
CREATE OR REPLACE FUNCTION window_start(p_periods jsonb, p_at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
BEGIN
  FOR place IN 0..jsonb_array_length(p_periods) - 1 LOOP
    IF (p_periods->place->>0)::timestamptz <= p_at AND p_at < (p_periods->place->>1)::timestamptz THEN
      RETURN (p_periods->place->>0)::timestamptz;
    END IF;
  END LOOP;
  RETURN NULL;
END $$;

DROP FUNCTION IF EXISTS buckets_of(jsonb, timestamptz);
-- Returns the bucket of each claim, or null where the claim does not apply. Creates the buckets that do not exist yet,
-- and returns them in `created` too, so that the caller can delete them again if it counts nothing in them.
CREATE FUNCTION buckets_of(p_claims jsonb, p_at timestamptz, OUT ids bigint[], OUT created bigint[])
LANGUAGE plpgsql AS $$
DECLARE
  claim jsonb;
  opens timestamptz;
  bucket_id bigint;
  missing text;
BEGIN
  FOR round IN 1..2 LOOP
    ids := '{}';
    missing := NULL;
    FOR place IN 0..jsonb_array_length(p_claims) - 1 LOOP
      claim := p_claims->place;
      opens := window_start(claim->'periods', p_at);
      bucket_id := NULL;
      IF opens IS NOT NULL THEN
        SELECT id INTO bucket_id FROM bucket
        WHERE budget = claim->>'budget' AND definition = claim->>'definition' AND labels = claim->>'labels'
          AND bucket.window_start = opens;
        missing := CASE WHEN bucket_id IS NULL THEN coalesce(missing, claim->>'budget') ELSE missing END;
      ELSIF jsonb_array_length(claim->'periods') > 1 THEN
        PERFORM refuse('clock', jsonb_build_object('budget', claim->>'budget', 'now', p_at));
      END IF;
      ids := array_append(ids, bucket_id);
    END LOOP;
    IF missing IS NULL THEN
      RETURN;
    END IF;
    WITH new AS (
      INSERT INTO bucket (budget, definition, labels, window_start, window_end, currency, cap, alerts)
      SELECT budget.name, budget.definition, requested->>'labels', opening, (period->>1)::timestamptz,
        budget.currency, budget.cap, budget.alerts
      FROM jsonb_array_elements(p_claims) AS requested
      JOIN budget ON budget.name = requested->>'budget' AND budget.definition = requested->>'definition'
      CROSS JOIN LATERAL window_start(requested->'periods', p_at) AS opening
      JOIN LATERAL jsonb_array_elements(requested->'periods') AS period ON (period->>0)::timestamptz = opening
      ORDER BY budget.name, (requested->>'labels') COLLATE "C", opening
      ON CONFLICT DO NOTHING
      RETURNING id
    )
    SELECT array_agg(id) INTO created FROM new;
  END LOOP;
  PERFORM refuse('not_in_force', jsonb_build_object('budget', missing));
END $$;

-- Returns the result for a request whose budgets are no longer in force, or null if they are in force.
CREATE OR REPLACE FUNCTION outdated(p_budgets text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  in_force text;
BEGIN
  SELECT digest INTO in_force FROM budget_revision ORDER BY revision DESC LIMIT 1;
  IF in_force = p_budgets THEN
    RETURN NULL;
  ELSIF in_force IS NULL THEN
    PERFORM refuse('no_budgets', '{}');
  END IF;
  RETURN jsonb_build_object('outdated', installed());
END $$;
