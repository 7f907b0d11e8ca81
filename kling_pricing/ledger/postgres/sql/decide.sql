-- Decides about requests. `reserve` and `decide` share `decision`, so that they cannot differ.

-- Returns the balance of each budget's bucket at an instant, without the amounts that expired reservations still hold, and
-- with the amounts that the caller assumes to be held. Null where a budget has no window then. Creates nothing.
CREATE OR REPLACE FUNCTION rooms_at(p_budgets budget[], p_labels jsonb, p_assumed jsonb, p_at timestamptz) RETURNS room[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
  claimed budget;
  opens timestamptz;
  closes timestamptz;
  kept bucket;
  balance room;
  rooms room[] := '{}';
BEGIN
  FOREACH claimed IN ARRAY p_budgets LOOP
    balance := NULL;
    SELECT found.opens, found.closes INTO opens, closes FROM window_of(claimed, p_at) AS found;
    IF opens IS NOT NULL THEN
      SELECT * INTO kept FROM bucket
      WHERE budget = claimed.name AND definition = claimed.definition AND labels = bucket_labels(claimed, p_labels)
        AND window_start = opens;
      IF kept.id IS NULL THEN
        kept.budget := claimed.name;
        kept.definition := claimed.definition;
        kept.labels := bucket_labels(claimed, p_labels);
        kept.window_start := opens;
        kept.window_end := closes;
        kept.cap := claimed.cap;
        kept.held := 0;
        kept.spent := 0;
        kept.step_us := claimed.step_us;
      END IF;
      balance := room_of(kept, p_at);
      SELECT coalesce(sum((assumed->>'nanos')::bigint), 0) INTO balance.assumed
      FROM jsonb_array_elements(p_assumed) AS assumed
      WHERE assumed->>'budget' = claimed.name AND assumed->'labels' = kept.labels::jsonb;
      balance.held := balance.held + balance.assumed
        - coalesce((SELECT sum(late.held) FROM late_held(kept, p_at) AS late), 0);
    END IF;
    rooms := array_append(rooms, balance);
  END LOOP;
  RETURN rooms;
END $$;

-- Returns whether the amounts fit into all buckets; `may_cap`: whether all budgets whose buckets lack room accept a cheaper
-- variant.
CREATE OR REPLACE FUNCTION fits(p_claimed budget[], p_rooms room[], p_amounts bigint[], OUT fits boolean, OUT may_cap boolean)
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  balance room;
BEGIN
  fits := true;
  may_cap := true;
  FOR place IN 1..cardinality(p_rooms) LOOP
    balance := p_rooms[place];
    IF balance.window_end IS NOT NULL AND (   -- otherwise the budget has no window now
      balance.cap - balance.held - balance.spent < p_amounts[place] OR p_amounts[place] > p_claimed[place].max_request
    ) AND NOT p_claimed[place].observes THEN
      fits := false;
      may_cap := may_cap AND p_claimed[place].may_cap;
    END IF;
  END LOOP;
END $$;

-- Returns a shortfall for every bucket that these amounts do not fit into.
CREATE OR REPLACE FUNCTION shortfalls(p_claimed budget[], p_rooms room[], p_amounts bigint[], p_now timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
  claimed budget;
  balance room;
  lacking jsonb := '[]';
BEGIN
  FOR place IN 1..cardinality(p_rooms) LOOP
    claimed := p_claimed[place];
    balance := p_rooms[place];
    CONTINUE WHEN balance.window_end IS NULL OR claimed.observes OR (
      balance.cap - balance.held - balance.spent >= p_amounts[place]
      AND p_amounts[place] <= coalesce(claimed.max_request, p_amounts[place])
    );
    lacking := lacking || jsonb_build_object(
      'budget', claimed.name, 'labels', balance.labels, 'requested', p_amounts[place],
      'available', balance.cap - balance.held - balance.spent, 'max_request', claimed.max_request,
      'currency', claimed.currency, 'window_end', ends(balance, claimed, p_amounts[place], p_now),
      'may_cap', claimed.may_cap, 'step_us', balance.step_us, 'place', place
    );
  END LOOP;
  RETURN lacking;
END $$;

-- Decides about a request: `place` is the first candidate that fits, with its amounts and accounting rates, and the parts of
-- allowances that cover it; or `answer` says why nothing is reserved. `p_before` is the newest reservation with the request's
-- key; `p_rooms` are the balances of the budgets that match. `p_assumed` is null for a verb that reserves.
CREATE OR REPLACE FUNCTION decision(
  p_order jsonb, p_candidates jsonb, p_before reservation, p_is_frozen boolean, p_holds boolean, p_claimed budget[],
  p_rooms room[], p_assumed jsonb, p_now timestamptz, OUT answer jsonb, OUT place integer, OUT amounts bigint[],
  OUT rates numeric[], OUT covers jsonb
) LANGUAGE plpgsql STABLE AS $$
DECLARE
  in_force record;
  lacking jsonb;
  verdict record;
  uncovered jsonb;      -- the shortfalls of a candidate that allowances do not cover
  is_allowed boolean;   -- whether allowances may cover the request
BEGIN
  covers := '[]';
  IF p_before.id IS NOT NULL THEN
    IF p_before.fingerprint <> p_order->>'fingerprint' THEN
      answer := jsonb_build_object('refusal', jsonb_build_object(
        'kind', 'key_taken', 'reservation', shown(p_before, p_now)
      ));
      RETURN;
    ELSIF p_before.state NOT IN ('reserved', 'released') THEN
      answer := jsonb_build_object('refusal', jsonb_build_object(
        'kind', 'key_sent', 'state', p_before.state, 'reservation', shown(p_before, p_now)
      ));
      RETURN;
    END IF;
  END IF;
  IF p_is_frozen THEN
    answer := jsonb_build_object('refusal', frozen_refusal(ARRAY(SELECT name FROM unnest(matching(p_order->'labels')))));
    IF answer->>'refusal' IS NOT NULL THEN
      RETURN;
    END IF;
    answer := NULL;
  END IF;
  IF p_before.state = 'reserved' THEN
    answer := jsonb_build_object('reserved', shown(p_before, p_now), 'replayed', true, 'alerts', jsonb_build_array());
    RETURN;
  END IF;
  IF NOT p_holds THEN
    answer := jsonb_build_object('mistimed', p_now);
    RETURN;
  END IF;
  SELECT may_be_unmatched, accounting_rates, projects, require_labels INTO in_force
  FROM budget_revision ORDER BY revision DESC LIMIT 1;
  IF NOT coalesce(in_force.projects ? (p_order->>'project'), true)
    OR EXISTS (SELECT 1 FROM jsonb_array_elements_text(in_force.require_labels) AS label WHERE NOT p_order->'labels' ? label)
  THEN   -- a guard refuses such a request itself, and says why
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'the budgets do not let this project or these labels spend';
  END IF;
  IF NOT in_force.may_be_unmatched AND NOT EXISTS (SELECT FROM unnest(p_rooms) AS balance WHERE balance.window_end IS NOT NULL) THEN
    answer := jsonb_build_object('refused', jsonb_build_array());
    RETURN;
  END IF;
  FOR candidate IN 0..jsonb_array_length(p_candidates) - 1 LOOP
    rates := rates_of(p_candidates->candidate->'terms'->>'currency', p_claimed, in_force.accounting_rates);
    amounts := amounts_of((p_candidates->candidate->>'reserved')::bigint, rates);
    SELECT * INTO verdict FROM fits(p_claimed, p_rooms, amounts);
    IF verdict.fits THEN
      place := candidate;
      RETURN;
    END IF;
    is_allowed := coalesce(is_allowed, has_allowances(p_order->>'project', p_order->>'key', p_now));
    CONTINUE WHEN candidate > 0 AND NOT is_allowed;
    uncovered := shortfalls(p_claimed, p_rooms, amounts, p_now);
    IF is_allowed THEN
      SELECT found.covers, found.lacking INTO covers, uncovered FROM coverage(
        p_order->>'project', p_order->>'key', uncovered, in_force.accounting_rates, p_assumed, p_now
      ) AS found;
      IF uncovered = '[]' THEN
        place := candidate;
        RETURN;
      END IF;
      covers := '[]';
    END IF;
    IF candidate = 0 THEN
      lacking := uncovered;
      EXIT WHEN lacking @? '$[*] ? (@.may_cap == false)';   -- one budget that does not cap is enough to refuse
    END IF;
  END LOOP;
  answer := jsonb_build_object('refused', lacking);
END $$;

-- Returns the decision that `reserve` would make now, and the balances on which it depends. Changes nothing, and takes no
-- lock, so it also works in a read-only transaction.
CREATE OR REPLACE FUNCTION decide(p_order jsonb, p_candidates jsonb, p_assumed jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := current_instant();
  changed jsonb;
  before reservation;
  holds boolean;
  claimed budget[] := '{}';
  rooms room[] := '{}';
  decided record;
BEGIN
  PERFORM require_order(p_order);
  changed := outdated(p_order->>'budgets');
  IF changed IS NOT NULL THEN
    RETURN changed;
  END IF;
  SELECT * INTO before FROM reservation
  WHERE project = p_order->>'project' AND key = p_order->>'key' ORDER BY attempt DESC LIMIT 1;
  IF before.state = 'reserved' AND before.deadline <= now THEN   -- `reserve` would release it first
    before.state := 'released';
  END IF;
  holds := coalesce(
    now >= (p_order->'holds'->>0)::timestamptz AND now < (p_order->'holds'->>1)::timestamptz, false
  );
  IF holds THEN
    claimed := matching(p_order->'labels');
    rooms := rooms_at(claimed, p_order->'labels', p_assumed, now);
  END IF;
  SELECT * INTO decided
  FROM decision(p_order, p_candidates, before, EXISTS (SELECT FROM frozen), holds, claimed, rooms, p_assumed, now);
  RETURN jsonb_build_object('at', now, 'covers', decided.covers, 'rooms', (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
      'budget', (claimed[place]).name, 'labels', (rooms[place]).labels, 'cap', (rooms[place]).cap,
      'held', (rooms[place]).held, 'spent', (rooms[place]).spent, 'max_request', (claimed[place]).max_request,
      'currency', (claimed[place]).currency, 'window_start', (rooms[place]).window_start,
      'window_end', (rooms[place]).window_end, 'step_us', (rooms[place]).step_us
    ) ORDER BY place), '[]')
    FROM generate_subscripts(rooms, 1) AS place WHERE (rooms[place]).window_end IS NOT NULL
  )) || CASE
    WHEN decided.answer IS NULL THEN jsonb_build_object('candidate', decided.place)
    WHEN decided.answer ? 'refusal' THEN jsonb_build_object('error', decided.answer->'refusal')
    ELSE decided.answer
  END;
END $$;
