-- Version 4: the ledger keeps who changed what, and budgets may have rolling windows.

-- Administrative actions
CREATE TABLE administration (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL,
  actor text NOT NULL,
  role text NOT NULL,                       -- the role of the session, which the actor cannot choose
  action text NOT NULL,
  subject text NOT NULL,
  old text,                                 -- the values before and after the action, as JSON
  new text,
  reason text,
  seal text NOT NULL                        -- depends on all earlier actions
);
CREATE FUNCTION administration_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the record of administrative actions is append-only';
END $$;
CREATE TRIGGER administration_is_not_changed BEFORE UPDATE OR DELETE ON administration
  FOR EACH ROW EXECUTE FUNCTION administration_is_append_only();
CREATE TRIGGER administration_is_not_emptied BEFORE TRUNCATE ON administration
  FOR EACH STATEMENT EXECUTE FUNCTION administration_is_append_only();
DROP FUNCTION IF EXISTS freeze_all(text, text);
DROP FUNCTION IF EXISTS thaw_all(text, text);
DROP FUNCTION IF EXISTS open_bucket(text, text, jsonb, bigint);
DROP FUNCTION IF EXISTS revision_end(text, text, text, timestamptz);
-- The books: statements that were remembered, and facts about tasks.

CREATE TABLE book_statement (
  number bigint PRIMARY KEY,
  provider text COLLATE "C" NOT NULL,
  name text NOT NULL,
  digest text COLLATE "C" NOT NULL,
  since timestamptz NOT NULL,
  until timestamptz NOT NULL,
  is_answers boolean NOT NULL,
  remembered_at timestamptz NOT NULL,
  actor text NOT NULL,
  reason text NOT NULL,
  replaces bigint UNIQUE REFERENCES book_statement (number),
  replaced_in text COLLATE "C",
  told text COLLATE "C" NOT NULL,           -- the call that added it, to recognise a repeated call
  CHECK ((replaces IS NULL) = (replaced_in IS NULL))
);

CREATE TABLE book_fact (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  provider text COLLATE "C" NOT NULL,
  kind text NOT NULL CHECK (kind IN ('use', 'row', 'dispute', 'resolution', 'write_off')),
  period text COLLATE "C" NOT NULL,
  at timestamptz NOT NULL,
  task text COLLATE "C" NOT NULL,
  project text NOT NULL,
  currency text NOT NULL,
  amount bigint NOT NULL,
  native bigint,
  unit text,
  statement bigint REFERENCES book_statement (number),
  "row" bigint,
  row_id text,
  billed_at timestamptz,
  submitted_at timestamptz,
  subject bigint REFERENCES book_fact (seq),
  actor text,
  reason text,
  told text COLLATE "C" NOT NULL,
  CHECK ((kind = 'row') = (statement IS NOT NULL)),
  CHECK ((kind IN ('dispute', 'resolution')) = (subject IS NOT NULL)),
  CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CHECK (                                   -- facts are read as lines of text
    task || project || currency || coalesce(unit, '') || coalesce(row_id, '') || coalesce(actor, '')
      || coalesce(reason, '') !~ '[[:cntrl:]]'
  )
);
CREATE INDEX book_fact_of_provider ON book_fact (provider, seq);
CREATE UNIQUE INDEX book_resolution ON book_fact (subject) WHERE kind = 'resolution';

CREATE TABLE closed_month (
  month text COLLATE "C" NOT NULL,
  provider text COLLATE "C" NOT NULL,
  digest text NOT NULL,
  closed_at timestamptz NOT NULL,
  actor text NOT NULL,
  reason text NOT NULL,
  told text COLLATE "C" NOT NULL,
  PRIMARY KEY (provider, month)
);

CREATE TABLE book_seal (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  provider text COLLATE "C" NOT NULL,
  facts bigint NOT NULL,                    -- how much of the provider's books the seal covers
  statements bigint NOT NULL,
  closed text COLLATE "C" NOT NULL,
  seal text NOT NULL                        -- depends on all rows, and on the provider's seal before it
);

CREATE FUNCTION books_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the books are append-only';
END $$;
CREATE TRIGGER book_statement_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON book_statement
  FOR EACH STATEMENT EXECUTE FUNCTION books_are_append_only();
CREATE TRIGGER book_fact_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON book_fact
  FOR EACH STATEMENT EXECUTE FUNCTION books_are_append_only();
