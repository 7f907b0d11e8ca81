CREATE SCHEMA kling_pricing;
SET search_path = kling_pricing, pg_temp;
-- The tables of a ledger, version 1.
-- Amounts are whole nanos (billionths of a currency unit). Instants are in UTC. A bucket's labels are JSON with sorted
-- keys, so that equal labels are equal texts. No column holds a prompt, a URL or an API key.

CREATE TABLE schema_version (
  version integer NOT NULL
);

CREATE TABLE budget_revision (
  revision bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  digest text NOT NULL,
  document text NOT NULL,
  installed_at timestamptz NOT NULL
);

-- The budgets in force. The verbs use the caps in this table, never a cap from a client.
CREATE TABLE budget (
  name text COLLATE "C" PRIMARY KEY,
  definition text COLLATE "C" NOT NULL,
  currency text NOT NULL,
  cap bigint NOT NULL,
  max_request bigint,
  may_cap boolean NOT NULL,
  alerts text[] NOT NULL
);

CREATE TABLE bucket (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  budget text COLLATE "C" NOT NULL,
  definition text COLLATE "C" NOT NULL,
  labels text COLLATE "C" NOT NULL,
  window_start timestamptz NOT NULL,
  window_end timestamptz NOT NULL,
  currency text NOT NULL,
  cap bigint NOT NULL,
  held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
  spent bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),
  alerts text[] NOT NULL,
  opening_token text,                       -- the call that set the opening balance, to recognise a repeated call
  UNIQUE (budget, definition, labels, window_start)
) WITH (fillfactor = 50);                   -- leaves room on the page for updates, because balances change often

CREATE TABLE reservation (
  id text COLLATE "C" PRIMARY KEY,
  seq bigint GENERATED ALWAYS AS IDENTITY,
  project text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  attempt integer NOT NULL,
  state text NOT NULL CHECK (state IN ('reserved', 'dispatching', 'bound', 'settled', 'released')),
  doubted boolean NOT NULL DEFAULT false,
  dispatch_token text,                      -- the call that won the dispatch, so that it wins again if repeated
  provider text COLLATE "C" NOT NULL,
  task_id text COLLATE "C",
  wire_format text NOT NULL,
  model text NOT NULL,
  resolution text NOT NULL,
  tier text NOT NULL,
  quantity numeric NOT NULL,
  unit text NOT NULL,
  currency text NOT NULL,
  expected bigint NOT NULL CHECK (expected >= 0),
  reserved bigint NOT NULL CHECK (reserved >= 0),
  billed bigint CHECK (billed >= 0),
  basis text CHECK (basis IN ('quote', 'response', 'statement', 'operator')),
  price_table text NOT NULL,
  table_digest text NOT NULL,
  statement_unit text,
  unit_value numeric,
  failed_tasks text NOT NULL,
  labels jsonb NOT NULL,
  changes jsonb NOT NULL,
  reason text,
  fingerprint text NOT NULL,
  created_at timestamptz NOT NULL,
  dispatched_at timestamptz,
  closed_at timestamptz,
  deadline timestamptz NOT NULL,
  UNIQUE (project, key, attempt),
  CHECK ((state = 'settled') = (billed IS NOT NULL)),
  CHECK ((billed IS NULL) = (basis IS NULL))
);
CREATE UNIQUE INDEX reservation_task ON reservation (provider, task_id) WHERE task_id IS NOT NULL;
CREATE INDEX reservation_unsent ON reservation (deadline) WHERE state = 'reserved';
CREATE INDEX reservation_sent ON reservation (deadline) WHERE state = 'dispatching';
CREATE INDEX reservation_made ON reservation (created_at, seq);

CREATE TABLE reservation_line (
  reservation text COLLATE "C" NOT NULL REFERENCES reservation (id),
  bucket bigint NOT NULL REFERENCES bucket (id),
  held bigint NOT NULL CHECK (held >= 0),
  spent bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),
  rate numeric CHECK (rate > 0),
  PRIMARY KEY (reservation, bucket)
);

CREATE TABLE journal (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL,
  kind text NOT NULL,
  reservation text COLLATE "C" REFERENCES reservation (id),
  bucket bigint REFERENCES bucket (id),
  held_delta bigint NOT NULL DEFAULT 0,
  spent_delta bigint NOT NULL DEFAULT 0,
  detail text,
  told text COLLATE "C"                     -- for an alert, the call that caused it: a repeated call returns it again
);
CREATE UNIQUE INDEX journal_alert ON journal (bucket, detail) WHERE kind = 'alert';
CREATE INDEX journal_told ON journal (told) WHERE told IS NOT NULL;

CREATE FUNCTION journal_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the journal is append-only';
END $$;
CREATE TRIGGER journal_is_not_changed BEFORE UPDATE OR DELETE ON journal
  FOR EACH ROW EXECUTE FUNCTION journal_is_append_only();
CREATE TRIGGER journal_is_not_emptied BEFORE TRUNCATE ON journal
  FOR EACH STATEMENT EXECUTE FUNCTION journal_is_append_only();

