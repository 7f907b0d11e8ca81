-- Settles a reservation at an amount, or at the quote if the amount is null. The amount replaces the held money, or an
-- earlier amount on a weaker basis.
CREATE OR REPLACE FUNCTION settle(p_call text, p_ref text[], p_amount numeric, p_basis text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  kept reservation := locked(p_ref);
  billed numeric := coalesce(p_amount, from_nanos(kept.expected));
BEGIN
  PERFORM require_amount(billed);
  IF kept.state = 'settled' AND kept.basis = p_basis AND from_nanos(kept.billed) <> billed
    AND NOT replaces(kept, billed, p_basis)
  THEN
    PERFORM refuse_state('settled_otherwise', kept, now, jsonb_build_object('amount', trim_scale(billed)));
  END IF;
  PERFORM spend(p_call, kept, billed, p_basis, now);
  RETURN jsonb_build_object('reservation', shown(reread(kept.id), now), 'alerts', alerts_of(p_call));
END $$;

-- Returns whether an amount replaces the amount at which a reservation is settled. A stronger basis replaces a weaker
-- one. On the same basis the higher amount wins, so the order of two responses does not matter. The basis operator
-- always replaces.
CREATE OR REPLACE FUNCTION replaces(p_kept reservation, p_billed numeric, p_basis text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
  SELECT p_kept.basis IS NULL OR p_basis = 'operator'
    OR (p_basis = p_kept.basis AND p_billed > p_kept.billed * 0.000000001)
    OR array_position(ARRAY['quote', 'response', 'statement', 'operator'], p_basis)
      > array_position(ARRAY['quote', 'response', 'statement', 'operator'], p_kept.basis)
$$;

-- Settles a locked reservation, unless it is already settled on a basis that prevails.
CREATE OR REPLACE FUNCTION spend(p_call text, p_kept reservation, p_billed numeric, p_basis text, p_now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  nanos bigint;
  buckets bigint[];
  counted bigint[];
  held bigint[];
  spent bigint[];
  has_alerts boolean;
BEGIN
  IF p_kept.dispatched_at IS NULL THEN
    PERFORM refuse_state('settled_unsent', p_kept, p_now);
  ELSIF p_kept.state = 'settled' AND NOT replaces(p_kept, p_billed, p_basis) THEN
    RETURN;
  END IF;
  nanos := nanos_up(p_billed);
  SELECT array_agg(bucket ORDER BY bucket), array_agg(amount ORDER BY bucket),
    array_agg(CASE WHEN p_kept.state IN ('reserved', 'dispatching', 'bound') THEN -line.held ELSE 0 END ORDER BY bucket),
    array_agg(amount - line.spent ORDER BY bucket)
  INTO buckets, counted, held, spent
  FROM reservation_line AS line
  CROSS JOIN LATERAL (SELECT CASE WHEN line.rate IS NULL THEN nanos ELSE nanos_up(p_billed * line.rate) END AS amount) AS new
  WHERE reservation = p_kept.id;
  PERFORM lock_buckets(buckets);
  UPDATE reservation_line AS line SET spent = new.amount
  FROM unnest(buckets, counted) AS new (bucket, amount)
  WHERE line.reservation = p_kept.id AND line.bucket = new.bucket;
  UPDATE reservation SET state = 'settled', billed = nanos, basis = p_basis, closed_at = p_now, doubted = false,
    reason = NULL
  WHERE id = p_kept.id;
  has_alerts := enter(p_now, 'settle', p_kept.id, buckets, held, spent, p_basis, nanos);
  -- Comes before the alerts, because `reserve` also locks the allowances before it writes alerts.
  PERFORM spend_allowances(p_now, p_kept.id, p_kept.state IN ('reserved', 'dispatching', 'bound'));
  IF has_alerts THEN
    PERFORM alert_thresholds(p_now, p_call, p_kept.id, buckets, held, spent);
  END IF;
  IF p_billed > from_nanos(p_kept.reserved) THEN
    PERFORM alert_overrun(p_now, p_call, p_kept.id, buckets, p_billed);
  END IF;
END $$;
