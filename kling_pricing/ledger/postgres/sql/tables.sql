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
