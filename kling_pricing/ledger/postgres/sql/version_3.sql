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
