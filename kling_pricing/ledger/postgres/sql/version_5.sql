-- The tables of schema version 5. Each block concerns one subject.

-- Access keys. Their rows change only by revocation; their use is kept apart.
CREATE TABLE access_key (
  name text COLLATE "C" PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
  digest text COLLATE "C" NOT NULL UNIQUE CHECK (length(digest) = 64),
  project text,
  role text NOT NULL CHECK (role IN ('view', 'submit', 'manage')),
  labels jsonb NOT NULL CHECK (jsonb_typeof(labels) = 'object'),
  created_at timestamptz NOT NULL,
  expires_at timestamptz,
  revoked_at timestamptz,
  actor text NOT NULL
);
CREATE FUNCTION access_key_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' OR OLD.revoked_at IS NOT NULL OR NEW.revoked_at IS NULL
    OR (NEW.name, NEW.digest, NEW.project, NEW.role, NEW.labels, NEW.created_at, NEW.expires_at, NEW.actor)
      IS DISTINCT FROM
      (OLD.name, OLD.digest, OLD.project, OLD.role, OLD.labels, OLD.created_at, OLD.expires_at, OLD.actor)
  THEN
    RAISE EXCEPTION 'access keys never change; revoke the key and issue another one';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER access_key_is_final BEFORE UPDATE OR DELETE ON access_key
  FOR EACH ROW EXECUTE FUNCTION access_key_is_final();
CREATE TABLE access_key_use (
  name text COLLATE "C" PRIMARY KEY REFERENCES access_key (name),
  used_at timestamptz NOT NULL
);

-- Pages of reservations, in the order of their numbers; and the reservations of running jobs.
CREATE INDEX reservation_number ON reservation (seq);
CREATE INDEX reservation_unsettled ON reservation (created_at, seq) WHERE state IN ('dispatching', 'bound');

-- Accounts: null stands for the account with the provider's name, which earlier versions had.
ALTER TABLE reservation ADD COLUMN account text COLLATE "C";
ALTER TABLE reservation ADD CONSTRAINT account_is_a_name CHECK (
  account <> provider AND length(account) BETWEEN 1 AND 200 AND account !~ '[\u0001-\u001f\u007f-\u009f]'
) NOT VALID;
CREATE INDEX reservation_account ON reservation (provider, account) WHERE account IS NOT NULL;
DROP FUNCTION IF EXISTS entries();
-- Books belong to an account: `books` is their name, which is the provider's for the account of that name.
ALTER TABLE book_statement RENAME COLUMN provider TO books;
ALTER TABLE book_fact RENAME COLUMN provider TO books;
ALTER TABLE closed_month RENAME COLUMN provider TO books;
ALTER TABLE book_seal RENAME COLUMN provider TO books;
DROP FUNCTION IF EXISTS books_known(text);
DROP FUNCTION IF EXISTS books(text);
DROP FUNCTION IF EXISTS facts_of(text);
DROP FUNCTION IF EXISTS begin_books(text, text, jsonb, jsonb);
DROP FUNCTION IF EXISTS add_facts(text, text, jsonb);
DROP FUNCTION IF EXISTS books_sealed(text, book_seal, book_seal);
DROP FUNCTION IF EXISTS books_present(text);
DROP FUNCTION IF EXISTS seal_books(text);

-- The amount of a settlement, in the currency of the quote, so that reports can look back.
ALTER TABLE journal ADD COLUMN billed bigint;
DROP FUNCTION IF EXISTS enter(timestamptz, text, text, bigint[], bigint[], bigint[], text);
