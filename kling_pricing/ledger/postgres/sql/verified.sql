-- Remembers how far a ledger has been verified. The function `verification` is generated from the list of checks.

-- Returns the newest journal entry and observation, and the transactions that may still add earlier ones: a transaction
-- takes a number before it commits, so a later number may be visible first.
CREATE OR REPLACE FUNCTION verification_horizon() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp AS $$
  SELECT jsonb_build_object(
    'newest_entry', (SELECT coalesce(max(seq), 0) FROM journal),
    'newest_observation', (SELECT coalesce(max(id), 0) FROM observation),
    'running_before', pg_snapshot_xmax(pg_current_snapshot())::text
  )
$$;

-- Returns the last verification, the newest entry and observation, and the balances without the entries after p_entry.
CREATE OR REPLACE FUNCTION verification_begin(p_entry bigint, p_observation bigint) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT jsonb_build_object(
    'last', (SELECT to_jsonb(verified) - 'balances' FROM verified),
    'newest_entry', coalesce(p_entry, (SELECT max(seq) FROM journal), 0),
    'newest_observation', coalesce(p_observation, (SELECT max(id) FROM observation), 0),
    'balances', CASE WHEN p_entry IS NULL THEN '' ELSE (
      SELECT coalesce(jsonb_object_agg(
        bucket.id, jsonb_build_array(bucket.held - coalesce(later.held, 0), bucket.spent - coalesce(later.spent, 0))
      ), '{}')::text
      FROM bucket LEFT JOIN (
        SELECT journal.bucket, sum(held_delta) AS held, sum(spent_delta) AS spent FROM journal
        WHERE seq > p_entry AND journal.bucket IS NOT NULL GROUP BY journal.bucket
      ) AS later ON later.bucket = bucket.id
    ) END
  )
$$;

-- Remembers a verification, unless a later one is remembered already; for the owner.
CREATE OR REPLACE FUNCTION remember_verified(p_entry bigint, p_observation bigint, p_balances jsonb, p_is_full boolean)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  full_at timestamptz := CASE WHEN p_is_full THEN current_instant() END;
BEGIN
  INSERT INTO verified AS kept (id, newest_entry, newest_observation, balances, fully_verified_at)
  VALUES (1, p_entry, p_observation, p_balances, coalesce(full_at, '-infinity'))
  ON CONFLICT (id) DO UPDATE SET newest_entry = p_entry, newest_observation = p_observation, balances = p_balances,
    fully_verified_at = coalesce(full_at, kept.fully_verified_at)
  WHERE kept.newest_entry <= p_entry;
END $$;
