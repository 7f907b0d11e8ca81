-- The books of a provider. An update is several calls in one transaction: begin_books, add_facts for each block of facts,
-- and close_month if a month is closed.

CREATE OR REPLACE FUNCTION books_known(p_provider text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_array(
    (SELECT coalesce(max(seq), 0) FROM book_fact WHERE provider = p_provider),
    (SELECT coalesce(max(number), 0) FROM book_statement),
    (SELECT coalesce(max(month), '') FROM closed_month WHERE provider = p_provider)
  )
$$;

CREATE OR REPLACE FUNCTION books(p_provider text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT jsonb_build_object(
    'known', books_known(p_provider),
    'statements', (
      SELECT coalesce(jsonb_agg(to_jsonb(book_statement) - 'told' ORDER BY number), '[]')
      FROM book_statement WHERE provider = p_provider
    ),
    'closed', (
      SELECT coalesce(jsonb_agg(to_jsonb(closed_month) - 'told' ORDER BY month), '[]')
      FROM closed_month WHERE provider = p_provider
    )
  )
$$;

-- Returns lines of text with the fields of books.FACT.
CREATE OR REPLACE FUNCTION facts_of(p_provider text) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT concat_ws(E'\x1f', seq, kind, period, to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.US'), task, project, currency,
    amount, coalesce(native::text, ''), coalesce(unit, ''), coalesce(statement::text, ''), coalesce("row"::text, ''),
    coalesce(row_id, ''), coalesce(to_char(billed_at, 'YYYY-MM-DD"T"HH24:MI:SS.US'), ''),
    coalesce(to_char(submitted_at, 'YYYY-MM-DD"T"HH24:MI:SS.US'), ''), coalesce(subject::text, ''),
    coalesce(actor, ''), coalesce(reason, ''))
  FROM book_fact WHERE provider = p_provider ORDER BY seq
$$;

-- Starts an update, and returns false if the same call has been committed already.
CREATE OR REPLACE FUNCTION begin_books(p_call text, p_provider text, p_known jsonb, p_statements jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
BEGIN
  LOCK TABLE book_statement IN SHARE ROW EXCLUSIVE MODE;   -- one update at a time; readers and guards go on
  IF EXISTS (SELECT 1 FROM book_statement WHERE told = p_call)
    OR EXISTS (SELECT 1 FROM closed_month WHERE provider = p_provider AND told = p_call)
    OR EXISTS (SELECT 1 FROM book_fact WHERE provider = p_provider AND seq > (p_known->>0)::bigint AND told = p_call)
  THEN
    RETURN false;
  END IF;
  IF books_known(p_provider) <> p_known THEN
    PERFORM refuse('books_changed', jsonb_build_object('provider', p_provider));
  END IF;
  INSERT INTO book_statement
  SELECT (jsonb_populate_record(NULL::book_statement, entry || jsonb_build_object('told', p_call))).*
  FROM jsonb_array_elements(p_statements) AS entry;
  RETURN true;
END $$;

CREATE OR REPLACE FUNCTION add_facts(p_call text, p_provider text, p_facts jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  INSERT INTO book_fact (
    provider, kind, period, at, task, project, currency, amount, native, unit, statement, "row", row_id, billed_at,
    submitted_at, subject, actor, reason, told
  )
  SELECT p_provider, fact.kind, fact.period, fact.at, fact.task, fact.project, fact.currency, fact.amount, fact.native,
    fact.unit, fact.statement, fact."row", fact.row_id, fact.billed_at, fact.submitted_at, fact.subject, fact.actor,
    fact.reason, p_call
  FROM jsonb_array_elements(p_facts) WITH ORDINALITY AS entry (content, place),
    LATERAL jsonb_populate_record(NULL::book_fact, content) AS fact
  ORDER BY place
$$;

CREATE OR REPLACE FUNCTION close_month(p_call text, p_closed jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  INSERT INTO closed_month
  SELECT (jsonb_populate_record(NULL::closed_month, p_closed || jsonb_build_object('told', p_call))).*
$$;