CREATE TABLE observation (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  provider text COLLATE "C" NOT NULL,
  task_id text COLLATE "C" NOT NULL,
  state text,
  amount numeric,
  amount_unit text,
  duration_s numeric,
  model text,
  seen_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX observation_once ON observation
  (provider, task_id, coalesce(state, ''), coalesce(amount, -1), coalesce(amount_unit, ''));

-- Version 2: reservations store the quote at the published prices if there is a contract, the minimum of a range, the
-- values of units and the currency of the account. Observations store all parts of a charge.
ALTER TABLE reservation ADD COLUMN list_total bigint CHECK (list_total >= 0);
ALTER TABLE reservation ADD COLUMN minimum bigint CHECK (minimum >= 0);
ALTER TABLE reservation ADD COLUMN pack_units jsonb;
ALTER TABLE reservation ADD COLUMN account_currency text;
ALTER TABLE observation ADD COLUMN charge jsonb;
UPDATE observation
SET charge = jsonb_build_object('parts', jsonb_build_array(jsonb_build_array(trim_scale(amount)::text, amount_unit)))
WHERE amount IS NOT NULL AND amount_unit IS NOT NULL;
DROP INDEX observation_once;
ALTER TABLE observation DROP COLUMN amount;
ALTER TABLE observation DROP COLUMN amount_unit;
CREATE UNIQUE INDEX observation_once ON observation
  (provider, task_id, coalesce(state, ''), coalesce(md5(charge::text), ''));
DROP FUNCTION IF EXISTS observe(text, text[], text, text, text, numeric, text, numeric, text);
DROP FUNCTION IF EXISTS take_up(text, reservation, text, numeric, text, timestamptz);
DROP FUNCTION IF EXISTS unmatched();     -- now `unclaimed`
DROP FUNCTION IF EXISTS differences();   -- replaced by `verification`

-- Version 3: observations store the facts that a response about a successful task states. The requests that hooks let
-- pass without a price are counted by day.
ALTER TABLE observation ADD COLUMN facts jsonb;
DROP INDEX observation_once;
CREATE UNIQUE INDEX observation_once ON observation (
  provider, task_id, coalesce(state, ''), coalesce(md5(charge::text), ''), coalesce(duration_s, -1),
  coalesce(md5(facts::text), '')
);
DROP FUNCTION IF EXISTS bind(text, text[], text);
DROP FUNCTION IF EXISTS bound(text, reservation, text, timestamptz);
DROP FUNCTION IF EXISTS observe(text, text[], text, text, text, jsonb, numeric, text, numeric, text);
DROP FUNCTION IF EXISTS take_up(text, reservation, text, jsonb, numeric, timestamptz);
CREATE TABLE unpriced_requests (
  provider text COLLATE "C" NOT NULL,
  path text COLLATE "C" NOT NULL,
  day date NOT NULL,
  requests bigint NOT NULL,
  told text COLLATE "C" NOT NULL,           -- the last call that counted, to recognise a repeated call
  PRIMARY KEY (provider, path, day)
);


-- Every query of a guard calls this function, so that a guard that was open during a migration notices it.
CREATE OR REPLACE FUNCTION require_version(p_version integer) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF p_version <> 3 THEN
    RAISE EXCEPTION USING ERRCODE = 'KP003', MESSAGE = 'the ledger has schema version 3',
      DETAIL = '3';
  END IF;
  RETURN true;
END $$;

CREATE OR REPLACE FUNCTION verification() RETURNS SETOF jsonb LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' SET work_mem = '64MB' SET enable_nestloop = off AS $$SELECT to_jsonb(result) || jsonb_build_object('query', 'difference') FROM (WITH 
  by_line AS MATERIALIZED (
    SELECT reservation, bucket, sum(held_delta) AS held, sum(spent_delta) AS spent, max(seq) AS newest,
      sum(CASE WHEN kind = 'reserve' THEN held_delta END) AS set_aside,
      min(CASE WHEN kind IN ('reserve', 'record') THEN seq END) AS begun,
      max(CASE WHEN kind = 'record' THEN seq END) AS recorded,
      min(CASE WHEN kind = 'reserve' THEN at END) AS reserved_at,
      max(CASE WHEN kind = 'dispatch' THEN at END) AS sent_at,
      max(CASE WHEN kind = 'bind' THEN seq END) AS bound,
      max(CASE WHEN kind = 'doubt' THEN seq END) AS doubted,
      max(CASE WHEN kind IN ('settle', 'record') THEN seq END) AS settled,
      max(CASE WHEN kind IN ('release', 'expire') THEN seq END) AS released,
      max(CASE WHEN kind = 'opening' THEN seq END) AS opened
    FROM journal GROUP BY reservation, bucket
  ), by_reservation AS MATERIALIZED (
    SELECT reservation, min(begun) AS begun, max(recorded) AS recorded, min(reserved_at) AS reserved_at,
      max(sent_at) AS sent_at,
      max(bound) AS bound, max(doubted) AS doubted, max(settled) AS settled, max(released) AS released
    FROM by_line WHERE reservation IS NOT NULL GROUP BY reservation
  ), revised AS MATERIALIZED (
    SELECT seq, detail, at FROM journal WHERE kind = 'revision'
  ), by_bucket AS MATERIALIZED (
    SELECT bucket, sum(held) AS held, sum(spent) AS spent, max(opened) AS opened
    FROM by_line WHERE bucket IS NOT NULL GROUP BY bucket
  )
, different_reservations AS MATERIALIZED (SELECT 'reservation ' || reservation.id AS subject, CAST(state AS TEXT) AS kept_0, CAST(CASE WHEN TRUE THEN CASE WHEN events.settled IS NOT NULL THEN 'settled' WHEN events.released IS NOT NULL THEN 'released' WHEN events.bound IS NOT NULL THEN 'bound' WHEN events.sent_at IS NOT NULL THEN 'dispatching' ELSE 'reserved' END ELSE state END AS TEXT) AS derived_0, CAST(CASE WHEN reservation.doubted THEN 'yes' ELSE 'no' END AS TEXT) AS kept_1, CAST(CASE WHEN events.doubted IS NULL OR state <> 'released' THEN CASE WHEN events.doubted IS NOT NULL AND state = 'dispatching' OR events.doubted > events.bound AND state = 'bound' OR events.doubted > events.settled AND state = 'settled' THEN 'yes' ELSE 'no' END ELSE CASE WHEN reservation.doubted THEN 'yes' ELSE 'no' END END AS TEXT) AS derived_1, CAST(CASE WHEN task_id IS NULL THEN 'missing' ELSE 'known' END AS TEXT) AS kept_2, CAST(CASE WHEN TRUE THEN CASE WHEN events.bound IS NULL AND events.recorded IS NULL THEN 'missing' ELSE 'known' END ELSE CASE WHEN task_id IS NULL THEN 'missing' ELSE 'known' END END AS TEXT) AS derived_2, CAST(created_at AS TEXT) AS kept_3, CAST(CASE WHEN events.reserved_at IS NOT NULL THEN events.reserved_at ELSE created_at END AS TEXT) AS derived_3, CAST(dispatched_at AS TEXT) AS kept_4, CAST(CASE WHEN TRUE THEN CASE WHEN events.recorded IS NULL THEN events.sent_at ELSE created_at END ELSE dispatched_at END AS TEXT) AS derived_4, CAST(closed_at AS TEXT) AS kept_5, CAST(CASE WHEN TRUE THEN closed.at ELSE closed_at END AS TEXT) AS derived_5, CAST(basis AS TEXT) AS kept_6, CAST(CASE WHEN TRUE THEN CASE closed.kind WHEN 'settle' THEN closed.detail WHEN 'record' THEN 'operator' END ELSE basis END AS TEXT) AS derived_6, CAST(reason AS TEXT) AS kept_7, CAST(CASE WHEN state IN ('released', 'reserved') OR state = 'settled' AND NOT reservation.doubted THEN CASE WHEN state = 'released' THEN closed.detail END ELSE reason END AS TEXT) AS derived_7, CAST(project AS TEXT) AS kept_8, CAST(CASE WHEN TRUE THEN reservation.labels->>'project' ELSE project END AS TEXT) AS derived_8, CAST(reserved AS TEXT) AS kept_9, CAST(CASE WHEN reserved < expected THEN expected ELSE reserved END AS TEXT) AS derived_9, CAST(CASE WHEN dispatch_token IS NULL THEN 'missing' ELSE 'known' END AS TEXT) AS kept_10, CAST(CASE WHEN TRUE THEN CASE WHEN events.sent_at IS NULL THEN 'missing' ELSE 'known' END ELSE CASE WHEN dispatch_token IS NULL THEN 'missing' ELSE 'known' END END AS TEXT) AS derived_10 FROM 
        reservation JOIN by_reservation AS events ON events.reservation = reservation.id
        LEFT JOIN (
          SELECT seq, at, kind, detail FROM journal WHERE kind IN ('settle', 'record', 'release', 'expire')
        ) AS closed ON closed.seq = coalesce(events.settled, events.released)
         WHERE ((TRUE) AND state IS DISTINCT FROM CASE WHEN events.settled IS NOT NULL THEN 'settled' WHEN events.released IS NOT NULL THEN 'released' WHEN events.bound IS NOT NULL THEN 'bound' WHEN events.sent_at IS NOT NULL THEN 'dispatching' ELSE 'reserved' END) OR ((events.doubted IS NULL OR state <> 'released') AND CASE WHEN reservation.doubted THEN 'yes' ELSE 'no' END IS DISTINCT FROM CASE WHEN events.doubted IS NOT NULL AND state = 'dispatching' OR events.doubted > events.bound AND state = 'bound' OR events.doubted > events.settled AND state = 'settled' THEN 'yes' ELSE 'no' END) OR ((TRUE) AND CASE WHEN task_id IS NULL THEN 'missing' ELSE 'known' END IS DISTINCT FROM CASE WHEN events.bound IS NULL AND events.recorded IS NULL THEN 'missing' ELSE 'known' END) OR ((events.reserved_at IS NOT NULL) AND created_at IS DISTINCT FROM events.reserved_at) OR ((TRUE) AND dispatched_at IS DISTINCT FROM CASE WHEN events.recorded IS NULL THEN events.sent_at ELSE created_at END) OR ((TRUE) AND closed_at IS DISTINCT FROM closed.at) OR ((TRUE) AND basis IS DISTINCT FROM CASE closed.kind WHEN 'settle' THEN closed.detail WHEN 'record' THEN 'operator' END) OR ((state IN ('released', 'reserved') OR state = 'settled' AND NOT reservation.doubted) AND reason IS DISTINCT FROM CASE WHEN state = 'released' THEN closed.detail END) OR ((TRUE) AND project IS DISTINCT FROM reservation.labels->>'project') OR ((reserved < expected) AND reserved IS DISTINCT FROM expected) OR ((TRUE) AND CASE WHEN dispatch_token IS NULL THEN 'missing' ELSE 'known' END IS DISTINCT FROM CASE WHEN events.sent_at IS NULL THEN 'missing' ELSE 'known' END)), different_lines AS MATERIALIZED (SELECT 'reservation ' || line.reservation AS subject, CAST(CASE WHEN state IN ('reserved', 'dispatching', 'bound') THEN line.held ELSE 0 END AS TEXT) AS kept_0, CAST(CASE WHEN TRUE THEN events.held ELSE CASE WHEN state IN ('reserved', 'dispatching', 'bound') THEN line.held ELSE 0 END END AS TEXT) AS derived_0, CAST(line.held AS TEXT) AS kept_1, CAST(CASE WHEN events.set_aside IS NOT NULL AND NOT state IN ('reserved', 'dispatching', 'bound') THEN events.set_aside ELSE line.held END AS TEXT) AS derived_1, CAST(line.held AS TEXT) AS kept_2, CAST(CASE WHEN events.set_aside IS NULL AND events.recorded IS NULL AND rate IS NULL THEN reserved ELSE line.held END AS TEXT) AS derived_2, CAST(reserved AS TEXT) AS kept_3, CAST(CASE WHEN events.set_aside IS NOT NULL AND rate IS NULL AND line.held = events.set_aside THEN line.held ELSE reserved END AS TEXT) AS derived_3, CAST(line.spent AS TEXT) AS kept_4, CAST(CASE WHEN TRUE THEN events.spent ELSE line.spent END AS TEXT) AS derived_4, CAST(coalesce(billed, 0) AS TEXT) AS kept_5, CAST(CASE WHEN rate IS NULL THEN line.spent ELSE coalesce(billed, 0) END AS TEXT) AS derived_5, CAST(CASE WHEN rate IS NULL THEN 'missing' ELSE 'given' END AS TEXT) AS kept_6, CAST(CASE WHEN TRUE THEN CASE WHEN reservation.currency = bucket.currency THEN 'missing' ELSE 'given' END ELSE CASE WHEN rate IS NULL THEN 'missing' ELSE 'given' END END AS TEXT) AS derived_6, CAST(created_at AS TEXT) AS kept_7, CAST(CASE WHEN created_at < window_start OR created_at >= window_end THEN window_start ELSE created_at END AS TEXT) AS derived_7 FROM 
        reservation_line AS line JOIN reservation ON reservation.id = line.reservation
        JOIN bucket ON bucket.id = line.bucket
        JOIN by_line AS events ON events.reservation = line.reservation AND events.bucket = line.bucket
         WHERE ((TRUE) AND CASE WHEN state IN ('reserved', 'dispatching', 'bound') THEN line.held ELSE 0 END IS DISTINCT FROM events.held) OR ((events.set_aside IS NOT NULL AND NOT state IN ('reserved', 'dispatching', 'bound')) AND line.held IS DISTINCT FROM events.set_aside) OR ((events.set_aside IS NULL AND events.recorded IS NULL AND rate IS NULL) AND line.held IS DISTINCT FROM reserved) OR ((events.set_aside IS NOT NULL AND rate IS NULL AND line.held = events.set_aside) AND reserved IS DISTINCT FROM line.held) OR ((TRUE) AND line.spent IS DISTINCT FROM events.spent) OR ((rate IS NULL) AND coalesce(billed, 0) IS DISTINCT FROM line.spent) OR ((TRUE) AND CASE WHEN rate IS NULL THEN 'missing' ELSE 'given' END IS DISTINCT FROM CASE WHEN reservation.currency = bucket.currency THEN 'missing' ELSE 'given' END) OR ((created_at < window_start OR created_at >= window_end) AND created_at IS DISTINCT FROM window_start)), different_buckets AS MATERIALIZED (SELECT 'bucket ' || budget || ' ' || labels || ' from ' || window_start AS subject, CAST(bucket.held AS TEXT) AS kept_0, CAST(CASE WHEN TRUE THEN coalesce(events.held, 0) ELSE bucket.held END AS TEXT) AS derived_0, CAST(bucket.spent AS TEXT) AS kept_1, CAST(CASE WHEN TRUE THEN coalesce(events.spent, 0) ELSE bucket.spent END AS TEXT) AS derived_1, CAST(window_end AS TEXT) AS kept_2, CAST(CASE WHEN window_end <= window_start THEN window_start ELSE window_end END AS TEXT) AS derived_2, CAST(CASE WHEN opening_token IS NULL THEN 'missing' ELSE 'known' END AS TEXT) AS kept_3, CAST(CASE WHEN TRUE THEN CASE WHEN events.opened IS NULL THEN 'missing' ELSE 'known' END ELSE CASE WHEN opening_token IS NULL THEN 'missing' ELSE 'known' END END AS TEXT) AS derived_3 FROM bucket LEFT JOIN by_bucket AS events ON events.bucket = bucket.id WHERE ((TRUE) AND bucket.held IS DISTINCT FROM coalesce(events.held, 0)) OR ((TRUE) AND bucket.spent IS DISTINCT FROM coalesce(events.spent, 0)) OR ((window_end <= window_start) AND window_end IS DISTINCT FROM window_start) OR ((TRUE) AND CASE WHEN opening_token IS NULL THEN 'missing' ELSE 'known' END IS DISTINCT FROM CASE WHEN events.opened IS NULL THEN 'missing' ELSE 'known' END)), difference (subject, what, kept, derived, source, is_amount) AS (SELECT missing.*, CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0 FROM (
    SELECT 'reservation ' || events.reservation, 'its line in bucket ' || events.bucket
    FROM by_line AS events LEFT JOIN reservation_line AS line
      ON line.reservation = events.reservation AND line.bucket = events.bucket
    WHERE events.reservation IS NOT NULL AND events.bucket IS NOT NULL AND line.bucket IS NULL
    ) AS missing UNION ALL SELECT missing.*, CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0 FROM (
    SELECT 'reservation ' || line.reservation, 'the journal entry for its line in bucket ' || line.bucket
    FROM reservation_line AS line LEFT JOIN by_line AS events
      ON events.reservation = line.reservation AND events.bucket = line.bucket
    WHERE events.newest IS NULL
    ) AS missing UNION ALL SELECT missing.*, CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0 FROM (
    SELECT 'reservation ' || reservation.id, 'the journal entry that created it'
    FROM reservation LEFT JOIN by_reservation AS events ON events.reservation = reservation.id
    WHERE events.begun IS NULL
    ) AS missing UNION ALL SELECT missing.*, CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0 FROM (
    SELECT 'reservation ' || events.reservation, 'the reservation that a journal entry refers to'
    FROM by_reservation AS events LEFT JOIN reservation ON reservation.id = events.reservation
    WHERE reservation.id IS NULL
    ) AS missing UNION ALL SELECT missing.*, CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0 FROM (
    SELECT 'reservation ' || line.reservation, 'the reservation that a line refers to'
    FROM reservation_line AS line LEFT JOIN reservation ON reservation.id = line.reservation
    WHERE reservation.id IS NULL
    ) AS missing UNION ALL SELECT missing.*, CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0 FROM (
    SELECT 'bucket ' || events.bucket, 'the bucket that a journal entry refers to'
    FROM by_bucket AS events LEFT JOIN bucket ON bucket.id = events.bucket WHERE bucket.id IS NULL
    ) AS missing UNION ALL SELECT missing.*, CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0 FROM (
    SELECT DISTINCT 'bucket ' || line.bucket, 'the bucket that a line refers to'
    FROM reservation_line AS line LEFT JOIN bucket ON bucket.id = line.bucket WHERE bucket.id IS NULL
    ) AS missing UNION ALL SELECT missing.*, CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0 FROM (
    SELECT 'budget revision ' || revision, 'its journal entry' FROM budget_revision
    WHERE NOT EXISTS (SELECT 1 FROM revised WHERE detail = digest AND at = installed_at)
    ) AS missing UNION ALL SELECT missing.*, CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0 FROM (
    SELECT 'journal entry ' || seq, 'its budget revision' FROM revised
    WHERE NOT EXISTS (SELECT 1 FROM budget_revision WHERE digest = detail AND installed_at = at)
    ) AS missing UNION ALL 
    SELECT 'journal entry ' || seq, 'kind', kind, 'one of the known kinds', 'it must be', 0
    FROM journal WHERE kind NOT IN ('revision', 'opening', 'reserve', 'dispatch', 'bind', 'doubt', 'settle', 'release', 'expire', 'record', 'carry_over', 'alert')
     UNION ALL 
    SELECT 'key ' || key || ' of project ' || project, 'attempt', CAST(max(attempt) AS TEXT),
      CAST(count(*) AS TEXT), 'the number of its reservations is', 0
    FROM reservation GROUP BY project, key HAVING max(attempt) <> count(*)
     UNION ALL 
    SELECT 'reservation ' || min(line.reservation), 'labels', CAST(reservation.labels AS TEXT), bucket.labels,
      'its bucket requires', 0
    FROM reservation_line AS line JOIN reservation ON reservation.id = line.reservation
    JOIN bucket ON bucket.id = line.bucket
    WHERE bucket.labels <> '{}' GROUP BY bucket.labels, reservation.labels
    HAVING NOT reservation.labels @> CAST(bucket.labels AS jsonb)
     UNION ALL SELECT subject, 'state', kept_0, derived_0, 'the journal gives', 0 FROM different_reservations WHERE kept_0 IS DISTINCT FROM derived_0 UNION ALL SELECT subject, 'doubted', kept_1, derived_1, 'the journal gives', 0 FROM different_reservations WHERE kept_1 IS DISTINCT FROM derived_1 UNION ALL SELECT subject, 'task_id', kept_2, derived_2, 'the journal gives', 0 FROM different_reservations WHERE kept_2 IS DISTINCT FROM derived_2 UNION ALL SELECT subject, 'created_at', kept_3, derived_3, 'the journal gives', 0 FROM different_reservations WHERE kept_3 IS DISTINCT FROM derived_3 UNION ALL SELECT subject, 'dispatched_at', kept_4, derived_4, 'the journal gives', 0 FROM different_reservations WHERE kept_4 IS DISTINCT FROM derived_4 UNION ALL SELECT subject, 'closed_at', kept_5, derived_5, 'the journal gives', 0 FROM different_reservations WHERE kept_5 IS DISTINCT FROM derived_5 UNION ALL SELECT subject, 'basis', kept_6, derived_6, 'the journal gives', 0 FROM different_reservations WHERE kept_6 IS DISTINCT FROM derived_6 UNION ALL SELECT subject, 'reason', kept_7, derived_7, 'the journal gives', 0 FROM different_reservations WHERE kept_7 IS DISTINCT FROM derived_7 UNION ALL SELECT subject, 'project', kept_8, derived_8, 'the labels give', 0 FROM different_reservations WHERE kept_8 IS DISTINCT FROM derived_8 UNION ALL SELECT subject, 'reserved', kept_9, derived_9, 'the quote is', 1 FROM different_reservations WHERE kept_9 IS DISTINCT FROM derived_9 UNION ALL SELECT subject, 'dispatch_token', kept_10, derived_10, 'the journal gives', 0 FROM different_reservations WHERE kept_10 IS DISTINCT FROM derived_10 UNION ALL SELECT subject, 'held', kept_0, derived_0, 'the journal gives', 1 FROM different_lines WHERE kept_0 IS DISTINCT FROM derived_0 UNION ALL SELECT subject, 'held', kept_1, derived_1, 'the journal gives', 1 FROM different_lines WHERE kept_1 IS DISTINCT FROM derived_1 UNION ALL SELECT subject, 'held', kept_2, derived_2, 'its reservation gives', 1 FROM different_lines WHERE kept_2 IS DISTINCT FROM derived_2 UNION ALL SELECT subject, 'reserved', kept_3, derived_3, 'its line gives', 1 FROM different_lines WHERE kept_3 IS DISTINCT FROM derived_3 UNION ALL SELECT subject, 'spent', kept_4, derived_4, 'the journal gives', 1 FROM different_lines WHERE kept_4 IS DISTINCT FROM derived_4 UNION ALL SELECT subject, 'billed', kept_5, derived_5, 'the journal gives', 1 FROM different_lines WHERE kept_5 IS DISTINCT FROM derived_5 UNION ALL SELECT subject, 'rate', kept_6, derived_6, 'the currencies give', 0 FROM different_lines WHERE kept_6 IS DISTINCT FROM derived_6 UNION ALL SELECT subject, 'created_at', kept_7, derived_7, 'the window of its bucket starts at', 0 FROM different_lines WHERE kept_7 IS DISTINCT FROM derived_7 UNION ALL SELECT subject, 'held', kept_0, derived_0, 'the journal gives', 1 FROM different_buckets WHERE kept_0 IS DISTINCT FROM derived_0 UNION ALL SELECT subject, 'spent', kept_1, derived_1, 'the journal gives', 1 FROM different_buckets WHERE kept_1 IS DISTINCT FROM derived_1 UNION ALL SELECT subject, 'window_end', kept_2, derived_2, 'its start is', 0 FROM different_buckets WHERE kept_2 IS DISTINCT FROM derived_2 UNION ALL SELECT subject, 'opening_token', kept_3, derived_3, 'the journal gives', 0 FROM different_buckets WHERE kept_3 IS DISTINCT FROM derived_3) SELECT * FROM difference) AS result UNION ALL SELECT to_jsonb(result) || jsonb_build_object('query', 'revision') FROM (SELECT revision, digest, document, installed_at FROM budget_revision ORDER BY revision) AS result UNION ALL SELECT to_jsonb(result) || jsonb_build_object('query', 'bucket') FROM (
        SELECT budget, definition, currency, cap, alerts, max(window_end) AS window_end FROM bucket
        GROUP BY budget, definition, currency, cap, alerts ORDER BY budget, definition, cap
    ) AS result UNION ALL SELECT to_jsonb(result) || jsonb_build_object('query', 'rounding') FROM (
        SELECT min(id) AS reservation, expected, reserved, unit_value FROM reservation WHERE reserved > expected
        GROUP BY expected, reserved, unit_value
    ) AS result UNION ALL SELECT to_jsonb(result) || jsonb_build_object('query', 'converted') FROM (
        SELECT min(line.reservation) AS reservation, reservation.currency AS quote, bucket.currency AS budget,
          CAST(rate AS TEXT) AS rate, reserved, billed, line.held AS held, line.spent AS spent
        FROM reservation_line AS line JOIN reservation ON reservation.id = line.reservation
        JOIN bucket ON bucket.id = line.bucket
        WHERE rate IS NOT NULL
        GROUP BY reservation.currency, bucket.currency, rate, reserved, billed, line.held, line.spent
    ) AS result UNION ALL SELECT to_jsonb(result) || jsonb_build_object('query', 'in_force') FROM (SELECT * FROM budget) AS result$$;
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

-- Sets money aside in every bucket that a request claims, or in none.
CREATE OR REPLACE FUNCTION reserve(p_id text, p_order jsonb, p_candidates jsonb, p_expires_after interval)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  is_known boolean;       -- whether the key was used before
  is_outdated boolean;    -- whether other budgets are in force
  is_late boolean;        -- whether an expired reservation has not been released yet
  before reservation;
  holds boolean;          -- whether the request's windows and price are valid now
  claimed record;
  bucket_ids bigint[];    -- by place of the claim; null where the claim does not apply
  created bigint[];       -- the buckets that this call has created
  lacking jsonb;          -- the shortfalls for the first candidate
  place_chosen integer := 0;
  chosen jsonb;
  attempt integer;
  amount bigint;
  buckets bigint[] := '{}';
  held bigint[] := '{}';
  nothing bigint[] := '{}';
  alerts jsonb;
