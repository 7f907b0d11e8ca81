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

-- The last verification
CREATE TABLE verified (
  id integer PRIMARY KEY CHECK (id = 1),
  newest_entry bigint NOT NULL,
  newest_observation bigint NOT NULL,
  balances jsonb NOT NULL,                  -- of the buckets by id: [held, spent]
  fully_verified_at timestamptz NOT NULL
);
DROP FUNCTION IF EXISTS verification();