CREATE TRIGGER book_seal_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON book_seal
  FOR EACH STATEMENT EXECUTE FUNCTION books_are_append_only();
CREATE TRIGGER closed_month_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON closed_month
  FOR EACH STATEMENT EXECUTE FUNCTION books_are_append_only();


-- Allowances
CREATE TABLE allowance_request (
  id text COLLATE "C" PRIMARY KEY,
  seq bigint GENERATED ALWAYS AS IDENTITY,
  project text COLLATE "C" NOT NULL,
  amount bigint NOT NULL CHECK (amount > 0),
  currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  budgets text[] NOT NULL CHECK (cardinality(budgets) BETWEEN 1 AND 1000),
  key text COLLATE "C",
  actor text NOT NULL,
  reason text NOT NULL,
  created_at timestamptz NOT NULL,
  -- A guard's role may file requests, so nothing in them may make the ledger unreadable.
  CHECK (id || project || coalesce(key, '') || actor || reason || array_to_string(budgets, ' ', '') !~ '[\u0001-\u001f\u007f-\u009f]'),
  CHECK (
    length(id) BETWEEN 1 AND 200 AND length(project) BETWEEN 1 AND 200 AND length(coalesce(key, 'x')) BETWEEN 1 AND 300
    AND length(actor) BETWEEN 1 AND 200 AND length(reason) BETWEEN 1 AND 1000 AND array_position(budgets, NULL) IS NULL
  )
);

CREATE TABLE allowance (
  id text COLLATE "C" PRIMARY KEY,
  seq bigint GENERATED ALWAYS AS IDENTITY,
  project text COLLATE "C" NOT NULL,
  amount bigint NOT NULL CHECK (amount > 0),
  held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
  spent bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),
  currency text NOT NULL,
  budgets text[] NOT NULL,
  key text COLLATE "C",                     -- the only key for which it may be used
  until timestamptz NOT NULL,
  actor text NOT NULL,
  reason text NOT NULL,
  request text COLLATE "C" UNIQUE REFERENCES allowance_request (id),
  created_at timestamptz NOT NULL,
  revoked_at timestamptz
) WITH (fillfactor = 50);
CREATE INDEX allowance_project ON allowance (project, until);

-- The parts of allowances that cover a reservation.
CREATE TABLE reservation_allowance (
  reservation text COLLATE "C" NOT NULL REFERENCES reservation (id),
  allowance text COLLATE "C" NOT NULL REFERENCES allowance (id),
  bucket bigint NOT NULL REFERENCES bucket (id),    -- the bucket with the largest shortfall
  above bigint NOT NULL CHECK (above >= 0),         -- the part of the amount in that bucket that needs no cover
  rate numeric CHECK (rate > 0),                    -- from the allowance's currency to the bucket's
  held bigint NOT NULL CHECK (held >= 0),
  spent bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),
  PRIMARY KEY (reservation, allowance)
);
ALTER TABLE journal ADD COLUMN allowance text COLLATE "C" REFERENCES allowance (id);

-- Observe mode
ALTER TABLE budget ADD COLUMN observes boolean NOT NULL DEFAULT false;
ALTER TABLE budget ALTER COLUMN observes DROP DEFAULT;
CREATE INDEX journal_waived ON journal (at) WHERE kind = 'waive';
DROP FUNCTION IF EXISTS frozen_refusal();
-- Rolling windows: the step of a budget and of its buckets, in microseconds. A bucket is one step, and counts from
-- `window_start` to `window_end`.
ALTER TABLE budget ADD COLUMN step_us bigint CHECK (step_us > 0);
ALTER TABLE bucket ADD COLUMN step_us bigint CHECK (step_us > 0);
-- One row for each rolling window of one budget and set of labels. Verbs lock it before they add up its steps.
CREATE TABLE rolling_window (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  budget text COLLATE "C" NOT NULL,
  definition text COLLATE "C" NOT NULL,
  labels text COLLATE "C" NOT NULL,
  reached text[] NOT NULL DEFAULT '{}',     -- the thresholds that have fired and that it has not been below since
  UNIQUE (budget, definition, labels)
);
-- The balance of a bucket during a verb. For a rolling window, the amounts of all steps that count.
CREATE TYPE room AS (
  bucket bigint,                            -- null: the bucket does not exist yet
  labels text,
  cap bigint,
  held numeric,
  spent numeric,
  window_start timestamptz,
  window_end timestamptz,
  step_us bigint,
  assumed bigint                            -- the part of `held` that `decide` assumes
);
DROP FUNCTION IF EXISTS without_room(bigint[], bigint[]);
-- Caps until an instant
CREATE TABLE cap_overlay (
  budget text COLLATE "C" PRIMARY KEY,
  cap bigint NOT NULL CHECK (cap >= 0),
  set_at timestamptz NOT NULL,
  ends_at timestamptz NOT NULL,
  actor text NOT NULL,
  reason text
);