BEGIN
  PERFORM lock_key(p_order->>'project', p_order->>'key');
  -- One statement, because every reservation needs it and usually there is nothing to do.
  SELECT EXISTS (SELECT FROM reservation WHERE project = p_order->>'project' AND key = p_order->>'key'),
    (SELECT digest FROM budget_revision ORDER BY revision DESC LIMIT 1) IS DISTINCT FROM p_order->>'budgets',
    is_late(now)
  INTO is_known, is_outdated, is_late;
  IF is_known THEN
    SELECT * INTO before FROM reservation
    WHERE project = p_order->>'project' AND key = p_order->>'key' ORDER BY id = p_id DESC, attempt DESC LIMIT 1
    FOR UPDATE;
  END IF;
  IF before.id = p_id THEN   -- the same call again, because its response was lost
    RETURN jsonb_build_object('reserved', shown(before, now), 'replayed', false, 'alerts', alerts_of(p_id));
  END IF;
  IF is_outdated THEN
    RETURN outdated(p_order->>'budgets');
  END IF;
  holds := coalesce(
    now >= (p_order->'holds'->>0)::timestamptz AND now < (p_order->'holds'->>1)::timestamptz, false
  );
  IF holds AND (before.id IS NULL OR before.fingerprint = p_order->>'fingerprint') THEN
    claimed := buckets_of(p_order->'claims', now);
    bucket_ids := claimed.ids;
    created := claimed.created;
  END IF;
  IF is_late THEN
    PERFORM expire(now, bucket_ids);
  ELSE
    PERFORM lock_buckets(bucket_ids);
  END IF;
  IF before.id IS NOT NULL THEN
    before := reread(before.id);
    IF before.fingerprint <> p_order->>'fingerprint' THEN
      PERFORM refuse('key_taken', jsonb_build_object('reservation', shown(before, now)));
    ELSIF before.state = 'reserved' THEN
      DELETE FROM bucket WHERE id = ANY (created);
      RETURN jsonb_build_object('reserved', shown(before, now), 'replayed', true, 'alerts', jsonb_build_array());
    ELSIF before.state <> 'released' THEN
      PERFORM refuse_state('key_sent', before, now);
    END IF;
  END IF;

  IF NOT holds THEN
    RETURN jsonb_build_object('mistimed', now);
  END IF;
  IF array_remove(bucket_ids, NULL) = '{}' AND NOT (p_order->>'may_be_unmatched')::boolean THEN
    RETURN jsonb_build_object('refused', jsonb_build_array());
  END IF;
  chosen := p_candidates->0;
  lacking := without_room(bucket_ids, chosen->'amounts');
  IF lacking <> '[]' THEN
    chosen := NULL;
    IF NOT lacking @? '$[*] ? (@.may_cap == false)' THEN   -- one budget that does not cap is enough to refuse
      FOR place IN 1..jsonb_array_length(p_candidates) - 1 LOOP
        IF without_room(bucket_ids, p_candidates->place->'amounts') = '[]' THEN
          place_chosen := place;
          chosen := p_candidates->place;
          EXIT;
        END IF;
      END LOOP;
    END IF;
    IF chosen IS NULL THEN
      DELETE FROM bucket WHERE id = ANY (created);
      RETURN jsonb_build_object('refused', lacking);
    END IF;
  END IF;

  attempt := coalesce(before.attempt, 0) + 1;
  PERFORM insert_reservation(p_id, p_order->>'key', attempt, p_order, chosen, now, now + p_expires_after);
  FOR place IN 1..cardinality(bucket_ids) LOOP
    IF bucket_ids[place] IS NOT NULL THEN
      amount := (chosen->'amounts'->>(place - 1))::bigint;
      INSERT INTO reservation_line (reservation, bucket, held, rate)
      VALUES (p_id, bucket_ids[place], amount, (p_order->'claims'->(place - 1)->>'rate')::numeric);
      buckets := buckets || bucket_ids[place];
      held := held || amount;
      nothing := nothing || 0::bigint;
    END IF;
  END LOOP;
  alerts := jsonb_build_array();
  IF enter(now, 'reserve', p_id, buckets, held, nothing, NULL) THEN
    PERFORM alert_thresholds(now, p_id, p_id, buckets, held, nothing);
    alerts := alerts_of(p_id);
  END IF;
  -- The caller knows the other columns.
  RETURN jsonb_build_object(
    'candidate', place_chosen, 'attempt', attempt, 'created_at', now, 'deadline', now + p_expires_after,
    'alerts', alerts
  );
END $$;

