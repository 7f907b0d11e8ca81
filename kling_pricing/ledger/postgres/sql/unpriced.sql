-- Adds numbers of requests that passed without a price: a list of objects with provider, path, day and requests.
CREATE OR REPLACE FUNCTION count_unpriced(p_call text, p_counts jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  INSERT INTO unpriced_requests AS stored (provider, path, day, requests, told)
  SELECT provider, path, day, requests, p_call
  FROM jsonb_to_recordset(p_counts) AS new (provider text, path text, day date, requests bigint)
  ORDER BY provider, path, day            -- two calls lock rows in the same order
  ON CONFLICT (provider, path, day) DO UPDATE SET requests = stored.requests + excluded.requests, told = p_call
  WHERE stored.told <> p_call
$$;

CREATE OR REPLACE FUNCTION unpriced(p_since date, p_until date) RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  SELECT to_jsonb(unpriced_requests) - 'told' FROM unpriced_requests
  WHERE (p_since IS NULL OR day >= p_since) AND (p_until IS NULL OR day < p_until)
  ORDER BY provider, path, day
$$;
