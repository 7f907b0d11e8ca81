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
  CHECK ((kind IN ('dispute', 'resolution')) = (subject IS NOT NULL))
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


-- The last verification
CREATE TABLE verified (
  id integer PRIMARY KEY CHECK (id = 1),
  newest_entry bigint NOT NULL,
  newest_observation bigint NOT NULL,
  balances jsonb NOT NULL,                  -- of the buckets by id: [held, spent]
  fully_verified_at timestamptz NOT NULL
);
DROP FUNCTION IF EXISTS verification();
