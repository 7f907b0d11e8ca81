-- Version 3: the server looks up windows in a calendar and finds the matching budgets itself. Columns that never change
-- are sealed. Observations store the facts that a response about a successful task states.

ALTER TABLE observation ADD COLUMN facts jsonb;
DROP INDEX observation_once;
CREATE UNIQUE INDEX observation_once ON observation (
  provider, task_id, coalesce(state, ''), coalesce(md5(charge::text), ''), coalesce(duration_s, -1),
  coalesce(md5(facts::text), '')
);

-- The windows of all budgets, years ahead. No verb computes a window.
CREATE TABLE calendar (
  schedule text COLLATE "C" NOT NULL,
  window_start timestamptz NOT NULL,
  window_end timestamptz NOT NULL,
  zone_data text NOT NULL,
  PRIMARY KEY (schedule, window_start)
);

CREATE TABLE calendar_digest (
  digest text NOT NULL,
  begun_at timestamptz NOT NULL             -- when the first calendar was made
);

-- How a budget matches requests: labels with a given value, labels that must be present, labels with one of several
-- values, and labels that split the budget into buckets.
ALTER TABLE budget ADD COLUMN fixed_labels jsonb NOT NULL DEFAULT '{}';
ALTER TABLE budget ADD COLUMN needed_labels text[] NOT NULL DEFAULT '{}';
ALTER TABLE budget ADD COLUMN listed_labels jsonb NOT NULL DEFAULT '{}';
ALTER TABLE budget ADD COLUMN split_labels text[] NOT NULL DEFAULT '{}';
ALTER TABLE budget ADD COLUMN file_order integer NOT NULL DEFAULT 0;  -- the position in the budgets file
ALTER TABLE budget ADD COLUMN schedule text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE budget ADD COLUMN recurs boolean NOT NULL DEFAULT false;
ALTER TABLE budget ALTER COLUMN schedule DROP DEFAULT;
ALTER TABLE budget ALTER COLUMN recurs DROP DEFAULT;
ALTER TABLE budget ALTER COLUMN file_order DROP DEFAULT;
ALTER TABLE budget ALTER COLUMN fixed_labels DROP DEFAULT;
ALTER TABLE budget ALTER COLUMN needed_labels DROP DEFAULT;
ALTER TABLE budget ALTER COLUMN listed_labels DROP DEFAULT;
ALTER TABLE budget ALTER COLUMN split_labels DROP DEFAULT;

-- The parts of a revision that verbs use. The server derives them from the document, so nobody can edit them alone.
ALTER TABLE budget_revision ADD COLUMN may_be_unmatched boolean NOT NULL
  GENERATED ALWAYS AS (coalesce(document::jsonb->>'unmatched' = 'allow', false)) STORED;
ALTER TABLE budget_revision ADD COLUMN accounting_rates jsonb NOT NULL
  GENERATED ALWAYS AS (coalesce(document::jsonb->'accounting_rates', '[]')) STORED;

-- The server writes the labels of buckets itself.
UPDATE bucket SET labels = (labels::jsonb)::text;

ALTER TABLE reservation ADD COLUMN seal text;

