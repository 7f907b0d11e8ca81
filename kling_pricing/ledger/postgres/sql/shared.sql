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

-- `lock_key`, `lock_task` and `lock_new_bucket` wait until no other transaction works on the same key, task or bucket.
-- All verbs take locks in the same order: key or task, their reservation, new buckets in the order of the budgets file,
-- expired reservations (skipping locked ones), rolling windows by id, buckets by id, allowances. So no two verbs wait for
-- each other.
CREATE OR REPLACE FUNCTION lock_key(p_project text, p_key text) RETURNS void LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock(1263555147, hashtext(p_project || chr(31) || p_key))
$$;
CREATE OR REPLACE FUNCTION lock_task(p_provider text, p_task_id text) RETURNS void LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock(1263555156, hashtext(p_provider || chr(31) || p_task_id))
$$;
CREATE OR REPLACE FUNCTION lock_new_bucket(p_budget text, p_labels text) RETURNS void LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock(1263555138, hashtext(p_budget || chr(31) || p_labels))
$$;
CREATE OR REPLACE FUNCTION lock_buckets(p_buckets bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM rolling_window) THEN
    PERFORM lock_rolling_windows(p_buckets);
  END IF;
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
  kept reservation;
BEGIN
  kept := jsonb_populate_record(NULL::reservation, terms - 'pack_units');
  kept.pack_units := (terms->>'pack_units')::jsonb;
  kept.id := p_id;
  kept.project := p_order->>'project';
  kept.key := p_key;
  kept.attempt := p_attempt;
  kept.provider := p_order->>'provider';
  kept.wire_format := p_order->>'wire_format';
  kept.reserved := (p_candidate->>'reserved')::bigint;
  kept.labels := p_order->'labels';
  kept.changes := p_candidate->'changes';
  kept.fingerprint := p_order->>'fingerprint';
  kept.created_at := p_at;
  INSERT INTO reservation (
    id, project, key, attempt, state, provider, wire_format,
    model, resolution, tier, quantity, unit, currency,
    expected, minimum, list_total, price_table, table_digest,
    statement_unit, unit_value, pack_units, account_currency, failed_tasks,
    reserved, labels, changes, fingerprint, created_at, deadline, seal
  ) VALUES (
    kept.id, kept.project, kept.key, kept.attempt, 'reserved', kept.provider, kept.wire_format,
    kept.model, kept.resolution, kept.tier, kept.quantity, kept.unit, kept.currency,
    kept.expected, kept.minimum, kept.list_total, kept.price_table, kept.table_digest,
    kept.statement_unit, kept.unit_value, kept.pack_units, kept.account_currency, kept.failed_tasks,
    kept.reserved, kept.labels, kept.changes, kept.fingerprint, kept.created_at, p_deadline, sealed(kept)
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

-- Caps.

-- Returns the cap in force of a budget: that of its overlay, or else the given one.
CREATE OR REPLACE FUNCTION cap_at(p_budget text, p_cap bigint, p_at timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT coalesce((SELECT cap FROM cap_overlay WHERE budget = p_budget AND ends_at > p_at), p_cap)
$$;

-- Alerts.

-- Writes an alert for every threshold that is reached for the first time, so that each alert fires once.
-- A threshold is a fraction of a cap, so a changed cap has new thresholds.
CREATE OR REPLACE FUNCTION alert_thresholds(
  p_now timestamptz, p_call text, p_reservation text, p_buckets bigint[], p_held bigint[], p_spent bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  grown record;
BEGIN
  INSERT INTO journal (at, kind, reservation, bucket, detail, told)
  SELECT p_now, 'alert', p_reservation, bucket.id, part.text || ' of ' || trim_scale(from_nanos(cap_at(bucket.budget, bucket.cap, p_now))), p_call
  FROM unnest(p_buckets, p_held, p_spent) WITH ORDINALITY AS move (bucket, held, spent, place)
  JOIN bucket ON bucket.id = move.bucket
  CROSS JOIN LATERAL unnest(bucket.alerts) WITH ORDINALITY AS part (text, place)
  WHERE move.held + move.spent > 0 AND bucket.held::numeric + bucket.spent > 0
    AND bucket.held::numeric + bucket.spent >= part.text::numeric * cap_at(bucket.budget, bucket.cap, p_now)
    AND step_us IS NULL
  ORDER BY move.place, part.place
  ON CONFLICT (bucket, detail) WHERE kind = 'alert' DO NOTHING;
  FOR grown IN
    SELECT bucket AS step, move.held + move.spent AS nanos
    FROM unnest(p_buckets, p_held, p_spent) WITH ORDINALITY AS move (id, held, spent, place)
    JOIN bucket ON bucket.id = move.id
    WHERE step_us IS NOT NULL AND alerts <> '{}' AND move.held + move.spent > 0 ORDER BY place
  LOOP
    PERFORM alert_rolling(p_now, p_call, p_reservation, grown.step, grown.nanos);
  END LOOP;
END $$;

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
    'budget', budget, 'labels', labels, 'cap', cap_at(budget, cap, at), 'used', CASE WHEN step_us IS NULL THEN held::numeric + spent ELSE (
      SELECT coalesce(sum(step.held) + sum(step.spent), 0) FROM bucket AS step   -- as `counting` does
      WHERE step.budget = bucket.budget AND step.definition = bucket.definition AND step.labels = bucket.labels
        AND step.window_end > journal.at
    ) END, 'currency', currency,
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
  PERFORM give_back_allowances(p_now, p_reservation, p_kind);
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

-- Returns the current budgets that match labels, in the order of the budgets file.
CREATE OR REPLACE FUNCTION matching(p_labels jsonb) RETURNS budget[] LANGUAGE sql STABLE AS $$
  SELECT coalesce(array_agg(budget ORDER BY file_order), '{}') FROM budget
  WHERE p_labels @> fixed_labels AND p_labels ?& needed_labels
    AND (listed_labels = '{}' OR NOT EXISTS (
      SELECT 1 FROM jsonb_each(listed_labels) AS listed
      WHERE NOT listed.value @> jsonb_build_array(p_labels->listed.key)
    ))
$$;

-- Returns the labels of a bucket: those of the request that split the budget.
CREATE OR REPLACE FUNCTION bucket_labels(p_budget budget, p_labels jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN p_budget.split_labels = '{}' THEN '{}' ELSE (
    SELECT jsonb_object_agg(label, p_labels->label)::text FROM unnest(p_budget.split_labels) AS label
  ) END
$$;

-- Returns the rate from a currency to each budget's currency, or null where they are the same.
CREATE OR REPLACE FUNCTION rates_of(p_quote text, p_budgets budget[], p_accounting_rates jsonb) RETURNS numeric[]
LANGUAGE plpgsql AS $$
DECLARE
  claimed budget;
  rate numeric;
  rates numeric[] := '{}';
BEGIN
  FOREACH claimed IN ARRAY p_budgets LOOP
    rate := NULL;
    IF claimed.currency IS DISTINCT FROM p_quote THEN
      SELECT (entry->>'rate')::numeric INTO rate FROM jsonb_array_elements(p_accounting_rates) AS entry
      WHERE entry->>'quote' = p_quote AND entry->>'budget' = claimed.currency;
      IF rate IS NULL THEN
        PERFORM refuse('no_rate', jsonb_build_object('budget', claimed.name, 'currency', claimed.currency, 'quote', p_quote));
      END IF;
    END IF;
    rates := array_append(rates, rate);
  END LOOP;
  RETURN rates;
END $$;

-- Returns the bucket of each budget at an instant, or null where the budget has no window then. Only the calendar decides
-- about windows. Creates the buckets that do not exist yet, and returns them in `created` too, so that the caller can
-- delete them again if it counts nothing in them. One transaction at a time creates a bucket for a budget and labels.
CREATE OR REPLACE FUNCTION buckets_of(
  p_budgets budget[], p_labels jsonb, p_at timestamptz, OUT ids bigint[], OUT created bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
  claimed budget;
  opens timestamptz;
  closes timestamptz;
  text_labels text;
  bucket_id bigint;
BEGIN
  ids := '{}';
  created := '{}';
  FOREACH claimed IN ARRAY p_budgets LOOP
    bucket_id := NULL;
    SELECT found.opens, found.closes INTO opens, closes FROM window_of(claimed, p_at) AS found;
    IF opens IS NOT NULL THEN
      text_labels := bucket_labels(claimed, p_labels);
      SELECT id INTO bucket_id FROM bucket
      WHERE budget = claimed.name AND definition = claimed.definition AND labels = text_labels
        AND window_start = opens;
      IF bucket_id IS NULL THEN
        PERFORM lock_new_bucket(claimed.name, text_labels);
        IF claimed.step_us IS NOT NULL THEN
          PERFORM create_rolling_window(claimed.name, claimed.definition, text_labels);
        END IF;
        INSERT INTO bucket (budget, definition, labels, window_start, window_end, currency, cap, alerts, step_us)
        VALUES (
          claimed.name, claimed.definition, text_labels, opens, closes, claimed.currency, claimed.cap, claimed.alerts,
          claimed.step_us
        )
        ON CONFLICT DO NOTHING RETURNING id INTO bucket_id;
        IF bucket_id IS NULL THEN
          SELECT id INTO bucket_id FROM bucket
          WHERE budget = claimed.name AND definition = claimed.definition AND labels = text_labels
            AND window_start = opens;
        ELSE
          created := created || bucket_id;
        END IF;
      END IF;
    END IF;
    ids := array_append(ids, bucket_id);
  END LOOP;
END $$;

-- Returns the amount in each budget's currency, rounded up.
CREATE OR REPLACE FUNCTION amounts_of(p_nanos bigint, p_rates numeric[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  amounts bigint[] := '{}';
  rate numeric;
BEGIN
  IF p_rates = '{}' THEN
    RETURN amounts;
  END IF;
  FOREACH rate IN ARRAY p_rates LOOP
    amounts := amounts || CASE WHEN rate IS NULL THEN p_nanos ELSE nanos_up(from_nanos(p_nanos) * rate) END;
  END LOOP;
  RETURN amounts;
END $$;

-- Refuses a request from an earlier release, and one whose labels are not printable texts that include its project.
CREATE OR REPLACE FUNCTION require_order(p_order jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF p_order ? 'claims' THEN   -- earlier releases chose the buckets themselves
    RAISE EXCEPTION 'this guard is older than the ledger, which has schema version 3; upgrade kling-pricing on this machine';
  END IF;
  IF jsonb_typeof(p_order->'labels') IS DISTINCT FROM 'object'
    OR p_order->'labels'->>'project' IS DISTINCT FROM p_order->>'project'
    OR jsonb_path_exists(p_order->'labels', '$.* ? (@.type() != "string")')
    OR EXISTS (
      SELECT 1 FROM jsonb_each_text(p_order->'labels')
      WHERE key || value ~ '[\u0001-\u001f\u007f-\u009f]' OR length(key) NOT BETWEEN 1 AND 200
        OR length(value) NOT BETWEEN 1 AND 200
    )
  THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
      MESSAGE = 'labels must be an object of printable texts that contains the project';
  END IF;
END $$;

-- Refuses an interval that is not between 0 and 10 years.
CREATE OR REPLACE FUNCTION require_interval(p_interval interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF NOT coalesce(p_interval > '0 s' AND p_interval <= '3660 days', false) THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'an interval must be greater than 0 and at most 10 years';
  END IF;
END $$;

-- Refuses an amount that is negative, infinite or not a number.
CREATE OR REPLACE FUNCTION require_amount(p_amount numeric) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF NOT coalesce(p_amount BETWEEN 0 AND 1e30, true) THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'an amount must be a number that is not negative';
  END IF;
END $$;

-- Instants and digests as the journal keeps them.

CREATE OR REPLACE FUNCTION instant_text(p_at timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
$$;

-- Returns the digest of the columns of a reservation that never change; see terms.SEALED_COLUMNS.
CREATE OR REPLACE FUNCTION sealed(p_kept reservation) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT left(encode(sha256(convert_to(jsonb_build_array(
    p_kept.id, p_kept.project, p_kept.key, p_kept.attempt, p_kept.provider, p_kept.wire_format, p_kept.model,
    p_kept.resolution, p_kept.tier, p_kept.quantity::text, p_kept.unit, p_kept.currency, p_kept.expected, p_kept.minimum,
    p_kept.list_total, p_kept.price_table, p_kept.table_digest, p_kept.statement_unit, p_kept.unit_value::text,
    p_kept.pack_units, p_kept.account_currency, p_kept.failed_tasks, p_kept.reserved, p_kept.labels, p_kept.changes,
    p_kept.fingerprint, instant_text(p_kept.created_at)
  )::text, 'UTF8')), 'hex'), 32)
$$;

-- Returns the digest of the columns of an observation that never change; see terms.SEALED_OBSERVATION_COLUMNS.
CREATE OR REPLACE FUNCTION observation_sealed(
  p_provider text, p_task_id text, p_state text, p_charge jsonb, p_duration_s numeric, p_model text,
  p_facts jsonb, p_seen_at timestamptz
) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT left(encode(sha256(convert_to(jsonb_build_array(
    p_provider, p_task_id, p_state, p_charge, p_duration_s::text, p_model, p_facts, instant_text(p_seen_at)
  )::text, 'UTF8')), 'hex'), 32)
$$;

CREATE OR REPLACE FUNCTION calendar_digest() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT left(encode(sha256(convert_to(coalesce(string_agg(
    schedule || ' ' || extract(epoch FROM window_start) || ' ' || extract(epoch FROM window_end) || ' ' || zone_data, ', '
    ORDER BY schedule, window_start
  ), ''), 'UTF8')), 'hex'), 32) FROM calendar
$$;

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