-- Returns a shortfall for every bucket that these amounts do not fit into.
CREATE OR REPLACE FUNCTION without_room(p_buckets bigint[], p_amounts jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  needed bigint;
  fits boolean := true;
BEGIN
  FOR place IN 1..cardinality(p_buckets) LOOP   -- usually everything fits, and this loop finds that faster
    EXIT WHEN NOT fits;
    needed := (p_amounts->>(place - 1))::bigint;
    SELECT bucket.cap::numeric - held - spent >= needed AND needed <= coalesce(max_request, needed) INTO fits
    FROM bucket JOIN budget ON budget.name = bucket.budget WHERE bucket.id = p_buckets[place];
    fits := coalesce(fits, true);   -- the claim does not apply, or its budget is not in force
  END LOOP;
  IF fits THEN
    RETURN '[]';
  END IF;
  RETURN coalesce(jsonb_agg(jsonb_build_object(
    'budget', name, 'labels', labels, 'requested', amount::bigint, 'available', cap::numeric - held - spent,
    'max_request', max_request, 'currency', currency, 'window_end', window_end, 'may_cap', may_cap
  ) ORDER BY place), '[]')
  FROM (
    SELECT budget.name, labels, bucket.cap, held, spent, max_request, may_cap, bucket.currency, window_end, place, amount
    FROM jsonb_array_elements_text(p_amounts) WITH ORDINALITY AS part (amount, place)
    JOIN bucket ON bucket.id = p_buckets[place]
    JOIN budget ON budget.name = bucket.budget
  ) AS asked
  WHERE cap::numeric - held - spent < amount::bigint OR amount::bigint > max_request;
END $$;

-- Moves a reservation from reserved to dispatching, for exactly one caller. That caller may repeat the call.
CREATE OR REPLACE FUNCTION dispatch(p_id text, p_token text, p_doubtful_after interval)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  kept reservation := locked(ARRAY[p_id]);
BEGIN
  IF kept.dispatch_token = p_token THEN
    RETURN shown(kept, now);
  END IF;
  IF kept.state = 'reserved' AND kept.deadline > now THEN
    UPDATE reservation
    SET state = 'dispatching', dispatched_at = now, deadline = now + p_doubtful_after, dispatch_token = p_token
    WHERE id = p_id RETURNING * INTO kept;
    PERFORM enter(now, 'dispatch', p_id, NULL, NULL, NULL, NULL);
    RETURN shown(kept, now);
  END IF;
  IF kept.state = 'reserved' THEN
    PERFORM expire(now, NULL);
    kept := reread(p_id);
  END IF;
  -- returns the refusal instead of raising it, so that an expiry is committed
  RETURN jsonb_build_object('refusal', jsonb_build_object('kind', 'dispatch', 'reservation', shown(kept, now)));
END $$;

-- Binds a reservation to the provider's task, and applies earlier observations of that task.
-- `p_compared` has the comparisons of observations with the quote: the observation's id -> [made, remark].
CREATE OR REPLACE FUNCTION bind(p_call text, p_ref text[], p_task_id text, p_compared jsonb)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  kept reservation := lookup(p_ref);
BEGIN
  PERFORM lock_task(kept.provider, p_task_id);
  kept := locked(p_ref);
  RETURN bound(p_call, kept, p_task_id, p_compared, now);
END $$;

-- Does the work of `bind`. The caller holds the locks of the reservation and of its task.
CREATE OR REPLACE FUNCTION bound(
  p_call text, p_kept reservation, p_task_id text, p_compared jsonb, p_now timestamptz
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  other reservation;
  seen observation;
  uncompared jsonb;
BEGIN
  IF p_kept.task_id = p_task_id THEN
    RETURN jsonb_build_object('reservation', shown(p_kept, p_now), 'alerts', alerts_of(p_call));
  ELSIF p_kept.task_id IS NOT NULL THEN
    PERFORM refuse_state('bound_to_another', p_kept, p_now, jsonb_build_object('task_id', p_task_id));
  ELSIF p_kept.dispatched_at IS NULL THEN
    PERFORM refuse_state('bound_unsent', p_kept, p_now, jsonb_build_object('task_id', p_task_id));
  END IF;
  other := lookup(ARRAY[p_kept.provider, p_task_id]);
  IF other.id IS NOT NULL THEN
    PERFORM refuse_state('task_of_another', p_kept, p_now, jsonb_build_object('task_id', p_task_id, 'other', other.id));
  END IF;
  SELECT jsonb_agg(to_jsonb(observation) ORDER BY id) INTO uncompared FROM observation
  WHERE provider = p_kept.provider AND task_id = p_task_id
    AND needs_comparison(state, charge, duration_s, facts) AND NOT p_compared ? id::text;
  IF uncompared IS NOT NULL THEN
    RETURN jsonb_build_object('reservation', shown(p_kept, p_now), 'uncompared', uncompared);
  END IF;
  UPDATE reservation SET task_id = p_task_id, doubted = false,
    state = CASE state WHEN 'dispatching' THEN 'bound' ELSE state END
  WHERE id = p_kept.id;
  PERFORM enter(p_now, 'bind', p_kept.id, NULL, NULL, NULL, NULL);
  FOR seen IN
    SELECT * FROM observation WHERE provider = p_kept.provider AND task_id = p_task_id ORDER BY id
  LOOP
    PERFORM take_up(p_call, reread(p_kept.id), seen.state, seen.charge, p_compared->seen.id::text, p_now);
  END LOOP;
  RETURN jsonb_build_object('reservation', shown(reread(p_kept.id), p_now), 'alerts', alerts_of(p_call));
END $$;

-- Whether an observation states something that can contradict the quote, as `outcomes.needs_comparison`.
CREATE OR REPLACE FUNCTION needs_comparison(p_state text, p_charge jsonb, p_duration_s numeric, p_facts jsonb)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(p_state = 'succeeded' AND (p_facts IS NOT NULL OR p_duration_s <> 0 OR p_charge ? 'list_price'), false)
$$;

-- Marks a reservation in doubt: the provider may or may not have accepted the request. Has no effect if the outcome
-- is already known.
CREATE OR REPLACE FUNCTION doubt(p_ref text[], p_reason text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  kept reservation := locked(p_ref);
BEGIN
  IF kept.state = 'reserved' THEN
    PERFORM refuse_state('doubt', kept, now);
  ELSIF kept.state = 'dispatching' AND NOT (kept.doubted AND kept.reason = p_reason) THEN
    UPDATE reservation SET doubted = true, reason = p_reason WHERE id = kept.id RETURNING * INTO kept;
    PERFORM enter(now, 'doubt', kept.id, NULL, NULL, NULL, p_reason);
  END IF;
  RETURN shown(kept, now);
END $$;

-- Releases the reserved money if the reservation is in one of these states. Has no effect if it is already released.
-- A reservation that was marked in doubt is released only if the states include 'in doubt'.
CREATE OR REPLACE FUNCTION release(p_ref text[], p_reason text, p_states text[])
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  kept reservation := locked(p_ref);
BEGIN
  IF kept.state = 'released' THEN
    RETURN shown(kept, now);
  ELSIF kept.state <> ALL (p_states) OR kept.state = 'settled' THEN
    PERFORM refuse_state('release', kept, now);
  ELSIF kept.state = 'dispatching' AND kept.doubted AND 'in doubt' <> ALL (p_states) THEN
    PERFORM refuse_state('doubted', kept, now);
  END IF;
  PERFORM give_back(kept.id, p_reason, 'release', now);
  RETURN shown(reread(kept.id), now);
END $$;

-- Settles a reservation at an amount, or at the quote if the amount is null. The amount replaces the held money, or an
-- earlier amount on a weaker basis.
CREATE OR REPLACE FUNCTION settle(p_call text, p_ref text[], p_amount numeric, p_basis text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  kept reservation := locked(p_ref);
  billed numeric := coalesce(p_amount, from_nanos(kept.expected));
BEGIN
  IF kept.state = 'settled' AND kept.basis = p_basis AND from_nanos(kept.billed) <> billed
    AND NOT replaces(kept, billed, p_basis)
  THEN
    PERFORM refuse_state('settled_otherwise', kept, now, jsonb_build_object('amount', trim_scale(billed)));
  END IF;
  PERFORM spend(p_call, kept, billed, p_basis, now);
  RETURN jsonb_build_object('reservation', shown(reread(kept.id), now), 'alerts', alerts_of(p_call));
END $$;

-- Returns whether an amount replaces the amount at which a reservation is settled. A stronger basis replaces a weaker
-- one. On the same basis the higher amount wins, so the order of two responses does not matter. The basis operator
-- always replaces.
CREATE OR REPLACE FUNCTION replaces(p_kept reservation, p_billed numeric, p_basis text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
  SELECT p_kept.basis IS NULL OR p_basis = 'operator'
    OR (p_basis = p_kept.basis AND p_billed > p_kept.billed * 0.000000001)
    OR array_position(ARRAY['quote', 'response', 'statement', 'operator'], p_basis)
      > array_position(ARRAY['quote', 'response', 'statement', 'operator'], p_kept.basis)
$$;

-- Settles a locked reservation, unless it is already settled on a basis that prevails.
CREATE OR REPLACE FUNCTION spend(p_call text, p_kept reservation, p_billed numeric, p_basis text, p_now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  nanos bigint;
  buckets bigint[];
  counted bigint[];
  held bigint[];
  spent bigint[];
BEGIN
  IF p_kept.dispatched_at IS NULL THEN
    PERFORM refuse_state('settled_unsent', p_kept, p_now);
  ELSIF p_kept.state = 'settled' AND NOT replaces(p_kept, p_billed, p_basis) THEN
    RETURN;
  END IF;
  nanos := nanos_up(p_billed);
  SELECT array_agg(bucket ORDER BY bucket), array_agg(amount ORDER BY bucket),
    array_agg(CASE WHEN p_kept.state IN ('reserved', 'dispatching', 'bound') THEN -line.held ELSE 0 END ORDER BY bucket),
    array_agg(amount - line.spent ORDER BY bucket)
  INTO buckets, counted, held, spent
  FROM reservation_line AS line
  CROSS JOIN LATERAL (SELECT CASE WHEN line.rate IS NULL THEN nanos ELSE nanos_up(p_billed * line.rate) END AS amount) AS new
  WHERE reservation = p_kept.id;
  PERFORM lock_buckets(buckets);
  UPDATE reservation_line AS line SET spent = new.amount
  FROM unnest(buckets, counted) AS new (bucket, amount)
  WHERE line.reservation = p_kept.id AND line.bucket = new.bucket;
  UPDATE reservation SET state = 'settled', billed = nanos, basis = p_basis, closed_at = p_now, doubted = false,
    reason = NULL
  WHERE id = p_kept.id;
  IF enter(p_now, 'settle', p_kept.id, buckets, held, spent, p_basis) THEN
    PERFORM alert_thresholds(p_now, p_call, p_kept.id, buckets, held, spent);
  END IF;
  IF p_billed > from_nanos(p_kept.reserved) THEN
    PERFORM alert_overrun(p_now, p_call, p_kept.id, buckets, p_billed);
  END IF;
END $$;

-- Stores an observation of a task, and applies it to the task's reservation. If the task has no reservation yet,
-- `bind` applies the observation later. `p_compared` is its comparison with the quote: [made, remark].
CREATE OR REPLACE FUNCTION observe(
  p_call text, p_ref text[], p_provider text, p_task_id text, p_state text, p_charge jsonb, p_duration_s numeric,
  p_model text, p_facts jsonb, p_compared jsonb
) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  task text[] := ARRAY[p_provider, p_task_id];
  kept reservation;
  is_new boolean;
  refusal text;
BEGIN
  PERFORM lock_task(p_provider, p_task_id);   -- so that either `bind` sees the observation, or this call sees the binding
  IF p_compared IS NULL AND needs_comparison(p_state, p_charge, p_duration_s, p_facts) THEN
    kept := lookup(task);
    IF kept.id IS NOT NULL AND (p_ref IS NULL OR p_ref IN (task, ARRAY[kept.id])) THEN
      RETURN jsonb_build_object('reservation', shown(kept, now), 'uncompared', '[]'::jsonb);
    END IF;
  END IF;
  INSERT INTO observation (provider, task_id, state, charge, duration_s, model, facts, seen_at)
  VALUES (p_provider, p_task_id, p_state, p_charge, p_duration_s, p_model, p_facts, now)
  ON CONFLICT DO NOTHING;
  is_new := FOUND;
  IF p_ref IS NULL THEN
    kept := lookup(task);
    IF kept.id IS NULL THEN
      RETURN NULL;
    END IF;
  END IF;
  kept := locked(coalesce(p_ref, task));
  IF kept.provider <> p_provider THEN
    RETURN jsonb_build_object('refusal', jsonb_build_object(   -- commits the observation: the task may be billed
      'kind', 'other_provider', 'reservation', shown(kept, now), 'provider', p_provider
    ));
  END IF;
  IF kept.task_id = p_task_id THEN
    IF is_new THEN
      PERFORM take_up(p_call, kept, p_state, p_charge, p_compared, now);
      kept := reread(kept.id);
    END IF;
    RETURN jsonb_build_object('reservation', shown(kept, now), 'alerts', alerts_of(p_call));
  END IF;
  BEGIN
    RETURN bound(p_call, kept, p_task_id, '{}', now);
  EXCEPTION WHEN SQLSTATE 'KP001' THEN   -- undoes only `bound`; commits the observation, because the task may be billed
    GET STACKED DIAGNOSTICS refusal = PG_EXCEPTION_DETAIL;
  END;
  RETURN jsonb_build_object('refusal', refusal::jsonb);
END $$;

-- Applies an observation, and its comparison with the quote, to the locked reservation of its task. An observation is
-- applied only once, because its effect could differ later. The rules are those of `outcomes.outcome`.
CREATE OR REPLACE FUNCTION take_up(
  p_call text, p_kept reservation, p_state text, p_charge jsonb, p_compared jsonb, p_now timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  made numeric := p_compared->>0;
  charged numeric;
  unclear text;
BEGIN
  IF p_state IS NULL OR p_state NOT IN ('succeeded', 'failed', 'cancelled') THEN
    RETURN;
  END IF;
  SELECT amount, reason INTO charged, unclear FROM charged_amount(p_kept, p_charge);
  IF unclear IS NOT NULL THEN
    PERFORM keep_open(p_call, p_kept, unclear, p_now);
  ELSIF charged > 0 OR (p_state = 'succeeded' AND charged IS NOT NULL) THEN
    PERFORM spend(p_call, p_kept, charged, 'response', p_now);
  ELSIF p_state = 'succeeded' AND made IS NOT NULL THEN
    PERFORM spend(p_call, p_kept, made, 'response', p_now);
  ELSIF p_state = 'succeeded' OR (charged IS NULL AND p_kept.failed_tasks <> 'refunded') THEN
    PERFORM spend(p_call, p_kept, from_nanos(p_kept.expected), 'quote', p_now);
  ELSIF p_kept.state = 'settled' THEN   -- it was not charged after all
    PERFORM spend(p_call, p_kept, 0, 'response', p_now);
  ELSIF p_kept.state <> 'released' THEN
    PERFORM give_back(p_kept.id, p_state, 'release', p_now);
  END IF;
  IF p_compared->>1 IS NOT NULL THEN
    PERFORM alert_charge(p_now, p_call, p_kept.id, p_compared->>1);
  END IF;
END $$;

-- The exact sum of a charge's parts in the reservation's currency, or why it is not known; both null: no charge.
-- The rules and the words are those of `outcomes.charged_amount`.
CREATE OR REPLACE FUNCTION charged_amount(p_kept reservation, p_charge jsonb, OUT amount numeric, OUT reason text)
LANGUAGE plpgsql AS $$
DECLARE
  part jsonb;
  unit_value numeric;
BEGIN
  reason := p_charge->>'problem';
  IF p_charge IS NULL OR reason IS NOT NULL THEN
    RETURN;
  END IF;
  amount := 0;
  FOR part IN SELECT value FROM jsonb_array_elements(p_charge->'parts') WITH ORDINALITY ORDER BY ordinality LOOP
    CONTINUE WHEN (part->>0)::numeric = 0;
    unit_value := value_of(p_kept, part->>1);
    IF unit_value IS NULL THEN
      amount := NULL;
      reason := why_unclear(p_kept, part->>0, part->>1);
      RETURN;
    END IF;
    amount := amount + (part->>0)::numeric * unit_value;
  END LOOP;
  IF amount > 4000000000 OR amount > from_nanos(p_kept.reserved) AND EXISTS (
    SELECT 1 FROM reservation_line WHERE reservation = p_kept.id AND amount * rate > 4000000000
  ) THEN
    reason := 'the charge of ' || trim_scale(amount) || ' ' || p_kept.currency || ' is implausibly high';
    amount := NULL;
  END IF;
END $$;

-- The value of a unit in the reservation's currency; null: it is not known.
CREATE OR REPLACE FUNCTION value_of(p_kept reservation, p_unit text) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN p_unit = p_kept.currency OR (p_unit = 'cash' AND p_kept.account_currency = p_kept.currency) THEN 1
    WHEN p_unit = p_kept.statement_unit THEN p_kept.unit_value
    WHEN p_kept.pack_units ? p_unit THEN (p_kept.pack_units->>p_unit)::numeric
    WHEN p_unit NOT IN ('unit', 'video') THEN NULL
    WHEN p_kept.statement_unit IN ('unit', 'video') THEN p_kept.unit_value
    ELSE coalesce(p_kept.pack_units->>'video', p_kept.pack_units->>'unit')::numeric
  END
$$;

CREATE OR REPLACE FUNCTION why_unclear(p_kept reservation, p_amount text, p_unit text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN p_unit = 'cash' AND p_kept.account_currency IS NULL THEN
      p_amount || ' was paid in money, and the currency of the account is not known; set account_currency in the price table'
    WHEN p_unit = 'cash' OR p_unit ~ '^[A-Z]{3}$' THEN
      p_amount || ' ' || CASE p_unit WHEN 'cash' THEN p_kept.account_currency ELSE p_unit END
        || ' was paid, and the reservation is in ' || p_kept.currency
    ELSE p_amount || ' was paid in units of ' || p_unit || ', and the price table gives no value for that unit'
  END
$$;

-- Marks a locked reservation in doubt whose charge has no value here, unless its amount is known already.
CREATE OR REPLACE FUNCTION keep_open(p_call text, p_kept reservation, p_reason text, p_now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF p_kept.basis <> 'quote' THEN   -- not true if it is null
    RETURN;
  END IF;
  IF p_kept.state <> 'released' AND NOT coalesce(p_kept.doubted AND p_kept.reason = p_reason, false) THEN
    UPDATE reservation SET doubted = true, reason = p_reason WHERE id = p_kept.id;
    PERFORM enter(p_now, 'doubt', p_kept.id, NULL, NULL, NULL, p_reason);
  END IF;
  PERFORM alert_charge(p_now, p_call, p_kept.id, p_reason);
END $$;

-- Records spend that happened outside the guard, even beyond a cap. A repeated call has no effect.
CREATE OR REPLACE FUNCTION record_spend(p_id text, p_order jsonb, p_spent jsonb, p_task_id text, p_at timestamptz)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  outdated jsonb := outdated(p_order->>'budgets');
  kept reservation;
  bucket_ids bigint[];
  new_key text := p_order->>'key';
  buckets bigint[];
  amounts bigint[];
  nothing bigint[];
BEGIN
  IF outdated IS NOT NULL THEN
    RETURN outdated;
  END IF;
  PERFORM lock_task(p_order->>'provider', p_task_id);
  kept := lookup(ARRAY[p_order->>'provider', p_task_id]);
  IF kept.id IS NOT NULL THEN
    IF kept.fingerprint = p_order->>'fingerprint' AND kept.billed = (p_spent->'terms'->>'expected')::bigint THEN
      RETURN jsonb_build_object('reservation', shown(kept, now), 'alerts', alerts_of(p_id));
    END IF;
    PERFORM refuse('task_known', jsonb_build_object('reservation', shown(kept, now)));
  END IF;
  bucket_ids := (buckets_of(p_order->'claims', p_at)).ids;
  PERFORM lock_buckets(bucket_ids);
  IF EXISTS (SELECT 1 FROM reservation WHERE project = p_order->>'project' AND key = new_key) THEN
    new_key := new_key || ':' || p_id;   -- a job may have the same key
  END IF;
  PERFORM insert_reservation(p_id, new_key, 1, p_order, p_spent, p_at, p_at);
  UPDATE reservation
  SET state = 'settled', task_id = p_task_id, billed = expected, basis = 'operator', dispatched_at = created_at,
    closed_at = now
  WHERE id = p_id;
  INSERT INTO reservation_line (reservation, bucket, held, spent, rate)
  SELECT p_id, bucket_ids[place], 0, amount::bigint, (p_order->'claims'->(place::integer - 1)->>'rate')::numeric
  FROM jsonb_array_elements_text(p_spent->'amounts') WITH ORDINALITY AS part (amount, place)
  WHERE bucket_ids[place] IS NOT NULL;
  SELECT array_agg(bucket_ids[place] ORDER BY place), array_agg(amount::bigint ORDER BY place), array_agg(0::bigint)
  INTO buckets, amounts, nothing
  FROM jsonb_array_elements_text(p_spent->'amounts') WITH ORDINALITY AS part (amount, place)
  WHERE bucket_ids[place] IS NOT NULL;
  PERFORM enter(now, 'record', p_id, buckets, nothing, amounts, NULL);
  PERFORM alert_thresholds(now, p_id, p_id, buckets, nothing, amounts);
  RETURN jsonb_build_object('reservation', shown(reread(p_id), now), 'alerts', alerts_of(p_id));
END $$;

-- Sets the opening balance of a bucket's current window: spend from before the ledger began to count. Once per window.
CREATE OR REPLACE FUNCTION open_bucket(p_call text, p_claim jsonb, p_spent bigint)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  bucket_ids bigint[] := (buckets_of(jsonb_build_array(p_claim), now)).ids;
  counted bucket;
BEGIN
  IF bucket_ids[1] IS NULL THEN
    PERFORM refuse('no_window', jsonb_build_object('budget', p_claim->>'budget'));
  END IF;
  SELECT * INTO counted FROM bucket WHERE id = bucket_ids[1] FOR UPDATE;
  IF counted.opening_token = p_call THEN
    RETURN alerts_of(p_call);
  ELSIF counted.opening_token IS NOT NULL THEN
    PERFORM refuse('opened', jsonb_build_object('budget', counted.budget));
  END IF;
  UPDATE bucket SET opening_token = p_call WHERE id = counted.id;
  PERFORM enter(now, 'opening', NULL, bucket_ids, ARRAY[0], ARRAY[p_spent], NULL);
  PERFORM alert_thresholds(now, p_call, NULL, bucket_ids, ARRAY[0], ARRAY[1]);
  RETURN alerts_of(p_call);
END $$;

-- Adds numbers of requests that passed without a price: a list of objects with provider, path, day and requests.
CREATE OR REPLACE FUNCTION count_unpriced(p_call text, p_counts jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  INSERT INTO unpriced_requests AS stored (provider, path, day, requests, told)
  SELECT provider, path, day, requests, p_call
  FROM jsonb_to_recordset(p_counts) AS new (provider text, path text, day date, requests bigint)
  ORDER BY provider, path, day            -- two calls lock rows in the same order
  ON CONFLICT (provider, path, day) DO UPDATE SET requests = stored.requests + excluded.requests, told = p_call
  WHERE stored.told <> p_call
$$;

CREATE OR REPLACE FUNCTION unpriced(p_since date, p_until date) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  SELECT to_jsonb(unpriced_requests) - 'told' FROM unpriced_requests
  WHERE (p_since IS NULL OR day >= p_since) AND (p_until IS NULL OR day < p_until)
  ORDER BY provider, path, day
$$;

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

-- Returns lines of text with the fields of model.SENT. The last field has the fields of terms.TERMS. No text in a ledger
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
  SELECT concat_ws(E'\x1f', id, project, key, reservation.state, coalesce(reservation.task_id, ''),
    coalesce(billed::text, ''), coalesce(basis, ''), labels::text,
    to_char(dispatched_at, 'YYYY-MM-DD"T"HH24:MI:SS.US'), coalesce(ended.state, ''),
    concat_ws(E'\x17', model, resolution, tier, quantity::text, unit, currency, expected,
      coalesce(list_total::text, ''), price_table, coalesce(statement_unit, ''), coalesce(trim_scale(unit_value)::text, ''), failed_tasks))
  FROM reservation LEFT JOIN ended USING (task_id)
  WHERE provider = p_provider AND dispatched_at < p_before
    AND NOT (reservation.state = 'released' AND reservation.task_id IS NULL)
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

-- Expired reservations do not count as held, even if they have not been released yet.
CREATE OR REPLACE FUNCTION buckets(p_at timestamptz) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  WITH late AS (
    SELECT line.bucket AS id, sum(line.held) AS held
    FROM reservation JOIN reservation_line AS line ON line.reservation = reservation.id
    WHERE state = 'reserved' AND deadline <= (SELECT current_instant()) GROUP BY line.bucket
  )
  SELECT to_jsonb(bucket) - 'opening_token' || jsonb_build_object('held', bucket.held - coalesce(late.held, 0))
  FROM bucket LEFT JOIN late USING (id)
  WHERE window_start <= p_at AND p_at < window_end ORDER BY budget, labels
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

CREATE OR REPLACE FUNCTION entries() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT to_jsonb(journal) || jsonb_build_object('budget', budget, 'labels', labels, 'currency', currency)
  FROM journal LEFT JOIN bucket ON bucket.id = journal.bucket ORDER BY seq
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

-- Adds a reservation to a bucket, unless the bucket already counts it.
CREATE OR REPLACE FUNCTION carry_over(p_reservation text, p_claim jsonb, p_held bigint, p_spent bigint, p_now timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  kept reservation := reread(p_reservation);
  bucket_ids bigint[] := (buckets_of(jsonb_build_array(p_claim), kept.created_at)).ids;
BEGIN
  INSERT INTO reservation_line (reservation, bucket, held, spent, rate)
  VALUES (p_reservation, bucket_ids[1], p_held, p_spent, (p_claim->>'rate')::numeric) ON CONFLICT DO NOTHING;
  IF FOUND THEN
    PERFORM enter(
      p_now, 'carry_over', p_reservation, bucket_ids,
      ARRAY[CASE WHEN kept.state IN ('reserved', 'dispatching', 'bound') THEN p_held ELSE 0 END], ARRAY[p_spent], NULL
    );
  END IF;
END $$;

-- Returns whether an open window of an earlier definition of a budget has an opening balance.
CREATE OR REPLACE FUNCTION has_opening(p_budget text, p_definition text, p_now timestamptz) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  SELECT EXISTS (
    SELECT 1 FROM journal JOIN bucket ON bucket.id = journal.bucket
    WHERE kind = 'opening' AND budget = p_budget AND definition <> p_definition AND window_end > p_now
  )
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

CREATE OR REPLACE FUNCTION revision_end(p_call text, p_digest text, p_document text, p_now timestamptz) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  open bigint[] := ARRAY(
    SELECT bucket.id FROM bucket JOIN budget ON budget.name = bucket.budget AND budget.definition = bucket.definition
    WHERE window_end > p_now ORDER BY bucket.id
  );
BEGIN
  INSERT INTO budget_revision (digest, document, installed_at) VALUES (p_digest, p_document, p_now);
  PERFORM enter(p_now, 'revision', NULL, NULL, NULL, NULL, p_digest);
  PERFORM alert_thresholds(
    p_now, p_call, NULL, open,
    array_fill(0::bigint, ARRAY[cardinality(open)]), array_fill(1::bigint, ARRAY[cardinality(open)])
  );
  RETURN alerts_of(p_call);
END $$;

-- Returns the alerts of a revision whose response was lost.
CREATE OR REPLACE FUNCTION revision_alerts(p_call text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT alerts_of(p_call)
$$;

-- Access rights. No role but the owner may do anything until it is granted the verbs.
REVOKE ALL ON SCHEMA kling_pricing FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA kling_pricing FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA kling_pricing FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA kling_pricing FROM PUBLIC;

-- Lets a role use a guard: the verbs, and the functions that read. The role cannot access tables, replace budgets, set
-- opening balances, or create functions that run with the owner's rights.
CREATE OR REPLACE FUNCTION grant_guard(p_role text) RETURNS void LANGUAGE plpgsql
SET search_path = kling_pricing, pg_temp AS $$
DECLARE
  verb regprocedure;
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA kling_pricing TO %I', p_role);
  FOREACH verb IN ARRAY ARRAY[
    'reserve(text, jsonb, jsonb, interval)',
    'dispatch(text, text, interval)',
    'bind(text, text[], text, jsonb)',
    'doubt(text[], text)',
    'release(text[], text, text[])',
    'settle(text, text[], numeric, text)',
    'observe(text, text[], text, text, text, jsonb, numeric, text, jsonb, jsonb)',
    'record_spend(text, jsonb, jsonb, text, timestamptz)',
    'count_unpriced(text, jsonb)',
    'unpriced(date, date)',
    'installed()',
    'one_reservation(text[])',
    'reservations(text, text, boolean, timestamptz, timestamptz)',
    'sent(text, timestamptz)',
    'unclaimed()',
    'buckets(timestamptz)',
    'bucket_histories(timestamptz, timestamptz)',
    'entries()',
    'verification()',
    'facts()',
    'require_version(integer)'
  ]::regprocedure[] LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', verb, p_role);
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION grant_guard(text) FROM PUBLIC;

INSERT INTO "kling_pricing"."schema_version" ("version") OVERRIDING SYSTEM VALUE VALUES (3);
INSERT INTO "kling_pricing"."budget_revision" ("revision", "digest", "document", "installed_at") OVERRIDING SYSTEM VALUE VALUES (1, '97e68b605a558d3ea136b16eddeb7b68b9c4595594db1d828afc29a6f0b131bb', '{"accounting_rates":[{"budget":"CNY","quote":"USD","rate":"7.123456789"}],"budgets":[{"alerts":["0.01","0.5"],"cap":"400","carry_over":false,"currency":"USD","keep":[],"match":{},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"all","on_exceed":"reject","timezone":"UTC","week_starts":"monday","window":"lifetime"},{"alerts":[],"cap":"40","carry_over":false,"currency":"USD","keep":[],"match":{"project":"trailer"},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"trailer","on_exceed":"reject","timezone":"UTC","week_starts":"monday","window":"month"},{"alerts":[],"cap":"9","carry_over":false,"currency":"USD","keep":[],"match":{"user":"*"},"max_request":"8","min_duration_s":null,"min_resolution":null,"name":"each-user","on_exceed":"reject","timezone":"Asia/Shanghai","week_starts":"monday","window":"day"},{"alerts":[],"cap":"1.8","carry_over":false,"currency":"USD","keep":["audio"],"match":{"project":["autumn","winter"]},"max_request":null,"min_duration_s":3,"min_resolution":"720p","name":"capped","on_exceed":"cap","timezone":"UTC","week_starts":"sunday","window":"week"},{"alerts":[],"cap":"3000","carry_over":false,"currency":"CNY","keep":[],"match":{"project":"any"},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"yuan","on_exceed":"reject","timezone":"America/New_York","week_starts":"monday","window":{"end":"2027-02-01","start":"2026-11-01"}}],"capping":{"models":[],"sacrifice":["duration_s","resolution","audio"]},"unmatched":"refuse"}', '2026-11-10 09:30:00+00:00'::timestamptz);
INSERT INTO "kling_pricing"."budget_revision" ("revision", "digest", "document", "installed_at") OVERRIDING SYSTEM VALUE VALUES (2, '3b0c840d537ed825391a3b01ca3f846983721d6be949d950b9dc2407a640a74f', '{"accounting_rates":[{"budget":"CNY","quote":"USD","rate":"7.123456789"}],"budgets":[{"alerts":["0.01","0.5"],"cap":"400","carry_over":false,"currency":"USD","keep":[],"match":{},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"all","on_exceed":"reject","timezone":"UTC","week_starts":"monday","window":"lifetime"},{"alerts":[],"cap":"50","carry_over":false,"currency":"USD","keep":[],"match":{"project":"trailer"},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"trailer","on_exceed":"reject","timezone":"UTC","week_starts":"monday","window":"month"},{"alerts":[],"cap":"9","carry_over":false,"currency":"USD","keep":[],"match":{"user":"*"},"max_request":"8","min_duration_s":null,"min_resolution":null,"name":"each-user","on_exceed":"reject","timezone":"Asia/Shanghai","week_starts":"monday","window":"day"},{"alerts":[],"cap":"1.8","carry_over":false,"currency":"USD","keep":["audio"],"match":{"project":["autumn","winter"]},"max_request":null,"min_duration_s":3,"min_resolution":"720p","name":"capped","on_exceed":"cap","timezone":"UTC","week_starts":"sunday","window":"week"},{"alerts":[],"cap":"3000","carry_over":false,"currency":"CNY","keep":[],"match":{"project":"any"},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"yuan","on_exceed":"reject","timezone":"America/New_York","week_starts":"monday","window":{"end":"2027-02-01","start":"2026-11-01"}},{"alerts":[],"cap":"90","carry_over":true,"currency":"CNY","keep":[],"match":{"user":"any"},"max_request":null,"min_duration_s":null,"min_resolution":null,"name":"quarter","on_exceed":"reject","timezone":"UTC","week_starts":"monday","window":"quarter"}],"capping":{"models":[],"sacrifice":["duration_s","resolution","audio"]},"unmatched":"refuse"}', '2026-11-15 09:56:00+00:00'::timestamptz);
INSERT INTO "kling_pricing"."budget" ("name", "definition", "currency", "cap", "max_request", "may_cap", "alerts") OVERRIDING SYSTEM VALUE VALUES ('all', '53f4a9317d7c2f9d', 'USD', 400000000000, NULL, false, '{0.01,0.5}');
INSERT INTO "kling_pricing"."budget" ("name", "definition", "currency", "cap", "max_request", "may_cap", "alerts") OVERRIDING SYSTEM VALUE VALUES ('capped', '20f67a73b3835089', 'USD', 1800000000, NULL, true, '{}');
INSERT INTO "kling_pricing"."budget" ("name", "definition", "currency", "cap", "max_request", "may_cap", "alerts") OVERRIDING SYSTEM VALUE VALUES ('each-user', 'b330916783fe478f', 'USD', 9000000000, 8000000000, false, '{}');
INSERT INTO "kling_pricing"."budget" ("name", "definition", "currency", "cap", "max_request", "may_cap", "alerts") OVERRIDING SYSTEM VALUE VALUES ('quarter', '0d88b7e401f7fae7', 'CNY', 90000000000, NULL, false, '{}');
INSERT INTO "kling_pricing"."budget" ("name", "definition", "currency", "cap", "max_request", "may_cap", "alerts") OVERRIDING SYSTEM VALUE VALUES ('trailer', 'a2740a6c0c5184a6', 'USD', 50000000000, NULL, false, '{}');
INSERT INTO "kling_pricing"."budget" ("name", "definition", "currency", "cap", "max_request", "may_cap", "alerts") OVERRIDING SYSTEM VALUE VALUES ('yuan', 'a6ad78702b0933cf', 'CNY', 3000000000000, NULL, false, '{}');
INSERT INTO "kling_pricing"."bucket" ("id", "budget", "definition", "labels", "window_start", "window_end", "currency", "cap", "held", "spent", "alerts", "opening_token") OVERRIDING SYSTEM VALUE VALUES (1, 'all', '53f4a9317d7c2f9d', '{}', '0001-01-01 00:00:00+00:00'::timestamptz, '9999-12-31 00:00:00+00:00'::timestamptz, 'USD', 400000000000, 6021400000, 17911333332, '{0.01,0.5}', 'b209daae6e6a400199637785abbf7575');
INSERT INTO "kling_pricing"."bucket" ("id", "budget", "definition", "labels", "window_start", "window_end", "currency", "cap", "held", "spent", "alerts", "opening_token") OVERRIDING SYSTEM VALUE VALUES (3, 'each-user', 'b330916783fe478f', '{"user":"li"}', '2026-11-09 16:00:00+00:00'::timestamptz, '2026-11-10 16:00:00+00:00'::timestamptz, 'USD', 9000000000, 0, 3997333333, '{}', NULL);
INSERT INTO "kling_pricing"."bucket" ("id", "budget", "definition", "labels", "window_start", "window_end", "currency", "cap", "held", "spent", "alerts", "opening_token") OVERRIDING SYSTEM VALUE VALUES (4, 'trailer', 'a2740a6c0c5184a6', '{}', '2026-11-01 00:00:00+00:00'::timestamptz, '2026-12-01 00:00:00+00:00'::timestamptz, 'USD', 50000000000, 3570000000, 4711333333, '{}', NULL);
INSERT INTO "kling_pricing"."bucket" ("id", "budget", "definition", "labels", "window_start", "window_end", "currency", "cap", "held", "spent", "alerts", "opening_token") OVERRIDING SYSTEM VALUE VALUES (5, 'yuan', 'a6ad78702b0933cf', '{}', '2026-11-01 04:00:00+00:00'::timestamptz, '2027-02-01 05:00:00+00:00'::timestamptz, 'CNY', 3000000000000, 42893182715, 38547399166, '{}', NULL);
INSERT INTO "kling_pricing"."bucket" ("id", "budget", "definition", "labels", "window_start", "window_end", "currency", "cap", "held", "spent", "alerts", "opening_token") OVERRIDING SYSTEM VALUE VALUES (7, 'each-user', 'b330916783fe478f', '{"user":"wang"}', '2026-11-09 16:00:00+00:00'::timestamptz, '2026-11-10 16:00:00+00:00'::timestamptz, 'USD', 9000000000, 714000000, 0, '{}', NULL);
INSERT INTO "kling_pricing"."bucket" ("id", "budget", "definition", "labels", "window_start", "window_end", "currency", "cap", "held", "spent", "alerts", "opening_token") OVERRIDING SYSTEM VALUE VALUES (11, 'each-user', 'b330916783fe478f', '{"user":"zhao"}', '2026-11-09 16:00:00+00:00'::timestamptz, '2026-11-10 16:00:00+00:00'::timestamptz, 'USD', 9000000000, 1737400000, 714000000, '{}', NULL);
INSERT INTO "kling_pricing"."bucket" ("id", "budget", "definition", "labels", "window_start", "window_end", "currency", "cap", "held", "spent", "alerts", "opening_token") OVERRIDING SYSTEM VALUE VALUES (15, 'capped', '20f67a73b3835089', '{}', '2026-11-08 00:00:00+00:00'::timestamptz, '2026-11-15 00:00:00+00:00'::timestamptz, 'USD', 1800000000, 1737400000, 0, '{}', NULL);
INSERT INTO "kling_pricing"."bucket" ("id", "budget", "definition", "labels", "window_start", "window_end", "currency", "cap", "held", "spent", "alerts", "opening_token") OVERRIDING SYSTEM VALUE VALUES (19, 'each-user', 'b330916783fe478f', '{"user":"li"}', '2026-11-14 16:00:00+00:00'::timestamptz, '2026-11-15 16:00:00+00:00'::timestamptz, 'USD', 9000000000, 714000000, 699999999, '{}', NULL);
INSERT INTO "kling_pricing"."bucket" ("id", "budget", "definition", "labels", "window_start", "window_end", "currency", "cap", "held", "spent", "alerts", "opening_token") OVERRIDING SYSTEM VALUE VALUES (21, 'quarter', '0d88b7e401f7fae7', '{}', '2026-10-01 00:00:00+00:00'::timestamptz, '2027-01-01 00:00:00+00:00'::timestamptz, 'CNY', 90000000000, 42893182715, 38547399166, '{}', NULL);
INSERT INTO "kling_pricing"."bucket" ("id", "budget", "definition", "labels", "window_start", "window_end", "currency", "cap", "held", "spent", "alerts", "opening_token") OVERRIDING SYSTEM VALUE VALUES (23, 'each-user', 'b330916783fe478f', '{"user":"li"}', '2026-11-20 16:00:00+00:00'::timestamptz, '2026-11-21 16:00:00+00:00'::timestamptz, 'USD', 9000000000, 2856000000, 0, '{}', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('008f0a70cc7f41abbc416f56f2ccaa74', 16, 'any', 'in window two', 1, 'settled', false, 'c9af72df498c4049bb9176a6d53526e6', 'qingbo', 't-9', 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, 699999999, 'statement', 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "li", "project": "any"}', '{}', NULL, 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-15 09:56:00+00:00'::timestamptz, '2026-11-15 09:56:00+00:00'::timestamptz, '2026-11-15 09:57:00+00:00'::timestamptz, '2026-11-15 10:01:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('0d45a58056dc47d28b48e6a2dcad48f5', 1, 'trailer', 'quoted', 1, 'settled', true, 'c4c90086b8634cc38fa8305be23c6d5a', 'qingbo', 't-1', 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, 714000000, 'quote', 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "li", "project": "trailer"}', '{}', 'cost is 0.5, which is not a whole number of units and may be money', 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-10 09:31:00+00:00'::timestamptz, '2026-11-10 09:31:00+00:00'::timestamptz, '2026-11-10 09:31:00+00:00'::timestamptz, '2026-11-10 09:36:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('1ad0e5c831044bc09b6d7450c6094305', 10, 'trailer', 'late', 1, 'released', false, NULL, 'qingbo', NULL, 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, NULL, NULL, 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "zhao", "project": "trailer"}', '{}', 'expired', 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-10 09:38:00+00:00'::timestamptz, NULL, '2026-11-10 09:55:00+00:00'::timestamptz, '2026-11-10 09:53:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('1b777fca7bb74cce965cb9fffae59b24', 13, 'autumn', 'capped 1', 1, 'dispatching', false, 'a67f27a3b3934000916840dcb6d2fd3b', 'qingbo', NULL, 'tasks', 'kling-v3', '1080p', 'silent', 8, 'second', 'USD', 761600000, 761600000, NULL, NULL, 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "zhao", "project": "autumn"}', '{}', NULL, '0359b1cce429063a97c146d5a1bc390d1ca435e628999af11f6840a5ac7d7f63', '2026-11-10 09:55:00+00:00'::timestamptz, '2026-11-10 09:55:00+00:00'::timestamptz, NULL, '2026-11-10 10:00:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('205693197ff349f8b9d5ac89fec63357', 17, 'any', 'after', 1, 'bound', false, 'a44f5c0ba1de41c9a49cf9ef901188ad', 'qingbo', 't-10', 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, NULL, NULL, 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "li", "project": "any"}', '{}', NULL, 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-15 09:57:00+00:00'::timestamptz, '2026-11-15 09:57:00+00:00'::timestamptz, NULL, '2026-11-15 10:02:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('222b0d68797e48c3946239832bd0f9d0', 18, 'trailer', 'in doubt', 1, 'dispatching', true, '32b9d79bdaaa4c43aaca829e453ef1b2', 'qingbo', NULL, 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, NULL, NULL, 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "li", "project": "trailer"}', '{}', 'timeout', 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-21 09:21:00+00:00'::timestamptz, '2026-11-21 09:21:00+00:00'::timestamptz, NULL, '2026-11-21 09:26:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('45feb9a8dc974ca39e098e092bd10d66', 9, 'trailer', 'again', 2, 'bound', false, '52578e16707d407782d120459732d71b', 'qingbo', 't-7', 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, NULL, NULL, 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "wang", "project": "trailer"}', '{}', NULL, 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-10 09:38:00+00:00'::timestamptz, '2026-11-10 09:38:00+00:00'::timestamptz, NULL, '2026-11-10 09:43:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('4bae12b9a683469d86a4706124872683', 12, 'autumn', 'capped 0', 1, 'dispatching', false, 'c2a848a6f79f4677a076b1eec477e798', 'qingbo', NULL, 'tasks', 'kling-v3', '1080p', 'silent', 8, 'second', 'USD', 761600000, 761600000, NULL, NULL, 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "zhao", "project": "autumn"}', '{}', NULL, '0359b1cce429063a97c146d5a1bc390d1ca435e628999af11f6840a5ac7d7f63', '2026-11-10 09:55:00+00:00'::timestamptz, '2026-11-10 09:55:00+00:00'::timestamptz, NULL, '2026-11-10 10:00:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('4bf6e2a0fb8146df91ff06c0e8fdf9c9', 4, 'trailer', 'resolved', 1, 'settled', false, 'aca3e27de12747f19b67b4e91001714f', 'qingbo', 't-4', 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, 650000000, 'operator', 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "li", "project": "trailer"}', '{}', NULL, 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-10 09:34:00+00:00'::timestamptz, '2026-11-10 09:34:00+00:00'::timestamptz, '2026-11-10 09:34:00+00:00'::timestamptz, '2026-11-10 09:39:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('5a67b63548fd4f4a9d582d8b1d414255', 15, 'trailer', '034adc3a52e54e0a816f49ed13c4bac7', 1, 'settled', false, NULL, 'qingbo', 'elsewhere', '', '', '', '', 1, 'task', 'USD', 333333333, 333333333, 333333333, 'operator', '', '', NULL, NULL, 'unconfirmed', '{"user": "li", "project": "trailer"}', '{}', NULL, '04cbd2f558287f2265a92dc22c7fd8556f4c931dea0eeaa13fe28c4865c66bbd', '2026-11-10 09:30:00+00:00'::timestamptz, '2026-11-10 09:30:00+00:00'::timestamptz, '2026-11-10 09:55:00+00:00'::timestamptz, '2026-11-10 09:30:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('8817ac04897547148c08e5ff24af2954', 21, 'trailer', 'reserved', 1, 'reserved', false, NULL, 'qingbo', NULL, 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, NULL, NULL, 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "li", "project": "trailer"}', '{}', NULL, 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-21 09:29:00+00:00'::timestamptz, NULL, NULL, '2026-11-21 09:44:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('8f87220050f54fecb89fbcbb23cf5381', 7, 'trailer', 'not charged', 1, 'released', false, '1b503182c8d44dbc9b623c62969efab9', 'qingbo', NULL, 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, NULL, NULL, 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "wang", "project": "trailer"}', '{}', 'not charged, according to the operator', 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-10 09:37:00+00:00'::timestamptz, '2026-11-10 09:37:00+00:00'::timestamptz, '2026-11-10 09:37:00+00:00'::timestamptz, '2026-11-10 09:42:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('90d577291c4a4a298ad38d49ccb5ffb3', 5, 'trailer', 'overrun', 1, 'settled', false, 'f837f99e8d84491eb2282a3f30924e76', 'qingbo', 't-5', 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, 900000000, 'statement', 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "li", "project": "trailer"}', '{}', NULL, 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-10 09:35:00+00:00'::timestamptz, '2026-11-10 09:35:00+00:00'::timestamptz, '2026-11-10 09:35:00+00:00'::timestamptz, '2026-11-10 09:40:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('938bac47d7914eda844d27b1bfbbffbe', 8, 'trailer', 'again', 1, 'released', false, NULL, 'qingbo', NULL, 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, NULL, NULL, 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "wang", "project": "trailer"}', '{}', 'changed my mind', 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-10 09:37:00+00:00'::timestamptz, NULL, '2026-11-10 09:37:00+00:00'::timestamptz, '2026-11-10 09:52:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('958baa6915f34c44846e7e01b1a8ed7e', 6, 'trailer', 'refunded', 1, 'released', false, '63e02a0382384a959ff2c34ee1ed1e79', 'qingbo', 't-6', 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, NULL, NULL, 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "wang", "project": "trailer"}', '{}', 'failed', 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-10 09:36:00+00:00'::timestamptz, '2026-11-10 09:36:00+00:00'::timestamptz, '2026-11-10 09:36:00+00:00'::timestamptz, '2026-11-10 09:41:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('9e9107f6c0db4735a4ecdcbd240bd6f1', 2, 'trailer', 'charged', 1, 'settled', false, 'ab8d91af965a4418a4d8ef540104ffc8', 'qingbo', 't-2', 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, 700000000, 'response', 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "li", "project": "trailer"}', '{}', NULL, 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-10 09:32:00+00:00'::timestamptz, '2026-11-10 09:32:00+00:00'::timestamptz, '2026-11-10 09:32:00+00:00'::timestamptz, '2026-11-10 09:37:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('de8926ecf6b646fca3ca75cafbcd4d71', 19, 'trailer', 'overdue', 1, 'dispatching', false, 'c86bafed12964c07a2408b9f15bc6bc6', 'qingbo', NULL, 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, NULL, NULL, 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "li", "project": "trailer"}', '{}', NULL, 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-21 09:22:00+00:00'::timestamptz, '2026-11-21 09:22:00+00:00'::timestamptz, NULL, '2026-11-21 09:27:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('df0c4331700b408198face0a1dd67bed', 14, 'autumn', 'capped 2', 1, 'dispatching', false, '14335d8fcdc74af5bdb2485a854c8912', 'qingbo', NULL, 'tasks', 'kling-v3', '720p', 'silent', 3, 'second', 'USD', 214200000, 214200000, NULL, NULL, 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "zhao", "project": "autumn"}', '{"duration_s": 3, "resolution": "720p"}', NULL, '0359b1cce429063a97c146d5a1bc390d1ca435e628999af11f6840a5ac7d7f63', '2026-11-10 09:55:00+00:00'::timestamptz, '2026-11-10 09:55:00+00:00'::timestamptz, NULL, '2026-11-10 10:00:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('eac5fba4cd5f4c4d88296c3cd5c5a1c7', 3, 'trailer', 'stated', 1, 'settled', false, '7687179f7855439fae847bc189a88dca', 'qingbo', 't-3', 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, 700000000, 'statement', 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "li", "project": "trailer"}', '{}', NULL, 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-10 09:33:00+00:00'::timestamptz, '2026-11-10 09:33:00+00:00'::timestamptz, '2026-11-10 09:33:00+00:00'::timestamptz, '2026-11-10 09:38:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('f842421dd81244419ee603564f477161', 11, 'trailer', 'seen before', 1, 'settled', false, 'db3eb561201c44dfa1d604cfd6d6fe52', 'qingbo', 't-8', 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, 714000000, 'response', 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "zhao", "project": "trailer"}', '{}', NULL, 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-10 09:55:00+00:00'::timestamptz, '2026-11-10 09:55:00+00:00'::timestamptz, '2026-11-10 09:55:00+00:00'::timestamptz, '2026-11-10 10:00:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation" ("id", "seq", "project", "key", "attempt", "state", "doubted", "dispatch_token", "provider", "task_id", "wire_format", "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "reserved", "billed", "basis", "price_table", "table_digest", "statement_unit", "unit_value", "failed_tasks", "labels", "changes", "reason", "fingerprint", "created_at", "dispatched_at", "closed_at", "deadline", "list_total", "minimum", "pack_units", "account_currency") OVERRIDING SYSTEM VALUE VALUES ('f97e2868c97d45ba89d06bce9ec9f565', 20, 'trailer', 'dispatching', 1, 'dispatching', false, 'a83603db9822430d986ebe9fc3c9e106', 'qingbo', NULL, 'tasks', 'kling-v3', '1080p', 'audio', 5, 'second', 'USD', 714000000, 714000000, NULL, NULL, 'qingbo/2026-04-29', '7eb27a94a4f5aa8a21fe158685d5f719938e8600ee78f27addc8e09b49034913', 'quota', 0.000002, 'refunded', '{"user": "li", "project": "trailer"}', '{}', NULL, 'e9cf27ad582e28d25ae95350d05af7bccd927a2a170fa3d09a4aac0294c6dc53', '2026-11-21 09:29:00+00:00'::timestamptz, '2026-11-21 09:29:00+00:00'::timestamptz, NULL, '2026-11-21 09:34:00+00:00'::timestamptz, NULL, NULL, 'null', NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('008f0a70cc7f41abbc416f56f2ccaa74', 21, 5086148148, 4986419746, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('008f0a70cc7f41abbc416f56f2ccaa74', 5, 5086148148, 4986419746, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('008f0a70cc7f41abbc416f56f2ccaa74', 1, 714000000, 699999999, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('008f0a70cc7f41abbc416f56f2ccaa74', 19, 714000000, 699999999, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('0d45a58056dc47d28b48e6a2dcad48f5', 5, 5086148148, 5086148148, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('0d45a58056dc47d28b48e6a2dcad48f5', 3, 714000000, 714000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('0d45a58056dc47d28b48e6a2dcad48f5', 4, 714000000, 714000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('0d45a58056dc47d28b48e6a2dcad48f5', 21, 5086148148, 5086148148, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('0d45a58056dc47d28b48e6a2dcad48f5', 1, 714000000, 714000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('1ad0e5c831044bc09b6d7450c6094305', 11, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('1ad0e5c831044bc09b6d7450c6094305', 5, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('1ad0e5c831044bc09b6d7450c6094305', 21, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('1ad0e5c831044bc09b6d7450c6094305', 1, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('1ad0e5c831044bc09b6d7450c6094305', 4, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('1b777fca7bb74cce965cb9fffae59b24', 15, 761600000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('1b777fca7bb74cce965cb9fffae59b24', 5, 5425224691, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('1b777fca7bb74cce965cb9fffae59b24', 1, 761600000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('1b777fca7bb74cce965cb9fffae59b24', 21, 5425224691, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('1b777fca7bb74cce965cb9fffae59b24', 11, 761600000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('205693197ff349f8b9d5ac89fec63357', 19, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('205693197ff349f8b9d5ac89fec63357', 1, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('205693197ff349f8b9d5ac89fec63357', 21, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('205693197ff349f8b9d5ac89fec63357', 5, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('222b0d68797e48c3946239832bd0f9d0', 23, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('222b0d68797e48c3946239832bd0f9d0', 21, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('222b0d68797e48c3946239832bd0f9d0', 1, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('222b0d68797e48c3946239832bd0f9d0', 4, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('222b0d68797e48c3946239832bd0f9d0', 5, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('45feb9a8dc974ca39e098e092bd10d66', 5, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('45feb9a8dc974ca39e098e092bd10d66', 1, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('45feb9a8dc974ca39e098e092bd10d66', 4, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('45feb9a8dc974ca39e098e092bd10d66', 7, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('45feb9a8dc974ca39e098e092bd10d66', 21, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('4bae12b9a683469d86a4706124872683', 11, 761600000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('4bae12b9a683469d86a4706124872683', 1, 761600000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('4bae12b9a683469d86a4706124872683', 5, 5425224691, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('4bae12b9a683469d86a4706124872683', 15, 761600000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('4bae12b9a683469d86a4706124872683', 21, 5425224691, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('4bf6e2a0fb8146df91ff06c0e8fdf9c9', 1, 714000000, 650000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('4bf6e2a0fb8146df91ff06c0e8fdf9c9', 4, 714000000, 650000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('4bf6e2a0fb8146df91ff06c0e8fdf9c9', 3, 714000000, 650000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('4bf6e2a0fb8146df91ff06c0e8fdf9c9', 5, 5086148148, 4630246913, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('4bf6e2a0fb8146df91ff06c0e8fdf9c9', 21, 5086148148, 4630246913, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('5a67b63548fd4f4a9d582d8b1d414255', 3, 0, 333333333, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('5a67b63548fd4f4a9d582d8b1d414255', 5, 0, 2374485594, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('5a67b63548fd4f4a9d582d8b1d414255', 21, 2374485594, 2374485594, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('5a67b63548fd4f4a9d582d8b1d414255', 1, 0, 333333333, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('5a67b63548fd4f4a9d582d8b1d414255', 4, 0, 333333333, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('8817ac04897547148c08e5ff24af2954', 21, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('8817ac04897547148c08e5ff24af2954', 4, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('8817ac04897547148c08e5ff24af2954', 1, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('8817ac04897547148c08e5ff24af2954', 5, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('8817ac04897547148c08e5ff24af2954', 23, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('8f87220050f54fecb89fbcbb23cf5381', 1, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('8f87220050f54fecb89fbcbb23cf5381', 4, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('8f87220050f54fecb89fbcbb23cf5381', 5, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('8f87220050f54fecb89fbcbb23cf5381', 7, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('8f87220050f54fecb89fbcbb23cf5381', 21, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('90d577291c4a4a298ad38d49ccb5ffb3', 4, 714000000, 900000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('90d577291c4a4a298ad38d49ccb5ffb3', 1, 714000000, 900000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('90d577291c4a4a298ad38d49ccb5ffb3', 3, 714000000, 900000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('90d577291c4a4a298ad38d49ccb5ffb3', 5, 5086148148, 6411111111, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('90d577291c4a4a298ad38d49ccb5ffb3', 21, 5086148148, 6411111111, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('938bac47d7914eda844d27b1bfbbffbe', 7, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('938bac47d7914eda844d27b1bfbbffbe', 4, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('938bac47d7914eda844d27b1bfbbffbe', 21, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('938bac47d7914eda844d27b1bfbbffbe', 1, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('938bac47d7914eda844d27b1bfbbffbe', 5, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('958baa6915f34c44846e7e01b1a8ed7e', 21, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('958baa6915f34c44846e7e01b1a8ed7e', 5, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('958baa6915f34c44846e7e01b1a8ed7e', 7, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('958baa6915f34c44846e7e01b1a8ed7e', 4, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('958baa6915f34c44846e7e01b1a8ed7e', 1, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('9e9107f6c0db4735a4ecdcbd240bd6f1', 5, 5086148148, 4986419753, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('9e9107f6c0db4735a4ecdcbd240bd6f1', 21, 5086148148, 4986419753, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('9e9107f6c0db4735a4ecdcbd240bd6f1', 3, 714000000, 700000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('9e9107f6c0db4735a4ecdcbd240bd6f1', 4, 714000000, 700000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('9e9107f6c0db4735a4ecdcbd240bd6f1', 1, 714000000, 700000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('de8926ecf6b646fca3ca75cafbcd4d71', 4, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('de8926ecf6b646fca3ca75cafbcd4d71', 21, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('de8926ecf6b646fca3ca75cafbcd4d71', 5, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('de8926ecf6b646fca3ca75cafbcd4d71', 23, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('de8926ecf6b646fca3ca75cafbcd4d71', 1, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('df0c4331700b408198face0a1dd67bed', 1, 214200000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('df0c4331700b408198face0a1dd67bed', 11, 214200000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('df0c4331700b408198face0a1dd67bed', 21, 1525844445, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('df0c4331700b408198face0a1dd67bed', 5, 1525844445, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('df0c4331700b408198face0a1dd67bed', 15, 214200000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('eac5fba4cd5f4c4d88296c3cd5c5a1c7', 1, 714000000, 700000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('eac5fba4cd5f4c4d88296c3cd5c5a1c7', 4, 714000000, 700000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('eac5fba4cd5f4c4d88296c3cd5c5a1c7', 3, 714000000, 700000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('eac5fba4cd5f4c4d88296c3cd5c5a1c7', 5, 5086148148, 4986419753, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('eac5fba4cd5f4c4d88296c3cd5c5a1c7', 21, 5086148148, 4986419753, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('f842421dd81244419ee603564f477161', 1, 714000000, 714000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('f842421dd81244419ee603564f477161', 11, 714000000, 714000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('f842421dd81244419ee603564f477161', 5, 5086148148, 5086148148, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('f842421dd81244419ee603564f477161', 21, 5086148148, 5086148148, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('f842421dd81244419ee603564f477161', 4, 714000000, 714000000, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('f97e2868c97d45ba89d06bce9ec9f565', 4, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('f97e2868c97d45ba89d06bce9ec9f565', 1, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('f97e2868c97d45ba89d06bce9ec9f565', 23, 714000000, 0, NULL);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('f97e2868c97d45ba89d06bce9ec9f565', 5, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."reservation_line" ("reservation", "bucket", "held", "spent", "rate") OVERRIDING SYSTEM VALUE VALUES ('f97e2868c97d45ba89d06bce9ec9f565', 21, 5086148148, 0, 7.123456789);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-10 09:30:00+00:00'::timestamptz, 'revision', NULL, NULL, 0, 0, '97e68b605a558d3ea136b16eddeb7b68b9c4595594db1d828afc29a6f0b131bb', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (2, '2026-11-10 09:30:00+00:00'::timestamptz, 'opening', NULL, 1, 0, 12500000000, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (3, '2026-11-10 09:30:00+00:00'::timestamptz, 'alert', NULL, 1, 0, 0, '0.01 of 400', 'b209daae6e6a400199637785abbf7575');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (4, '2026-11-10 09:31:00+00:00'::timestamptz, 'reserve', '0d45a58056dc47d28b48e6a2dcad48f5', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (5, '2026-11-10 09:31:00+00:00'::timestamptz, 'reserve', '0d45a58056dc47d28b48e6a2dcad48f5', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (6, '2026-11-10 09:31:00+00:00'::timestamptz, 'reserve', '0d45a58056dc47d28b48e6a2dcad48f5', 3, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (7, '2026-11-10 09:31:00+00:00'::timestamptz, 'reserve', '0d45a58056dc47d28b48e6a2dcad48f5', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (9, '2026-11-10 09:31:00+00:00'::timestamptz, 'dispatch', '0d45a58056dc47d28b48e6a2dcad48f5', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (10, '2026-11-10 09:31:00+00:00'::timestamptz, 'bind', '0d45a58056dc47d28b48e6a2dcad48f5', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (11, '2026-11-10 09:31:00+00:00'::timestamptz, 'settle', '0d45a58056dc47d28b48e6a2dcad48f5', 1,  -714000000, 714000000, 'quote', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (12, '2026-11-10 09:31:00+00:00'::timestamptz, 'settle', '0d45a58056dc47d28b48e6a2dcad48f5', 3,  -714000000, 714000000, 'quote', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (13, '2026-11-10 09:31:00+00:00'::timestamptz, 'settle', '0d45a58056dc47d28b48e6a2dcad48f5', 4,  -714000000, 714000000, 'quote', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (14, '2026-11-10 09:31:00+00:00'::timestamptz, 'settle', '0d45a58056dc47d28b48e6a2dcad48f5', 5,  -5086148148, 5086148148, 'quote', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (15, '2026-11-10 09:32:00+00:00'::timestamptz, 'reserve', '9e9107f6c0db4735a4ecdcbd240bd6f1', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (16, '2026-11-10 09:32:00+00:00'::timestamptz, 'reserve', '9e9107f6c0db4735a4ecdcbd240bd6f1', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (17, '2026-11-10 09:32:00+00:00'::timestamptz, 'reserve', '9e9107f6c0db4735a4ecdcbd240bd6f1', 3, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (18, '2026-11-10 09:32:00+00:00'::timestamptz, 'reserve', '9e9107f6c0db4735a4ecdcbd240bd6f1', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (20, '2026-11-10 09:32:00+00:00'::timestamptz, 'dispatch', '9e9107f6c0db4735a4ecdcbd240bd6f1', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (21, '2026-11-10 09:32:00+00:00'::timestamptz, 'bind', '9e9107f6c0db4735a4ecdcbd240bd6f1', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (22, '2026-11-10 09:32:00+00:00'::timestamptz, 'settle', '9e9107f6c0db4735a4ecdcbd240bd6f1', 1,  -714000000, 700000000, 'response', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (23, '2026-11-10 09:32:00+00:00'::timestamptz, 'settle', '9e9107f6c0db4735a4ecdcbd240bd6f1', 3,  -714000000, 700000000, 'response', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (24, '2026-11-10 09:32:00+00:00'::timestamptz, 'settle', '9e9107f6c0db4735a4ecdcbd240bd6f1', 4,  -714000000, 700000000, 'response', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (25, '2026-11-10 09:32:00+00:00'::timestamptz, 'settle', '9e9107f6c0db4735a4ecdcbd240bd6f1', 5,  -5086148148, 4986419753, 'response', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (26, '2026-11-10 09:33:00+00:00'::timestamptz, 'reserve', 'eac5fba4cd5f4c4d88296c3cd5c5a1c7', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (27, '2026-11-10 09:33:00+00:00'::timestamptz, 'reserve', 'eac5fba4cd5f4c4d88296c3cd5c5a1c7', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (28, '2026-11-10 09:33:00+00:00'::timestamptz, 'reserve', 'eac5fba4cd5f4c4d88296c3cd5c5a1c7', 3, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (29, '2026-11-10 09:33:00+00:00'::timestamptz, 'reserve', 'eac5fba4cd5f4c4d88296c3cd5c5a1c7', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (31, '2026-11-10 09:33:00+00:00'::timestamptz, 'dispatch', 'eac5fba4cd5f4c4d88296c3cd5c5a1c7', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (32, '2026-11-10 09:33:00+00:00'::timestamptz, 'bind', 'eac5fba4cd5f4c4d88296c3cd5c5a1c7', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (33, '2026-11-10 09:33:00+00:00'::timestamptz, 'settle', 'eac5fba4cd5f4c4d88296c3cd5c5a1c7', 1,  -714000000, 700000000, 'statement', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (34, '2026-11-10 09:33:00+00:00'::timestamptz, 'settle', 'eac5fba4cd5f4c4d88296c3cd5c5a1c7', 3,  -714000000, 700000000, 'statement', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (35, '2026-11-10 09:33:00+00:00'::timestamptz, 'settle', 'eac5fba4cd5f4c4d88296c3cd5c5a1c7', 4,  -714000000, 700000000, 'statement', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (36, '2026-11-10 09:33:00+00:00'::timestamptz, 'settle', 'eac5fba4cd5f4c4d88296c3cd5c5a1c7', 5,  -5086148148, 4986419753, 'statement', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (37, '2026-11-10 09:34:00+00:00'::timestamptz, 'reserve', '4bf6e2a0fb8146df91ff06c0e8fdf9c9', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (38, '2026-11-10 09:34:00+00:00'::timestamptz, 'reserve', '4bf6e2a0fb8146df91ff06c0e8fdf9c9', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (39, '2026-11-10 09:34:00+00:00'::timestamptz, 'reserve', '4bf6e2a0fb8146df91ff06c0e8fdf9c9', 3, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (40, '2026-11-10 09:34:00+00:00'::timestamptz, 'reserve', '4bf6e2a0fb8146df91ff06c0e8fdf9c9', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (42, '2026-11-10 09:34:00+00:00'::timestamptz, 'dispatch', '4bf6e2a0fb8146df91ff06c0e8fdf9c9', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (43, '2026-11-10 09:34:00+00:00'::timestamptz, 'bind', '4bf6e2a0fb8146df91ff06c0e8fdf9c9', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (44, '2026-11-10 09:34:00+00:00'::timestamptz, 'settle', '4bf6e2a0fb8146df91ff06c0e8fdf9c9', 1,  -714000000, 650000000, 'operator', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (45, '2026-11-10 09:34:00+00:00'::timestamptz, 'settle', '4bf6e2a0fb8146df91ff06c0e8fdf9c9', 3,  -714000000, 650000000, 'operator', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (46, '2026-11-10 09:34:00+00:00'::timestamptz, 'settle', '4bf6e2a0fb8146df91ff06c0e8fdf9c9', 4,  -714000000, 650000000, 'operator', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (47, '2026-11-10 09:34:00+00:00'::timestamptz, 'settle', '4bf6e2a0fb8146df91ff06c0e8fdf9c9', 5,  -5086148148, 4630246913, 'operator', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (48, '2026-11-10 09:35:00+00:00'::timestamptz, 'reserve', '90d577291c4a4a298ad38d49ccb5ffb3', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (49, '2026-11-10 09:35:00+00:00'::timestamptz, 'reserve', '90d577291c4a4a298ad38d49ccb5ffb3', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (50, '2026-11-10 09:35:00+00:00'::timestamptz, 'reserve', '90d577291c4a4a298ad38d49ccb5ffb3', 3, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (51, '2026-11-10 09:35:00+00:00'::timestamptz, 'reserve', '90d577291c4a4a298ad38d49ccb5ffb3', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (53, '2026-11-10 09:35:00+00:00'::timestamptz, 'dispatch', '90d577291c4a4a298ad38d49ccb5ffb3', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (54, '2026-11-10 09:35:00+00:00'::timestamptz, 'bind', '90d577291c4a4a298ad38d49ccb5ffb3', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (55, '2026-11-10 09:35:00+00:00'::timestamptz, 'settle', '90d577291c4a4a298ad38d49ccb5ffb3', 1,  -714000000, 1000000000, 'response', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (56, '2026-11-10 09:35:00+00:00'::timestamptz, 'settle', '90d577291c4a4a298ad38d49ccb5ffb3', 3,  -714000000, 1000000000, 'response', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (57, '2026-11-10 09:35:00+00:00'::timestamptz, 'settle', '90d577291c4a4a298ad38d49ccb5ffb3', 4,  -714000000, 1000000000, 'response', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (58, '2026-11-10 09:35:00+00:00'::timestamptz, 'settle', '90d577291c4a4a298ad38d49ccb5ffb3', 5,  -5086148148, 7123456789, 'response', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (60, '2026-11-10 09:35:00+00:00'::timestamptz, 'alert', '90d577291c4a4a298ad38d49ccb5ffb3', 1, 0, 0, '1 billed for 90d577291c4a4a298ad38d49ccb5ffb3', '4efec2fa2328427ca987e52645fd48d8');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (61, '2026-11-10 09:35:00+00:00'::timestamptz, 'alert', '90d577291c4a4a298ad38d49ccb5ffb3', 3, 0, 0, '1 billed for 90d577291c4a4a298ad38d49ccb5ffb3', '4efec2fa2328427ca987e52645fd48d8');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (62, '2026-11-10 09:35:00+00:00'::timestamptz, 'alert', '90d577291c4a4a298ad38d49ccb5ffb3', 4, 0, 0, '1 billed for 90d577291c4a4a298ad38d49ccb5ffb3', '4efec2fa2328427ca987e52645fd48d8');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (63, '2026-11-10 09:35:00+00:00'::timestamptz, 'alert', '90d577291c4a4a298ad38d49ccb5ffb3', 5, 0, 0, '1 billed for 90d577291c4a4a298ad38d49ccb5ffb3', '4efec2fa2328427ca987e52645fd48d8');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (64, '2026-11-10 09:35:00+00:00'::timestamptz, 'settle', '90d577291c4a4a298ad38d49ccb5ffb3', 1, 0,  -100000000, 'statement', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (65, '2026-11-10 09:35:00+00:00'::timestamptz, 'settle', '90d577291c4a4a298ad38d49ccb5ffb3', 3, 0,  -100000000, 'statement', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (66, '2026-11-10 09:35:00+00:00'::timestamptz, 'settle', '90d577291c4a4a298ad38d49ccb5ffb3', 4, 0,  -100000000, 'statement', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (67, '2026-11-10 09:35:00+00:00'::timestamptz, 'settle', '90d577291c4a4a298ad38d49ccb5ffb3', 5, 0,  -712345678, 'statement', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (68, '2026-11-10 09:35:00+00:00'::timestamptz, 'alert', '90d577291c4a4a298ad38d49ccb5ffb3', 1, 0, 0, '0.9 billed for 90d577291c4a4a298ad38d49ccb5ffb3', 'e674449472c942de89ff94eb804d7f66');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (69, '2026-11-10 09:35:00+00:00'::timestamptz, 'alert', '90d577291c4a4a298ad38d49ccb5ffb3', 3, 0, 0, '0.9 billed for 90d577291c4a4a298ad38d49ccb5ffb3', 'e674449472c942de89ff94eb804d7f66');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (70, '2026-11-10 09:35:00+00:00'::timestamptz, 'alert', '90d577291c4a4a298ad38d49ccb5ffb3', 4, 0, 0, '0.9 billed for 90d577291c4a4a298ad38d49ccb5ffb3', 'e674449472c942de89ff94eb804d7f66');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (71, '2026-11-10 09:35:00+00:00'::timestamptz, 'alert', '90d577291c4a4a298ad38d49ccb5ffb3', 5, 0, 0, '0.9 billed for 90d577291c4a4a298ad38d49ccb5ffb3', 'e674449472c942de89ff94eb804d7f66');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (72, '2026-11-10 09:36:00+00:00'::timestamptz, 'reserve', '958baa6915f34c44846e7e01b1a8ed7e', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (73, '2026-11-10 09:36:00+00:00'::timestamptz, 'reserve', '958baa6915f34c44846e7e01b1a8ed7e', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (74, '2026-11-10 09:36:00+00:00'::timestamptz, 'reserve', '958baa6915f34c44846e7e01b1a8ed7e', 7, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (75, '2026-11-10 09:36:00+00:00'::timestamptz, 'reserve', '958baa6915f34c44846e7e01b1a8ed7e', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (77, '2026-11-10 09:36:00+00:00'::timestamptz, 'dispatch', '958baa6915f34c44846e7e01b1a8ed7e', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (78, '2026-11-10 09:36:00+00:00'::timestamptz, 'bind', '958baa6915f34c44846e7e01b1a8ed7e', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (79, '2026-11-10 09:36:00+00:00'::timestamptz, 'release', '958baa6915f34c44846e7e01b1a8ed7e', 1,  -714000000, 0, 'failed', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (80, '2026-11-10 09:36:00+00:00'::timestamptz, 'release', '958baa6915f34c44846e7e01b1a8ed7e', 4,  -714000000, 0, 'failed', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (81, '2026-11-10 09:36:00+00:00'::timestamptz, 'release', '958baa6915f34c44846e7e01b1a8ed7e', 5,  -5086148148, 0, 'failed', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (82, '2026-11-10 09:36:00+00:00'::timestamptz, 'release', '958baa6915f34c44846e7e01b1a8ed7e', 7,  -714000000, 0, 'failed', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (83, '2026-11-10 09:37:00+00:00'::timestamptz, 'reserve', '8f87220050f54fecb89fbcbb23cf5381', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (84, '2026-11-10 09:37:00+00:00'::timestamptz, 'reserve', '8f87220050f54fecb89fbcbb23cf5381', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (85, '2026-11-10 09:37:00+00:00'::timestamptz, 'reserve', '8f87220050f54fecb89fbcbb23cf5381', 7, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (86, '2026-11-10 09:37:00+00:00'::timestamptz, 'reserve', '8f87220050f54fecb89fbcbb23cf5381', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (88, '2026-11-10 09:37:00+00:00'::timestamptz, 'dispatch', '8f87220050f54fecb89fbcbb23cf5381', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (89, '2026-11-10 09:37:00+00:00'::timestamptz, 'release', '8f87220050f54fecb89fbcbb23cf5381', 1,  -714000000, 0, 'not charged, according to the operator', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (90, '2026-11-10 09:37:00+00:00'::timestamptz, 'release', '8f87220050f54fecb89fbcbb23cf5381', 4,  -714000000, 0, 'not charged, according to the operator', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (91, '2026-11-10 09:37:00+00:00'::timestamptz, 'release', '8f87220050f54fecb89fbcbb23cf5381', 5,  -5086148148, 0, 'not charged, according to the operator', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (92, '2026-11-10 09:37:00+00:00'::timestamptz, 'release', '8f87220050f54fecb89fbcbb23cf5381', 7,  -714000000, 0, 'not charged, according to the operator', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (93, '2026-11-10 09:37:00+00:00'::timestamptz, 'reserve', '938bac47d7914eda844d27b1bfbbffbe', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (94, '2026-11-10 09:37:00+00:00'::timestamptz, 'reserve', '938bac47d7914eda844d27b1bfbbffbe', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (95, '2026-11-10 09:37:00+00:00'::timestamptz, 'reserve', '938bac47d7914eda844d27b1bfbbffbe', 7, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (96, '2026-11-10 09:37:00+00:00'::timestamptz, 'reserve', '938bac47d7914eda844d27b1bfbbffbe', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (98, '2026-11-10 09:37:00+00:00'::timestamptz, 'release', '938bac47d7914eda844d27b1bfbbffbe', 1,  -714000000, 0, 'changed my mind', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (99, '2026-11-10 09:37:00+00:00'::timestamptz, 'release', '938bac47d7914eda844d27b1bfbbffbe', 4,  -714000000, 0, 'changed my mind', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (100, '2026-11-10 09:37:00+00:00'::timestamptz, 'release', '938bac47d7914eda844d27b1bfbbffbe', 5,  -5086148148, 0, 'changed my mind', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (101, '2026-11-10 09:37:00+00:00'::timestamptz, 'release', '938bac47d7914eda844d27b1bfbbffbe', 7,  -714000000, 0, 'changed my mind', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (102, '2026-11-10 09:38:00+00:00'::timestamptz, 'reserve', '45feb9a8dc974ca39e098e092bd10d66', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (103, '2026-11-10 09:38:00+00:00'::timestamptz, 'reserve', '45feb9a8dc974ca39e098e092bd10d66', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (104, '2026-11-10 09:38:00+00:00'::timestamptz, 'reserve', '45feb9a8dc974ca39e098e092bd10d66', 7, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (105, '2026-11-10 09:38:00+00:00'::timestamptz, 'reserve', '45feb9a8dc974ca39e098e092bd10d66', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (107, '2026-11-10 09:38:00+00:00'::timestamptz, 'dispatch', '45feb9a8dc974ca39e098e092bd10d66', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (108, '2026-11-10 09:38:00+00:00'::timestamptz, 'bind', '45feb9a8dc974ca39e098e092bd10d66', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (109, '2026-11-10 09:38:00+00:00'::timestamptz, 'reserve', '1ad0e5c831044bc09b6d7450c6094305', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (110, '2026-11-10 09:38:00+00:00'::timestamptz, 'reserve', '1ad0e5c831044bc09b6d7450c6094305', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (111, '2026-11-10 09:38:00+00:00'::timestamptz, 'reserve', '1ad0e5c831044bc09b6d7450c6094305', 11, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (112, '2026-11-10 09:38:00+00:00'::timestamptz, 'reserve', '1ad0e5c831044bc09b6d7450c6094305', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (114, '2026-11-10 09:55:00+00:00'::timestamptz, 'expire', '1ad0e5c831044bc09b6d7450c6094305', 1,  -714000000, 0, 'expired', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (115, '2026-11-10 09:55:00+00:00'::timestamptz, 'expire', '1ad0e5c831044bc09b6d7450c6094305', 4,  -714000000, 0, 'expired', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (116, '2026-11-10 09:55:00+00:00'::timestamptz, 'expire', '1ad0e5c831044bc09b6d7450c6094305', 5,  -5086148148, 0, 'expired', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (117, '2026-11-10 09:55:00+00:00'::timestamptz, 'expire', '1ad0e5c831044bc09b6d7450c6094305', 11,  -714000000, 0, 'expired', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (118, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', 'f842421dd81244419ee603564f477161', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (119, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', 'f842421dd81244419ee603564f477161', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (120, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', 'f842421dd81244419ee603564f477161', 11, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (121, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', 'f842421dd81244419ee603564f477161', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (123, '2026-11-10 09:55:00+00:00'::timestamptz, 'dispatch', 'f842421dd81244419ee603564f477161', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (124, '2026-11-10 09:55:00+00:00'::timestamptz, 'bind', 'f842421dd81244419ee603564f477161', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (125, '2026-11-10 09:55:00+00:00'::timestamptz, 'settle', 'f842421dd81244419ee603564f477161', 1,  -714000000, 714000000, 'response', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (126, '2026-11-10 09:55:00+00:00'::timestamptz, 'settle', 'f842421dd81244419ee603564f477161', 4,  -714000000, 714000000, 'response', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (127, '2026-11-10 09:55:00+00:00'::timestamptz, 'settle', 'f842421dd81244419ee603564f477161', 5,  -5086148148, 5086148148, 'response', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (128, '2026-11-10 09:55:00+00:00'::timestamptz, 'settle', 'f842421dd81244419ee603564f477161', 11,  -714000000, 714000000, 'response', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (129, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', '4bae12b9a683469d86a4706124872683', 1, 761600000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (130, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', '4bae12b9a683469d86a4706124872683', 11, 761600000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (131, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', '4bae12b9a683469d86a4706124872683', 15, 761600000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (132, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', '4bae12b9a683469d86a4706124872683', 5, 5425224691, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (134, '2026-11-10 09:55:00+00:00'::timestamptz, 'dispatch', '4bae12b9a683469d86a4706124872683', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (135, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', '1b777fca7bb74cce965cb9fffae59b24', 1, 761600000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (136, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', '1b777fca7bb74cce965cb9fffae59b24', 11, 761600000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (137, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', '1b777fca7bb74cce965cb9fffae59b24', 15, 761600000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (138, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', '1b777fca7bb74cce965cb9fffae59b24', 5, 5425224691, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (140, '2026-11-10 09:55:00+00:00'::timestamptz, 'dispatch', '1b777fca7bb74cce965cb9fffae59b24', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (141, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', 'df0c4331700b408198face0a1dd67bed', 1, 214200000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (142, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', 'df0c4331700b408198face0a1dd67bed', 11, 214200000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (143, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', 'df0c4331700b408198face0a1dd67bed', 15, 214200000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (144, '2026-11-10 09:55:00+00:00'::timestamptz, 'reserve', 'df0c4331700b408198face0a1dd67bed', 5, 1525844445, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (146, '2026-11-10 09:55:00+00:00'::timestamptz, 'dispatch', 'df0c4331700b408198face0a1dd67bed', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (147, '2026-11-10 09:55:00+00:00'::timestamptz, 'record', '5a67b63548fd4f4a9d582d8b1d414255', 1, 0, 333333333, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (148, '2026-11-10 09:55:00+00:00'::timestamptz, 'record', '5a67b63548fd4f4a9d582d8b1d414255', 4, 0, 333333333, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (149, '2026-11-10 09:55:00+00:00'::timestamptz, 'record', '5a67b63548fd4f4a9d582d8b1d414255', 3, 0, 333333333, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (150, '2026-11-10 09:55:00+00:00'::timestamptz, 'record', '5a67b63548fd4f4a9d582d8b1d414255', 5, 0, 2374485594, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (152, '2026-11-15 09:56:00+00:00'::timestamptz, 'reserve', '008f0a70cc7f41abbc416f56f2ccaa74', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (153, '2026-11-15 09:56:00+00:00'::timestamptz, 'reserve', '008f0a70cc7f41abbc416f56f2ccaa74', 19, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (154, '2026-11-15 09:56:00+00:00'::timestamptz, 'reserve', '008f0a70cc7f41abbc416f56f2ccaa74', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (156, '2026-11-15 09:56:00+00:00'::timestamptz, 'dispatch', '008f0a70cc7f41abbc416f56f2ccaa74', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (157, '2026-11-15 09:56:00+00:00'::timestamptz, 'bind', '008f0a70cc7f41abbc416f56f2ccaa74', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (158, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', '5a67b63548fd4f4a9d582d8b1d414255', 21, 0, 2374485594, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (159, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', '0d45a58056dc47d28b48e6a2dcad48f5', 21, 0, 5086148148, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (160, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', '9e9107f6c0db4735a4ecdcbd240bd6f1', 21, 0, 4986419753, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (161, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', 'eac5fba4cd5f4c4d88296c3cd5c5a1c7', 21, 0, 4986419753, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (162, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', '4bf6e2a0fb8146df91ff06c0e8fdf9c9', 21, 0, 4630246913, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (163, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', '90d577291c4a4a298ad38d49ccb5ffb3', 21, 0, 6411111111, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (164, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', '958baa6915f34c44846e7e01b1a8ed7e', 21, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (165, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', '8f87220050f54fecb89fbcbb23cf5381', 21, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (166, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', '938bac47d7914eda844d27b1bfbbffbe', 21, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (167, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', '45feb9a8dc974ca39e098e092bd10d66', 21, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (168, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', '1ad0e5c831044bc09b6d7450c6094305', 21, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (169, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', 'f842421dd81244419ee603564f477161', 21, 0, 5086148148, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (170, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', '4bae12b9a683469d86a4706124872683', 21, 5425224691, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (171, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', '1b777fca7bb74cce965cb9fffae59b24', 21, 5425224691, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (172, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', 'df0c4331700b408198face0a1dd67bed', 21, 1525844445, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (173, '2026-11-15 09:56:00+00:00'::timestamptz, 'carry_over', '008f0a70cc7f41abbc416f56f2ccaa74', 21, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (174, '2026-11-15 09:56:00+00:00'::timestamptz, 'revision', NULL, NULL, 0, 0, '3b0c840d537ed825391a3b01ca3f846983721d6be949d950b9dc2407a640a74f', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (176, '2026-11-15 09:57:00+00:00'::timestamptz, 'reserve', '205693197ff349f8b9d5ac89fec63357', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (177, '2026-11-15 09:57:00+00:00'::timestamptz, 'reserve', '205693197ff349f8b9d5ac89fec63357', 19, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (178, '2026-11-15 09:57:00+00:00'::timestamptz, 'reserve', '205693197ff349f8b9d5ac89fec63357', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (179, '2026-11-15 09:57:00+00:00'::timestamptz, 'reserve', '205693197ff349f8b9d5ac89fec63357', 21, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (181, '2026-11-15 09:57:00+00:00'::timestamptz, 'dispatch', '205693197ff349f8b9d5ac89fec63357', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (182, '2026-11-15 09:57:00+00:00'::timestamptz, 'bind', '205693197ff349f8b9d5ac89fec63357', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (183, '2026-11-15 09:57:00+00:00'::timestamptz, 'doubt', '0d45a58056dc47d28b48e6a2dcad48f5', NULL, 0, 0, 'cost is 0.5, which is not a whole number of units and may be money', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (184, '2026-11-15 09:57:00+00:00'::timestamptz, 'alert', '0d45a58056dc47d28b48e6a2dcad48f5', 1, 0, 0, 'charge of 0d45a58056dc47d28b48e6a2dcad48f5: cost is 0.5, which is not a whole number of units and may be money', 'a0dde3858123439e85d44a3559e920c1');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (185, '2026-11-15 09:57:00+00:00'::timestamptz, 'alert', '0d45a58056dc47d28b48e6a2dcad48f5', 3, 0, 0, 'charge of 0d45a58056dc47d28b48e6a2dcad48f5: cost is 0.5, which is not a whole number of units and may be money', 'a0dde3858123439e85d44a3559e920c1');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (186, '2026-11-15 09:57:00+00:00'::timestamptz, 'alert', '0d45a58056dc47d28b48e6a2dcad48f5', 4, 0, 0, 'charge of 0d45a58056dc47d28b48e6a2dcad48f5: cost is 0.5, which is not a whole number of units and may be money', 'a0dde3858123439e85d44a3559e920c1');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (187, '2026-11-15 09:57:00+00:00'::timestamptz, 'alert', '0d45a58056dc47d28b48e6a2dcad48f5', 5, 0, 0, 'charge of 0d45a58056dc47d28b48e6a2dcad48f5: cost is 0.5, which is not a whole number of units and may be money', 'a0dde3858123439e85d44a3559e920c1');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (188, '2026-11-15 09:57:00+00:00'::timestamptz, 'alert', '0d45a58056dc47d28b48e6a2dcad48f5', 21, 0, 0, 'charge of 0d45a58056dc47d28b48e6a2dcad48f5: cost is 0.5, which is not a whole number of units and may be money', 'a0dde3858123439e85d44a3559e920c1');
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (189, '2026-11-15 09:57:00+00:00'::timestamptz, 'settle', '008f0a70cc7f41abbc416f56f2ccaa74', 1,  -714000000, 699999999, 'statement', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (190, '2026-11-15 09:57:00+00:00'::timestamptz, 'settle', '008f0a70cc7f41abbc416f56f2ccaa74', 5,  -5086148148, 4986419746, 'statement', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (191, '2026-11-15 09:57:00+00:00'::timestamptz, 'settle', '008f0a70cc7f41abbc416f56f2ccaa74', 19,  -714000000, 699999999, 'statement', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (192, '2026-11-15 09:57:00+00:00'::timestamptz, 'settle', '008f0a70cc7f41abbc416f56f2ccaa74', 21,  -5086148148, 4986419746, 'statement', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (193, '2026-11-21 09:21:00+00:00'::timestamptz, 'reserve', '222b0d68797e48c3946239832bd0f9d0', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (194, '2026-11-21 09:21:00+00:00'::timestamptz, 'reserve', '222b0d68797e48c3946239832bd0f9d0', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (195, '2026-11-21 09:21:00+00:00'::timestamptz, 'reserve', '222b0d68797e48c3946239832bd0f9d0', 23, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (196, '2026-11-21 09:21:00+00:00'::timestamptz, 'reserve', '222b0d68797e48c3946239832bd0f9d0', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (197, '2026-11-21 09:21:00+00:00'::timestamptz, 'reserve', '222b0d68797e48c3946239832bd0f9d0', 21, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (199, '2026-11-21 09:21:00+00:00'::timestamptz, 'dispatch', '222b0d68797e48c3946239832bd0f9d0', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (200, '2026-11-21 09:21:00+00:00'::timestamptz, 'doubt', '222b0d68797e48c3946239832bd0f9d0', NULL, 0, 0, 'timeout', NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (201, '2026-11-21 09:22:00+00:00'::timestamptz, 'reserve', 'de8926ecf6b646fca3ca75cafbcd4d71', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (202, '2026-11-21 09:22:00+00:00'::timestamptz, 'reserve', 'de8926ecf6b646fca3ca75cafbcd4d71', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (203, '2026-11-21 09:22:00+00:00'::timestamptz, 'reserve', 'de8926ecf6b646fca3ca75cafbcd4d71', 23, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (204, '2026-11-21 09:22:00+00:00'::timestamptz, 'reserve', 'de8926ecf6b646fca3ca75cafbcd4d71', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (205, '2026-11-21 09:22:00+00:00'::timestamptz, 'reserve', 'de8926ecf6b646fca3ca75cafbcd4d71', 21, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (207, '2026-11-21 09:22:00+00:00'::timestamptz, 'dispatch', 'de8926ecf6b646fca3ca75cafbcd4d71', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (208, '2026-11-21 09:29:00+00:00'::timestamptz, 'reserve', 'f97e2868c97d45ba89d06bce9ec9f565', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (209, '2026-11-21 09:29:00+00:00'::timestamptz, 'reserve', 'f97e2868c97d45ba89d06bce9ec9f565', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (210, '2026-11-21 09:29:00+00:00'::timestamptz, 'reserve', 'f97e2868c97d45ba89d06bce9ec9f565', 23, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (211, '2026-11-21 09:29:00+00:00'::timestamptz, 'reserve', 'f97e2868c97d45ba89d06bce9ec9f565', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (212, '2026-11-21 09:29:00+00:00'::timestamptz, 'reserve', 'f97e2868c97d45ba89d06bce9ec9f565', 21, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (214, '2026-11-21 09:29:00+00:00'::timestamptz, 'dispatch', 'f97e2868c97d45ba89d06bce9ec9f565', NULL, 0, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (215, '2026-11-21 09:29:00+00:00'::timestamptz, 'reserve', '8817ac04897547148c08e5ff24af2954', 1, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (216, '2026-11-21 09:29:00+00:00'::timestamptz, 'reserve', '8817ac04897547148c08e5ff24af2954', 4, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (217, '2026-11-21 09:29:00+00:00'::timestamptz, 'reserve', '8817ac04897547148c08e5ff24af2954', 23, 714000000, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (218, '2026-11-21 09:29:00+00:00'::timestamptz, 'reserve', '8817ac04897547148c08e5ff24af2954', 5, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."journal" ("seq", "at", "kind", "reservation", "bucket", "held_delta", "spent_delta", "detail", "told") OVERRIDING SYSTEM VALUE VALUES (219, '2026-11-21 09:29:00+00:00'::timestamptz, 'reserve', '8817ac04897547148c08e5ff24af2954', 21, 5086148148, 0, NULL, NULL);
INSERT INTO "kling_pricing"."observation" ("id", "provider", "task_id", "state", "duration_s", "model", "seen_at", "charge", "facts") OVERRIDING SYSTEM VALUE VALUES (1, 'qingbo', 't-1', 'succeeded', NULL, NULL, '2026-11-10 09:31:00+00:00'::timestamptz, 'null', 'null');
INSERT INTO "kling_pricing"."observation" ("id", "provider", "task_id", "state", "duration_s", "model", "seen_at", "charge", "facts") OVERRIDING SYSTEM VALUE VALUES (2, 'qingbo', 't-2', 'succeeded', NULL, NULL, '2026-11-10 09:32:00+00:00'::timestamptz, '{"parts": [["350000", "quota"]]}', 'null');
INSERT INTO "kling_pricing"."observation" ("id", "provider", "task_id", "state", "duration_s", "model", "seen_at", "charge", "facts") OVERRIDING SYSTEM VALUE VALUES (3, 'qingbo', 't-5', 'succeeded', NULL, NULL, '2026-11-10 09:35:00+00:00'::timestamptz, '{"parts": [["500000", "quota"]]}', 'null');
INSERT INTO "kling_pricing"."observation" ("id", "provider", "task_id", "state", "duration_s", "model", "seen_at", "charge", "facts") OVERRIDING SYSTEM VALUE VALUES (4, 'qingbo', 't-6', 'failed', NULL, NULL, '2026-11-10 09:36:00+00:00'::timestamptz, '{"parts": [["0", "quota"]]}', 'null');
INSERT INTO "kling_pricing"."observation" ("id", "provider", "task_id", "state", "duration_s", "model", "seen_at", "charge", "facts") OVERRIDING SYSTEM VALUE VALUES (5, 'qingbo', 't-8', 'succeeded', NULL, NULL, '2026-11-10 09:54:00+00:00'::timestamptz, '{"parts": [["357000", "quota"]]}', 'null');
INSERT INTO "kling_pricing"."observation" ("id", "provider", "task_id", "state", "duration_s", "model", "seen_at", "charge", "facts") OVERRIDING SYSTEM VALUE VALUES (6, 'qingbo', 'stray', 'succeeded', NULL, NULL, '2026-11-10 09:55:00+00:00'::timestamptz, '{"parts": [["123", "quota"]]}', 'null');
INSERT INTO "kling_pricing"."observation" ("id", "provider", "task_id", "state", "duration_s", "model", "seen_at", "charge", "facts") OVERRIDING SYSTEM VALUE VALUES (7, 'qingbo', 't-10', 'processing', NULL, NULL, '2026-11-15 09:57:00+00:00'::timestamptz, 'null', 'null');
INSERT INTO "kling_pricing"."observation" ("id", "provider", "task_id", "state", "duration_s", "model", "seen_at", "charge", "facts") OVERRIDING SYSTEM VALUE VALUES (8, 'qingbo', 't-1', 'succeeded', NULL, NULL, '2026-11-15 09:57:00+00:00'::timestamptz, '{"parts": [], "problem": "cost is 0.5, which is not a whole number of units and may be money"}', 'null');
INSERT INTO "kling_pricing"."observation" ("id", "provider", "task_id", "state", "duration_s", "model", "seen_at", "charge", "facts") OVERRIDING SYSTEM VALUE VALUES (9, 'tencent-vod', 'stray', 'succeeded', 5, 'kling-3.0-omni-720p-noref-audio', '2026-11-21 09:30:00+00:00'::timestamptz, 'null', '{"audio": true, "reference": false, "resolution": "720p"}');
INSERT INTO "kling_pricing"."unpriced_requests" ("provider", "path", "day", "requests", "told") OVERRIDING SYSTEM VALUE VALUES ('qingbo-ai', '/v1/chat/*', '2026-11-21'::date, 1, '4f1e3dd96c9d42afbace3b774be6c017');
SELECT setval(pg_get_serial_sequence('kling_pricing.budget_revision', 'revision'), (SELECT max(revision) FROM kling_pricing.budget_revision));
SELECT setval(pg_get_serial_sequence('kling_pricing.bucket', 'id'), (SELECT max(id) FROM kling_pricing.bucket));
SELECT setval(pg_get_serial_sequence('kling_pricing.reservation', 'seq'), (SELECT max(seq) FROM kling_pricing.reservation));
SELECT setval(pg_get_serial_sequence('kling_pricing.journal', 'seq'), (SELECT max(seq) FROM kling_pricing.journal));
SELECT setval(pg_get_serial_sequence('kling_pricing.observation', 'id'), (SELECT max(id) FROM kling_pricing.observation));
RESET search_path;