-- Values that no later reader could use are refused, whichever function writes them. Earlier rows stay as they are.
ALTER TABLE reservation ADD CONSTRAINT labels_are_texts CHECK (
  jsonb_typeof(labels) = 'object' AND coalesce(labels->>'project' = project, false)
  AND NOT jsonb_path_exists(labels, '$.* ? (@.type() != "string")')
) NOT VALID;
ALTER TABLE reservation ADD CONSTRAINT changes_are_an_object CHECK (jsonb_typeof(changes) = 'object') NOT VALID;
ALTER TABLE reservation ADD CONSTRAINT pack_units_are_texts CHECK (
  pack_units IS NULL OR jsonb_typeof(pack_units) = 'null'
  OR (jsonb_typeof(pack_units) = 'object' AND NOT jsonb_path_exists(pack_units, '$.* ? (@.type() != "string")'))
) NOT VALID;
ALTER TABLE reservation ADD CONSTRAINT names_are_printable CHECK (
  project || key || provider || wire_format || coalesce(task_id, '') || model || resolution || tier || unit || currency
    || price_table || table_digest || coalesce(statement_unit, '') || coalesce(account_currency, '') || failed_tasks
    || coalesce(reason, '') !~ '[\u0001-\u001f\u007f-\u009f]'
) NOT VALID;
ALTER TABLE reservation ADD CONSTRAINT names_are_short CHECK (
  length(project) BETWEEN 1 AND 200 AND length(key) BETWEEN 1 AND 300 AND length(provider) BETWEEN 1 AND 200
  AND length(coalesce(task_id, 'x')) BETWEEN 1 AND 200 AND length(labels::text) <= 20000
) NOT VALID;
ALTER TABLE reservation ADD CONSTRAINT numbers_are_finite CHECK (
  quantity BETWEEN 0 AND 1e30 AND coalesce(unit_value, 0) BETWEEN 0 AND 1e30
) NOT VALID;
ALTER TABLE reservation ADD CONSTRAINT instants_are_finite CHECK (
  created_at BETWEEN '2001-01-01Z' AND '2200-01-01Z' AND deadline BETWEEN '2001-01-01Z' AND '2300-01-01Z'
) NOT VALID;
ALTER TABLE reservation ADD CONSTRAINT expires_after_creation CHECK (deadline >= created_at) NOT VALID;
ALTER TABLE observation ADD CONSTRAINT state_is_known CHECK (
  state IN ('queued', 'processing', 'succeeded', 'failed', 'cancelled')
) NOT VALID;
ALTER TABLE observation ADD CONSTRAINT length_is_finite CHECK (duration_s BETWEEN 0 AND 1e12) NOT VALID;
ALTER TABLE observation ADD CONSTRAINT names_are_printable CHECK (
  provider || task_id || coalesce(model, '') || coalesce(charge::text, '') !~ '[\u0001-\u001f\u007f-\u009f]'
  AND length(provider) BETWEEN 1 AND 200 AND length(task_id) BETWEEN 1 AND 200
) NOT VALID;
ALTER TABLE observation ADD CONSTRAINT facts_are_an_object CHECK (jsonb_typeof(facts) = 'object') NOT VALID;
ALTER TABLE observation ADD CONSTRAINT charge_is_readable CHECK (
  charge IS NULL OR jsonb_typeof(charge) = 'null' OR (
    coalesce(jsonb_typeof(charge->'parts') = 'array', false)
    AND NOT jsonb_path_exists(charge, 'strict $.parts[*] ? (@.type() != "array" || @.size() != 2)')
    AND NOT jsonb_path_exists(charge, 'strict $.parts[*][0] ? (@.type() != "string" || !(@ like_regex "^[0-9]{1,60}([.][0-9]{1,60})?$"))')
    AND NOT jsonb_path_exists(charge, 'strict $.parts[*][1] ? (@.type() != "string")')
  )
) NOT VALID;

-- The reservation to which the observation was applied. Only an observation that was applied makes an equal one a repeat.
ALTER TABLE observation ADD COLUMN applied_to text COLLATE "C" REFERENCES reservation (id);
-- An earlier version stored an observation that it refused, and then ignored an equal one. Such a reservation is still
-- bound, so the observation can be applied when it is made again.
UPDATE observation SET applied_to = reservation.id FROM reservation
WHERE reservation.provider = observation.provider AND reservation.task_id = observation.task_id
  AND NOT (
    reservation.state = 'bound' AND NOT reservation.doubted AND observation.state IN ('succeeded', 'failed', 'cancelled')
  );

ALTER TABLE observation ADD COLUMN seal text;

-- While spending is frozen, nothing is admitted or dispatched.
CREATE TABLE frozen (
  scope text COLLATE "C" PRIMARY KEY,       -- 'all': every request
  actor text NOT NULL,
  reason text NOT NULL,
  frozen_at timestamptz NOT NULL
);

-- The requests that hooks let pass without a price are counted by day.
CREATE TABLE unpriced_requests (
  provider text COLLATE "C" NOT NULL,
  path text COLLATE "C" NOT NULL,
  day date NOT NULL CHECK (day BETWEEN '2001-01-01' AND '2200-01-01'),
  requests bigint NOT NULL CHECK (requests > 0),
  told text COLLATE "C" NOT NULL,           -- the last call that counted, to recognise a repeated call
  PRIMARY KEY (provider, path, day)
);

DROP FUNCTION IF EXISTS bind(text, text[], text);
DROP FUNCTION IF EXISTS bound(text, reservation, text, timestamptz);
DROP FUNCTION IF EXISTS observe(text, text[], text, text, text, jsonb, numeric, text, numeric, text);
DROP FUNCTION IF EXISTS take_up(text, reservation, text, jsonb, numeric, timestamptz);
DROP FUNCTION IF EXISTS buckets_of(jsonb, timestamptz);
DROP FUNCTION IF EXISTS window_start(jsonb, timestamptz);
DROP FUNCTION IF EXISTS open_bucket(text, jsonb, bigint);
DROP FUNCTION IF EXISTS carry_over(text, jsonb, bigint, bigint, timestamptz);
DROP FUNCTION IF EXISTS put_in_force(jsonb, timestamptz);
DROP FUNCTION IF EXISTS without_room(bigint[], jsonb);
