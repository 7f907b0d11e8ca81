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
