-- What the verbs share. None of these can be called by the guard's role.

-- The ledger's clock.
CREATE OR REPLACE FUNCTION current_instant() RETURNS timestamptz LANGUAGE sql AS $$
  SELECT clock_timestamp()
$$;

-- Ends a verb without a trace. What it says is data; the client puts it into words.
-- KP001: the reservation is in a state that does not allow it. KP002: anything else.
CREATE OR REPLACE FUNCTION refuse(p_kind text, p_about jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = CASE WHEN p_about ? 'state' THEN 'KP001' ELSE 'KP002' END,
    MESSAGE = 'kling_pricing refuses: ' || p_kind,
    DETAIL = (p_about || jsonb_build_object('kind', p_kind))::text;
END $$;

-- Begins a verb. While budgets are being replaced (`revision_begin` takes the lock that conflicts with this one)
-- no money moves; otherwise verbs do not hinder each other here.
CREATE OR REPLACE FUNCTION begin_verb() RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
  LOCK TABLE budget_revision IN ROW SHARE MODE;
  RETURN current_instant();
END $$;

-- Waits until no other transaction works on the same key, or on the same task.
-- Order of locks, the same everywhere: key or task, own reservation, expired reservations (those that are
-- free), buckets by id. So no two verbs wait for each other.
CREATE OR REPLACE FUNCTION lock_key(p_project text, p_key text) RETURNS void LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock(1263555147, hashtext(p_project || chr(31) || p_key))
$$;
CREATE OR REPLACE FUNCTION lock_task(p_provider text, p_task_id text) RETURNS void LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock(1263555156, hashtext(p_provider || chr(31) || p_task_id))
$$;
CREATE OR REPLACE FUNCTION lock_buckets(p_buckets bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF cardinality(p_buckets) = 1 THEN   -- mostly, and then there is nothing to sort
    PERFORM 1 FROM bucket WHERE id = p_buckets[1] FOR UPDATE;
  ELSE
    PERFORM 1 FROM bucket WHERE id = ANY (p_buckets) ORDER BY id FOR UPDATE;
  END IF;
END $$;

-- Amounts.

CREATE OR REPLACE FUNCTION from_nanos(p_nanos bigint) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
  SELECT p_nanos * 0.000000001
$$;

-- An amount in nanos, rounded up; products of numeric are exact.
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

-- The reservation of an id, or of a provider and its task; null fields: there is none.
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

-- The same, as the newest transaction left it, and nobody else's until this one ends.
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
-- Writes a reservation that is still to be sent. The terms have the names of the columns.
CREATE FUNCTION insert_reservation(
  p_id text, p_key text, p_attempt integer, p_order jsonb, p_candidate jsonb, p_at timestamptz, p_deadline timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  terms jsonb := p_candidate->'terms';
BEGIN
  IF terms IS NULL THEN   -- as releases for schema version 1 sent it
    RAISE EXCEPTION 'this guard is older than the ledger, which has schema version 2; upgrade kling-pricing there';
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

-- Balances move only together with the entry that says why. The buckets are locked already.
-- Returns whether any of them has thresholds.
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
  FOR place IN 1..cardinality(p_buckets) LOOP   -- a plain statement for each is faster than one about a few
    UPDATE bucket SET held = held + p_held[place], spent = spent + p_spent[place] WHERE id = p_buckets[place]
    RETURNING alerts <> '{}' INTO has_thresholds;
    INSERT INTO journal (at, kind, reservation, bucket, held_delta, spent_delta, detail)
    VALUES (p_now, p_kind, p_reservation, p_buckets[place], p_held[place], p_spent[place], p_detail);
    watched := watched OR has_thresholds;
  END LOOP;
  RETURN watched;
END $$;

-- Alerts.

-- Writes down the thresholds reached for the first time, so that each alerts once.
-- A threshold is a part of a cap, so another cap has other thresholds.
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

-- Writes down that a bill is above what was reserved, once for each bucket and amount.
CREATE OR REPLACE FUNCTION alert_overrun(
  p_now timestamptz, p_call text, p_reservation text, p_buckets bigint[], p_billed numeric
) RETURNS void LANGUAGE sql AS $$
  INSERT INTO journal (at, kind, reservation, bucket, detail, told)
  SELECT p_now, 'alert', p_reservation, bucket, trim_scale(p_billed) || ' billed for ' || p_reservation, p_call
  FROM unnest(p_buckets) AS bucket ORDER BY bucket
  ON CONFLICT (bucket, detail) WHERE kind = 'alert' DO NOTHING
$$;

-- Writes down that a charge is doubtful, once for each bucket of the reservation and text.
CREATE OR REPLACE FUNCTION alert_charge(p_now timestamptz, p_call text, p_reservation text, p_text text)
RETURNS void LANGUAGE sql AS $$
  INSERT INTO journal (at, kind, reservation, bucket, detail, told)
  SELECT p_now, 'alert', p_reservation, bucket, 'charge of ' || p_reservation || ': ' || p_text, p_call
  FROM reservation_line WHERE reservation = p_reservation ORDER BY bucket
  ON CONFLICT (bucket, detail) WHERE kind = 'alert' DO NOTHING
$$;

-- What a call set off. One that is repeated, since its answer was lost, is told once more.
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

-- Giving back.

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

-- Whether something was reserved and not dispatched in time.
-- Asked in this order, the index answers at once. Asked whether there is one, the planner may believe that
-- every third row is late, and look for it through the whole table.
CREATE OR REPLACE FUNCTION is_late(p_now timestamptz) RETURNS boolean LANGUAGE sql AS $$
  SELECT coalesce((SELECT deadline FROM reservation WHERE state = 'reserved' ORDER BY deadline LIMIT 1) <= p_now, false)
$$;

-- Releases what was reserved and not dispatched in time: it is certainly unsent.
-- What another transaction works on is left to that one. The buckets of the verb's own are locked here as well,
-- so that all are locked in one order.
CREATE OR REPLACE FUNCTION expire(p_now timestamptz, p_buckets bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  late text[] := ARRAY(
    SELECT id FROM reservation WHERE state = 'reserved' AND deadline <= p_now ORDER BY seq FOR UPDATE SKIP LOCKED
  );
  each_late text;
BEGIN
  PERFORM lock_buckets(p_buckets || ARRAY(SELECT bucket FROM reservation_line WHERE reservation = ANY (late)));
  FOREACH each_late IN ARRAY late LOOP
    PERFORM give_back(each_late, 'expired', 'expire', p_now);
  END LOOP;
END $$;

-- Buckets.

-- Where the window begins that an instant lies in; null where a window that comes once is not open.
-- A caller whose clock is right has sent the windows before and after as well.
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

-- The bucket of each claim, made where it is needed for the first time; null where the claim falls away.
-- Those that were made are told apart, so that they can be taken away again where nothing is counted in them.
CREATE OR REPLACE FUNCTION buckets_of(p_claims jsonb, p_at timestamptz, OUT ids bigint[], OUT made bigint[])
LANGUAGE plpgsql AS $$
DECLARE
  claim jsonb;
  opens timestamptz;
  own bigint;
  missing text;
BEGIN
  FOR round IN 1..2 LOOP
    ids := '{}';
    missing := NULL;
    FOR place IN 0..jsonb_array_length(p_claims) - 1 LOOP
      claim := p_claims->place;
      opens := window_start(claim->'periods', p_at);
      own := NULL;
      IF opens IS NOT NULL THEN
        SELECT id INTO own FROM bucket
        WHERE budget = claim->>'budget' AND definition = claim->>'definition' AND labels = claim->>'labels'
          AND bucket.window_start = opens;
        missing := CASE WHEN own IS NULL THEN coalesce(missing, claim->>'budget') ELSE missing END;
      ELSIF jsonb_array_length(claim->'periods') > 1 THEN
        PERFORM refuse('clock', jsonb_build_object('budget', claim->>'budget', 'now', p_at));
      END IF;
      ids := array_append(ids, own);
    END LOOP;
    IF missing IS NULL THEN
      RETURN;
    END IF;
    WITH new AS (
      INSERT INTO bucket (budget, definition, labels, window_start, window_end, currency, cap, alerts)
      SELECT budget.name, budget.definition, said->>'labels', opening, (period->>1)::timestamptz,
        budget.currency, budget.cap, budget.alerts
      FROM jsonb_array_elements(p_claims) AS said
      JOIN budget ON budget.name = said->>'budget' AND budget.definition = said->>'definition'
      CROSS JOIN LATERAL window_start(said->'periods', p_at) AS opening
      JOIN LATERAL jsonb_array_elements(said->'periods') AS period ON (period->>0)::timestamptz = opening
      ORDER BY budget.name, (said->>'labels') COLLATE "C", opening
      ON CONFLICT DO NOTHING
      RETURNING id
    )
    SELECT array_agg(id) INTO made FROM new;
  END LOOP;
  PERFORM refuse('not_in_force', jsonb_build_object('budget', missing));
END $$;

-- The answer to an order that was made by other budgets than those in force: those; null where it was not.
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
