-- Version 4: the ledger keeps who changed what.

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
