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
