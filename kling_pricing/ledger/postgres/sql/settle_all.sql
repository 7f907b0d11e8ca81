-- Settles reservations in one transaction, with the effects of settling them one after the other in the given order.
-- Most settlements only replace the held money, or an earlier amount, by an amount that is not higher. They cannot be
-- refused or cause alerts, so a few statements write many of them. `settle` settles all others, one by one; a refusal
-- undoes only the settlement that it concerns.
CREATE OR REPLACE FUNCTION settle_all(p_call text, p_ids text[], p_amounts numeric[], p_basis text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  others integer[];
  other integer;
  done integer := 0;
  detail text;
  refused jsonb := '{}';
  alerts jsonb := '[]';
BEGIN
  PERFORM 1 FROM reservation WHERE id = ANY (p_ids) ORDER BY id FOR UPDATE;
  PERFORM lock_buckets(ARRAY(SELECT DISTINCT bucket FROM reservation_line WHERE reservation = ANY (p_ids)));
  SELECT coalesce(array_agg(place ORDER BY place), '{}') INTO others
  FROM unnest(p_ids, p_amounts) WITH ORDINALITY AS given (id, amount, place)
  LEFT JOIN reservation AS kept ON kept.id = given.id
  WHERE (
    amount >= 0 AND amount <= from_nanos(kept.reserved)
    AND (kept.state IN ('dispatching', 'bound') OR kept.state = 'settled' AND replaces(kept, amount, p_basis))
    AND NOT EXISTS (SELECT FROM reservation_allowance WHERE reservation = kept.id)
    AND NOT EXISTS (
      SELECT FROM reservation_line AS line
      WHERE line.reservation = kept.id
        AND ceil(amount * coalesce(line.rate, 1) * 1000000000)
          > line.spent::numeric + CASE WHEN kept.state = 'settled' THEN 0 ELSE line.held END
    )
  ) IS NOT TRUE;
  FOREACH other IN ARRAY others || cardinality(p_ids) + 1 LOOP
    PERFORM spend_plainly(now, p_ids[done + 1:other - 1], p_amounts[done + 1:other - 1], p_basis);
    IF other <= cardinality(p_ids) THEN
      BEGIN
        alerts := alerts
          || (settle(p_call || '.' || other, ARRAY[p_ids[other]], p_amounts[other], p_basis)->'alerts');
      EXCEPTION WHEN SQLSTATE 'KP001' OR SQLSTATE 'KP002' THEN
        GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
        refused := refused || jsonb_build_object(p_ids[other], detail::jsonb);
      END;
    END IF;
    done := other;
  END LOOP;
  RETURN jsonb_build_object('refused', refused, 'alerts', alerts);
END $$;

-- Settles locked reservations whose buckets are locked too.
CREATE OR REPLACE FUNCTION spend_plainly(p_now timestamptz, p_ids text[], p_amounts numeric[], p_basis text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  ids text[];
  buckets bigint[];
  nanos bigint[];
  counted bigint[];
  held bigint[];
  spent bigint[];
BEGIN
  IF p_ids = '{}' THEN
    RETURN;
  END IF;
  SELECT array_agg(kept.id ORDER BY place, bucket), array_agg(bucket ORDER BY place, bucket),
    array_agg(ceil(amount * 1000000000) ORDER BY place, bucket), array_agg(new.counted ORDER BY place, bucket),
    array_agg(CASE WHEN bucket IS NULL OR state = 'settled' THEN 0 ELSE -line.held END ORDER BY place, bucket),
    array_agg(coalesce(new.counted - line.spent, 0) ORDER BY place, bucket)
  INTO ids, buckets, nanos, counted, held, spent
  FROM unnest(p_ids, p_amounts) WITH ORDINALITY AS given (id, amount, place)
  JOIN reservation AS kept ON kept.id = given.id
  LEFT JOIN reservation_line AS line ON line.reservation = kept.id
  CROSS JOIN LATERAL (SELECT ceil(amount * coalesce(line.rate, 1) * 1000000000) AS counted) AS new;
  UPDATE reservation_line AS line SET spent = new.counted
  FROM unnest(ids, buckets, counted) AS new (id, bucket, counted)
  WHERE line.reservation = new.id AND line.bucket = new.bucket;
  UPDATE reservation AS kept SET state = 'settled', billed = ceil(amount * 1000000000), basis = p_basis,
    closed_at = p_now, doubted = false, reason = NULL
  FROM unnest(p_ids, p_amounts) AS given (id, amount)
  WHERE kept.id = given.id;
  UPDATE bucket SET held = bucket.held + move.held, spent = bucket.spent + move.spent
  FROM (
    SELECT moved.bucket, sum(moved.held) AS held, sum(moved.spent) AS spent
    FROM unnest(buckets, held, spent) AS moved (bucket, held, spent) GROUP BY moved.bucket
  ) AS move
  WHERE bucket.id = move.bucket;
  INSERT INTO journal (at, kind, reservation, bucket, held_delta, spent_delta, detail, billed)
  SELECT p_now, 'settle', entry.id, entry.bucket, entry.held, entry.spent, p_basis, entry.nanos
  FROM unnest(ids, buckets, held, spent, nanos) WITH ORDINALITY AS entry (id, bucket, held, spent, nanos, place)
  ORDER BY place;
END $$;
