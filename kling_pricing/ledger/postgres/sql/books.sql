-- The books of the accounts. `books` is the name of an account's books: that of the provider, or PROVIDER/ACCOUNT if the
-- account has another name. An update is several calls in one transaction: begin_books, add_facts for each block of facts,
-- close_month if a month is closed, and seal_books.

CREATE OR REPLACE FUNCTION books_known(p_books text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_array(
    (SELECT coalesce(max(seq), 0) FROM book_fact WHERE books = p_books),
    (SELECT coalesce(max(number), 0) FROM book_statement),
    (SELECT coalesce(max(month), '') FROM closed_month WHERE books = p_books)
  )
$$;

CREATE OR REPLACE FUNCTION books(p_books text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT jsonb_build_object(
    'name', p_books,
    'known', books_known(p_books),
    'statements', (
      SELECT coalesce(jsonb_agg(to_jsonb(book_statement) - 'told' ORDER BY number), '[]')
      FROM book_statement WHERE books = p_books
    ),
    'closed', (
      SELECT coalesce(jsonb_agg(to_jsonb(closed_month) - 'told' ORDER BY month), '[]')
      FROM closed_month WHERE books = p_books
    )
  )
$$;

CREATE OR REPLACE FUNCTION book_names() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  SELECT DISTINCT books FROM book_seal
$$;

-- Returns a fact as a line of text with the fields of books.FACT.
CREATE OR REPLACE FUNCTION fact_line(p_fact book_fact) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT concat_ws(E'\x1f', p_fact.seq, p_fact.kind, p_fact.period, to_char(p_fact.at, 'YYYY-MM-DD"T"HH24:MI:SS.US'),
    p_fact.task, p_fact.project, p_fact.currency, p_fact.amount, coalesce(p_fact.native::text, ''),
    coalesce(p_fact.unit, ''), coalesce(p_fact.statement::text, ''), coalesce(p_fact."row"::text, ''),
    coalesce(p_fact.row_id, ''), coalesce(to_char(p_fact.billed_at, 'YYYY-MM-DD"T"HH24:MI:SS.US'), ''),
    coalesce(to_char(p_fact.submitted_at, 'YYYY-MM-DD"T"HH24:MI:SS.US'), ''), coalesce(p_fact.subject::text, ''),
    coalesce(p_fact.actor, ''), coalesce(p_fact.reason, ''))
$$;

CREATE OR REPLACE FUNCTION facts_of(p_books text) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT fact_line(book_fact) FROM book_fact WHERE books = p_books ORDER BY seq
$$;

-- Starts an update, and returns false if the same call has been committed already.
CREATE OR REPLACE FUNCTION begin_books(p_call text, p_books text, p_known jsonb, p_statements jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
BEGIN
  LOCK TABLE book_statement IN SHARE ROW EXCLUSIVE MODE;   -- one update at a time; readers and guards go on
  IF EXISTS (SELECT 1 FROM book_statement WHERE told = p_call)
    OR EXISTS (SELECT 1 FROM closed_month WHERE books = p_books AND told = p_call)
    OR EXISTS (SELECT 1 FROM book_fact WHERE books = p_books AND seq > (p_known->>0)::bigint AND told = p_call)
  THEN
    RETURN false;
  END IF;
  IF books_known(p_books) <> p_known
    OR EXISTS (
      SELECT 1 FROM jsonb_array_elements(p_statements) AS entry
      WHERE (entry->>'replaced_in') COLLATE "C" <= (SELECT max(month) FROM closed_month WHERE books = p_books)
    )
  THEN
    PERFORM refuse('books_changed', jsonb_build_object('name', p_books));
  END IF;
  INSERT INTO book_statement
  SELECT (jsonb_populate_record(NULL::book_statement, entry || jsonb_build_object('told', p_call))).*
  FROM jsonb_array_elements(p_statements) AS entry;
  RETURN true;
END $$;

-- Adds facts. No fact may belong to a closed month.
CREATE OR REPLACE FUNCTION add_facts(p_call text, p_books text, p_facts jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  closed text := (SELECT coalesce(max(month), '') FROM closed_month WHERE books = p_books);
BEGIN
  IF EXISTS (SELECT 1 FROM jsonb_array_elements(p_facts) AS entry WHERE (entry->>'period') COLLATE "C" <= closed) THEN
    PERFORM refuse('books_changed', jsonb_build_object('name', p_books));
  END IF;
  INSERT INTO book_fact (
    books, kind, period, at, task, project, currency, amount, native, unit, statement, "row", row_id, billed_at,
    submitted_at, subject, actor, reason, told
  )
  SELECT p_books, fact.kind, fact.period, fact.at, fact.task, fact.project, fact.currency, fact.amount, fact.native,
    fact.unit, fact.statement, fact."row", fact.row_id, fact.billed_at, fact.submitted_at, fact.subject, fact.actor,
    fact.reason, p_call
  FROM jsonb_array_elements(p_facts) WITH ORDINALITY AS entry (content, place),
    LATERAL jsonb_populate_record(NULL::book_fact, content) AS fact
  ORDER BY place;
END $$;

CREATE OR REPLACE FUNCTION close_month(p_call text, p_closed jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  INSERT INTO closed_month
  SELECT (jsonb_populate_record(NULL::closed_month, p_closed || jsonb_build_object('told', p_call))).*
$$;

-- Returns a row as the seals cover it. Before version 5, the name of the books was in a column `provider`.
CREATE OR REPLACE FUNCTION sealed_row(p_row jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT p_row - 'books' || jsonb_build_object('provider', p_row->'books')
$$;

-- Returns the seal of the rows of an update. A long update is read in blocks, each of which changes the seal.
CREATE OR REPLACE FUNCTION books_sealed(p_books text, p_before book_seal, p_until book_seal) RETURNS text
LANGUAGE plpgsql STABLE SET timezone = 'UTC' AS $$
DECLARE
  seal text := concat_ws(E'\x1f', coalesce(p_before.seal, ''), p_until.facts, p_until.statements, p_until.closed);
  block text;
BEGIN
  FOR block IN
    SELECT line FROM (
      SELECT 1 AS part, number::text AS place, sealed_row(to_jsonb(book_statement))::text AS line FROM book_statement
      WHERE books = p_books AND number > coalesce(p_before.statements, 0) AND number <= p_until.statements
      UNION ALL
      SELECT 2, month, sealed_row(to_jsonb(closed_month))::text FROM closed_month
      WHERE books = p_books AND month > coalesce(p_before.closed, '') AND month <= p_until.closed
    ) AS lines ORDER BY part, length(place), place
  LOOP
    seal := left(encode(sha256(convert_to(seal || E'\x1f' || block, 'UTF8')), 'hex'), 32);
  END LOOP;
  FOR block IN
    SELECT string_agg(line, E'\n' ORDER BY seq) FROM (
      SELECT seq, fact_line(book_fact) || E'\x1f' || told AS line, (row_number() OVER (ORDER BY seq) - 1) / 5000 AS part
      FROM book_fact
      WHERE books = p_books AND seq > coalesce(p_before.facts, 0) AND seq <= p_until.facts
    ) AS lines GROUP BY part ORDER BY part
  LOOP
    seal := left(encode(sha256(convert_to(seal || E'\x1f' || block, 'UTF8')), 'hex'), 32);
  END LOOP;
  RETURN left(encode(sha256(convert_to(seal, 'UTF8')), 'hex'), 32);
END $$;

-- Returns how much of an account's books there is to seal.
CREATE OR REPLACE FUNCTION books_present(p_books text) RETURNS book_seal LANGUAGE sql STABLE AS $$
  SELECT 0::bigint, p_books,
    (SELECT coalesce(max(seq), 0) FROM book_fact WHERE books = p_books),
    (SELECT coalesce(max(number), 0) FROM book_statement WHERE books = p_books),
    (SELECT coalesce(max(month), '') FROM closed_month WHERE books = p_books), ''
$$;

-- Writes the administrative action of a new statement.
CREATE OR REPLACE FUNCTION log_statement(p_statement book_statement) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  value jsonb := (
    SELECT jsonb_build_object(
      'books', p_statement.books, 'digest', p_statement.digest, 'since', p_statement.since, 'until', p_statement.until,
      'replaces', (SELECT name FROM book_statement WHERE number = p_statement.replaces),
      'rows', coalesce(sum(rows), 0), 'sums', coalesce(jsonb_object_agg(currency, amount), '{}')
    )
    FROM (
      SELECT currency, count(*) AS rows, trim_scale(sum(amount) / 1000000000::numeric)::text AS amount
      FROM book_fact WHERE statement = p_statement.number GROUP BY currency
    ) AS sums
  );
BEGIN
  PERFORM administer(
    current_instant(), p_statement.actor, 'remember', p_statement.name, NULL, value::text, nullif(p_statement.reason, '')
  );
END $$;

-- Keeps as an administrative action that reservations were settled from statements. A repeated call has no effect.
CREATE OR REPLACE FUNCTION note_settlement(p_books text, p_value text, p_actor text, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
BEGIN
  LOCK TABLE administration IN SHARE ROW EXCLUSIVE MODE;
  IF NOT EXISTS (
    SELECT 1 FROM administration
    WHERE action = 'settle_statement' AND subject = p_books AND actor = p_actor AND new = p_value
  ) THEN
    PERFORM administer(current_instant(), p_actor, 'settle_statement', p_books, NULL, p_value, p_reason);
  END IF;
END $$;

-- Adds the seal of an update, and an administrative action for each new statement.
CREATE OR REPLACE FUNCTION seal_books(p_books text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  present book_seal := books_present(p_books);
  newest book_seal;
BEGIN
  LOCK TABLE book_statement IN SHARE ROW EXCLUSIVE MODE;
  SELECT * INTO newest FROM book_seal WHERE books = p_books ORDER BY number DESC LIMIT 1;
  INSERT INTO book_seal (books, facts, statements, closed, seal)
  SELECT p_books, present.facts, present.statements, present.closed, books_sealed(p_books, newest, present);
  PERFORM log_statement(book_statement.*) FROM book_statement
  WHERE books = p_books AND number > coalesce(newest.statements, 0) ORDER BY number;
END $$;

-- Returns the differences between the seals and the books, with the columns of steps.COLUMNS.
CREATE OR REPLACE FUNCTION book_differences()
RETURNS TABLE (subject text, what text, kept text, derived text, source text, is_amount integer)
LANGUAGE plpgsql STABLE AS $$
DECLARE
  owner text;
  current book_seal;
  before book_seal;
  present book_seal;
BEGIN
  FOR owner IN
    SELECT books FROM book_seal UNION SELECT books FROM book_fact UNION SELECT books FROM book_statement
    UNION SELECT books FROM closed_month ORDER BY 1
  LOOP
    before := NULL;
    FOR current IN SELECT * FROM book_seal WHERE books = owner ORDER BY number LOOP
      IF current.seal <> books_sealed(owner, before, current) THEN
        RETURN QUERY SELECT 'the books of ' || owner, 'seal', current.seal, books_sealed(owner, before, current),
          'their rows give', 0;
      END IF;
      before := current;
    END LOOP;
    present := books_present(owner);
    IF (present.facts, present.statements, present.closed)
      IS DISTINCT FROM (coalesce(before.facts, 0), coalesce(before.statements, 0), coalesce(before.closed, ''))
    THEN
      RETURN QUERY SELECT 'the books of ' || owner, 'newest rows',
        format('fact %s, statement %s, month %s', coalesce(before.facts, 0), coalesce(before.statements, 0),
          coalesce(nullif(before.closed, ''), 'none')),
        format('fact %s, statement %s, month %s', present.facts, present.statements,
          coalesce(nullif(present.closed, ''), 'none')),
        'the tables contain', 0;
    END IF;
  END LOOP;
END $$;