-- Who may spend. The server derives these parts of a revision from the document.
ALTER TABLE budget_revision ADD COLUMN projects jsonb
  GENERATED ALWAYS AS (nullif(document::jsonb->'projects', 'null')) STORED;
ALTER TABLE budget_revision ADD COLUMN require_labels jsonb
  GENERATED ALWAYS AS (nullif(document::jsonb->'require_labels', 'null')) STORED;
-- The last verification
CREATE TABLE verified (
  id integer PRIMARY KEY CHECK (id = 1),
  newest_entry bigint NOT NULL,
  newest_observation bigint NOT NULL,
  balances jsonb NOT NULL,                  -- of the buckets by id: [held, spent]
  fully_verified_at timestamptz NOT NULL
);
DROP FUNCTION IF EXISTS verification();

-- Alerts, their receivers, refusals and leases. A trigger copies the alerts and freezes in the journal to the outbox, so
-- that no verb can forget to do so.
CREATE TABLE alert (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text COLLATE "C" NOT NULL UNIQUE DEFAULT replace(gen_random_uuid()::text, '-', ''),
  at timestamptz NOT NULL,
  kind text NOT NULL,
  cause text COLLATE "C" NOT NULL UNIQUE,   -- what an alert is for, so that it is raised once
  entry bigint UNIQUE,                      -- the journal entry that the alert is for
  budget text COLLATE "C",
  labels text COLLATE "C" NOT NULL,
  threshold text,
  cap bigint,                               -- `cap` and `used` are the amounts at that instant
  used numeric,
  currency text,
  window_start timestamptz,
  window_end timestamptz,
  reservation text COLLATE "C" REFERENCES reservation (id),
  facts jsonb NOT NULL
);
CREATE FUNCTION outbox_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the outbox is append-only';
END $$;
CREATE TRIGGER alert_is_not_changed BEFORE UPDATE OR DELETE ON alert
  FOR EACH ROW EXECUTE FUNCTION outbox_is_append_only();
CREATE TRIGGER alert_is_not_emptied BEFORE TRUNCATE ON alert
  FOR EACH STATEMENT EXECUTE FUNCTION outbox_is_append_only();

-- Returns the alert for a journal entry, without the number and the id.
CREATE FUNCTION alert_of(p_entry journal, p_bucket bucket) RETURNS alert LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  detail text := p_entry.detail;
  kept alert;
BEGIN
  kept.at := p_entry.at;
  kept.cause := 'journal ' || p_entry.seq;
  kept.entry := p_entry.seq;
  kept.budget := p_bucket.budget;
  kept.labels := coalesce(p_bucket.labels, '{}');
  kept.currency := p_bucket.currency;
  IF p_bucket.step_us IS NULL THEN           -- a rolling window has no bounds
    kept.window_start := p_bucket.window_start;
    kept.window_end := p_bucket.window_end;
  END IF;
  kept.reservation := p_entry.reservation;
  kept.facts := '{}';
  IF p_entry.kind IN ('freeze_budget', 'thaw_budget') THEN
    kept.kind := replace(p_entry.kind, '_budget', '');
    kept.budget := split_part(detail, ': ', 1);
    kept.facts := jsonb_build_object('detail', substr(detail, strpos(detail, ': ') + 2));
  ELSIF p_entry.kind <> 'alert' THEN
    kept.kind := p_entry.kind;
    kept.facts := jsonb_build_object('detail', detail);
  ELSIF detail LIKE 'charge of %' THEN
    kept.kind := 'charge';
    kept.facts := jsonb_build_object('detail', substr(detail, strpos(detail, ': ') + 2));
  ELSIF detail LIKE '% billed for %' THEN
    kept.kind := 'overrun';
    kept.facts := jsonb_build_object('billed', split_part(detail, ' billed for ', 1));
  ELSE
    kept.kind := 'threshold';
    kept.threshold := split_part(detail, ' of ', 1);
  END IF;
  RETURN kept;
END $$;

