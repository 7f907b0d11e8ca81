-- The tables of schema version 6.

-- Sessions of people who signed in to the pages of the server. They are removed when they have ended.
CREATE TABLE session (
  digest text COLLATE "C" PRIMARY KEY CHECK (length(digest) = 64),
  access_key text COLLATE "C" NOT NULL REFERENCES access_key (name),
  created_at timestamptz NOT NULL,
  used_at timestamptz NOT NULL,
  ends_at timestamptz NOT NULL
);
CREATE INDEX session_of_key ON session (access_key, created_at);