-- The balances at the instant of an old alert are not known.
INSERT INTO alert (at, kind, cause, entry, budget, labels, threshold, currency, window_start, window_end, reservation, facts)
SELECT kept.at, kept.kind, kept.cause, kept.entry, kept.budget, kept.labels, kept.threshold, kept.currency,
  kept.window_start, kept.window_end, kept.reservation, kept.facts
FROM journal LEFT JOIN bucket AS counted ON counted.id = journal.bucket
CROSS JOIN LATERAL alert_of(journal, counted) AS kept
WHERE journal.kind IN ('alert', 'freeze', 'thaw', 'freeze_budget', 'thaw_budget') ORDER BY journal.seq;

CREATE FUNCTION journal_enters_outbox() RETURNS trigger LANGUAGE plpgsql SET search_path = kling_pricing, pg_temp AS $$
DECLARE
  counted bucket;
  kept alert;
  used numeric;
BEGIN
  PERFORM lock_outbox();
  SELECT * INTO counted FROM bucket WHERE id = NEW.bucket;
  kept := alert_of(NEW, counted);
  used := counted.held::numeric + counted.spent;
  IF counted.step_us IS NOT NULL THEN
    SELECT sum(held::numeric + spent) INTO used FROM counting(counted, NEW.at);
  END IF;
  INSERT INTO alert (
    at, kind, cause, entry, budget, labels, threshold, cap, used, currency, window_start, window_end, reservation, facts
  ) VALUES (
    kept.at, kept.kind, kept.cause, kept.entry, kept.budget, kept.labels, kept.threshold,
    cap_at(counted.budget, counted.cap, NEW.at),
    used, kept.currency, kept.window_start, kept.window_end, kept.reservation, kept.facts
  );
  RETURN NULL;
END $$;
CREATE TRIGGER journal_enters_outbox AFTER INSERT ON journal
  FOR EACH ROW WHEN (NEW.kind IN ('alert', 'freeze', 'thaw', 'freeze_budget', 'thaw_budget')) EXECUTE FUNCTION journal_enters_outbox();

-- The receivers that the current budgets name. `delivered` is the number of the newest alert that is done.
CREATE TABLE alert_receiver (
  name text COLLATE "C" PRIMARY KEY,
  delivered bigint NOT NULL,
  failures integer NOT NULL DEFAULT 0,
  failed_at timestamptz,
  problem text,
  next_at timestamptz,
  stopped_at timestamptz
);
CREATE FUNCTION revision_names_receivers() RETURNS trigger LANGUAGE plpgsql
SET search_path = kling_pricing, pg_temp AS $$
DECLARE
  document jsonb := NEW.document;
  named text[] := ARRAY(
    SELECT jsonb_array_elements_text(coalesce(document->'notify', '[]'))
    UNION SELECT jsonb_array_elements_text(coalesce(budget->'notify', '[]'))
    FROM jsonb_array_elements(coalesce(document->'budgets', '[]')) AS budget
  );
BEGIN
  DELETE FROM alert_receiver WHERE name <> ALL (named);
  INSERT INTO alert_receiver (name, delivered)
  SELECT name, (SELECT coalesce(max(seq), 0) FROM alert) FROM unnest(named) AS name ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER revision_names_receivers AFTER INSERT ON budget_revision
  FOR EACH ROW EXECUTE FUNCTION revision_names_receivers();

CREATE TABLE refused_requests (
  budget text COLLATE "C" NOT NULL CHECK (length(budget) <= 200),   -- empty: refused for another reason than a budget
  labels text COLLATE "C" NOT NULL CHECK (
    length(labels) <= 20000 AND jsonb_typeof(labels::jsonb) = 'object'
    AND NOT jsonb_path_exists(labels::jsonb, '$.* ? (@.type() != "string")')
  ),
  reason text COLLATE "C" NOT NULL CHECK (reason ~ '^[a-z_]{1,40}$'),
  day date NOT NULL CHECK (day BETWEEN '2001-01-01' AND '2200-01-01'),
  requests bigint NOT NULL CHECK (requests > 0),
  told text COLLATE "C" NOT NULL,           -- the last call that counted, to recognise a repeated call
  PRIMARY KEY (budget, labels, reason, day)
);

-- The right of one process at a time to do something.
CREATE TABLE lease (
  name text COLLATE "C" PRIMARY KEY,
  holder text NOT NULL,
  ends_at timestamptz NOT NULL
);

CREATE INDEX journal_opening ON journal (bucket) WHERE kind = 'opening';
