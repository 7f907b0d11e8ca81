-- Allowances: amounts above the caps of named budgets, granted to one project until an instant.

-- Lets one transaction at a time use allowances or give them back. Every verb takes this lock after those of its buckets.
CREATE OR REPLACE FUNCTION lock_allowances() RETURNS void LANGUAGE sql AS $$
  SELECT pg_advisory_xact_lock(1263555137)
$$;

-- Changes the balance of an allowance, and writes the journal entry of the change. The caller holds the lock.
CREATE OR REPLACE FUNCTION enter_allowance(
  p_now timestamptz, p_kind text, p_reservation text, p_allowance text, p_held bigint, p_spent bigint, p_detail text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF p_held <> 0 OR p_spent <> 0 THEN
    UPDATE allowance SET held = held + p_held, spent = spent + p_spent WHERE id = p_allowance;
  END IF;
  INSERT INTO journal (at, kind, reservation, allowance, held_delta, spent_delta, detail)
  VALUES (p_now, p_kind, p_reservation, p_allowance, p_held, p_spent, p_detail);
END $$;

-- Whether a project has allowances that may cover a request with a key.
CREATE OR REPLACE FUNCTION has_allowances(p_project text, p_key text, p_now timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (
    SELECT FROM allowance
    WHERE project = p_project AND (key IS NULL OR key = p_key) AND until > p_now AND revoked_at IS NULL
  )
$$;

-- Covers the shortfalls of a request by the allowances of its project. The rules are those of `granting.cover`.
-- `p_lacking` has the rows of `shortfalls`. `covers` are the parts of allowances that cover the request, and `lacking` the
-- rows that they do not cover in full. `p_assumed` is null for a verb that reserves; for a decision, it has the uses of
-- allowances to count in addition, and those of expired reservations do not count.
CREATE OR REPLACE FUNCTION coverage(
  p_project text, p_key text, p_lacking jsonb, p_accounting_rates jsonb, p_assumed jsonb, p_now timestamptz,
  OUT covers jsonb, OUT lacking jsonb
) LANGUAGE plpgsql STABLE AS $$
DECLARE
  granted allowance;
  available numeric;
  needs jsonb[];
  of_cap numeric[];       -- what is left of the shortfalls of caps, of the limits per request, and what is covered
  of_limit numeric[];
  covered numeric[];
  rates numeric[];        -- the rates from the currency of the allowance; null where it cannot be used
  short numeric;
  wanted numeric;
  best numeric;
  best_place integer;
  best_above numeric;
BEGIN
  covers := '[]';
  SELECT array_agg(need ORDER BY n), array_agg(0 ORDER BY n),
    array_agg((need->>'requested')::numeric - least(greatest((need->>'available')::numeric, 0), (need->>'requested')::numeric) ORDER BY n),
    array_agg(greatest((need->>'requested')::numeric - coalesce((need->>'max_request')::numeric, (need->>'requested')::numeric), 0) ORDER BY n)
  INTO needs, covered, of_cap, of_limit
  FROM jsonb_array_elements(p_lacking) WITH ORDINALITY AS element (need, n);
  FOR granted IN
    SELECT * FROM allowance
    WHERE project = p_project AND (key IS NULL OR key = p_key) AND until > p_now AND revoked_at IS NULL
    ORDER BY key IS NULL, until, created_at, id
  LOOP
    available := granted.amount::numeric - granted.held - granted.spent;
    IF p_assumed IS NOT NULL THEN
      SELECT available + coalesce(sum(used.held), 0) INTO available
      FROM reservation_allowance AS used JOIN reservation ON reservation.id = used.reservation
      WHERE used.allowance = granted.id AND state = 'reserved' AND deadline <= p_now;
      SELECT available - coalesce(sum((assumed->>'nanos')::bigint), 0) INTO available
      FROM jsonb_array_elements(p_assumed) AS assumed WHERE assumed->>'allowance' = granted.id;
    END IF;
    CONTINUE WHEN available <= 0;
    best := 0;
    rates := '{}';
    FOR place IN 1..cardinality(needs) LOOP
      rates := array_append(rates, CASE
        WHEN NOT needs[place]->>'budget' = ANY (granted.budgets) THEN NULL
        WHEN granted.currency = needs[place]->>'currency' THEN 1
        ELSE (
          SELECT (entry->>'rate')::numeric FROM jsonb_array_elements(p_accounting_rates) AS entry
          WHERE entry->>'quote' = granted.currency AND entry->>'budget' = needs[place]->>'currency'
        )
      END);
      short := CASE WHEN granted.key IS NULL THEN of_cap[place] ELSE greatest(of_cap[place], of_limit[place]) END;
      wanted := least(cover_cost(short, rates[place]), available);
      IF rates[place] IS NOT NULL AND wanted > best THEN
        best := wanted;
        best_place := place;
        best_above := (needs[place]->>'requested')::numeric - short;
      END IF;
    END LOOP;
    CONTINUE WHEN best = 0;
    covers := covers || jsonb_build_object(
      'allowance', granted.id, 'place', needs[best_place]->'place', 'above', best_above, 'held', best,
      'rate', CASE WHEN granted.currency <> needs[best_place]->>'currency' THEN rates[best_place] END
    );
    FOR place IN 1..cardinality(needs) LOOP
      CONTINUE WHEN rates[place] IS NULL;
      short := CASE WHEN granted.key IS NULL THEN of_cap[place] ELSE greatest(of_cap[place], of_limit[place]) END;
      wanted := least(floor(best * rates[place]), short);
      of_cap[place] := greatest(of_cap[place] - wanted, 0);
      covered[place] := covered[place] + wanted;
      IF granted.key IS NOT NULL THEN
        of_limit[place] := greatest(of_limit[place] - wanted, 0);
      END IF;
    END LOOP;
  END LOOP;
  lacking := '[]';
  FOR place IN 1..cardinality(needs) LOOP
    IF greatest(of_cap[place], of_limit[place]) > 0 THEN
      lacking := lacking || (needs[place] || jsonb_build_object('covered', covered[place]));
    END IF;
  END LOOP;
END $$;

-- The nanos of an allowance that cover an amount in a budget's currency, rounded up. A rate has at most nine decimals,
-- and `div` is exact.
CREATE OR REPLACE FUNCTION cover_cost(p_nanos numeric, p_rate numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
  SELECT div(p_nanos * 1000000000 + p_rate * 1000000000 - 1, p_rate * 1000000000)
$$;

-- Uses allowances for a new reservation. The caller holds their lock.
CREATE OR REPLACE FUNCTION use_allowances(p_now timestamptz, p_reservation text, p_covers jsonb, p_buckets bigint[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  cover jsonb;
  bucket_id bigint;
  rate numeric;
BEGIN
  FOR cover IN SELECT value FROM jsonb_array_elements(p_covers) WITH ORDINALITY ORDER BY ordinality LOOP
    bucket_id := p_buckets[(cover->>'place')::integer];
    rate := cover->>'rate';
    INSERT INTO reservation_allowance (reservation, allowance, bucket, above, rate, held)
    VALUES (p_reservation, cover->>'allowance', bucket_id, (cover->>'above')::bigint, rate, (cover->>'held')::bigint);
    PERFORM enter_allowance(
      p_now, 'cover', p_reservation, cover->>'allowance', (cover->>'held')::bigint, 0,
      'above ' || (cover->>'above') || ' of bucket ' || bucket_id || coalesce(' at ' || trim_scale(rate), '')
    );
  END LOOP;
END $$;

-- Gives back what a reservation holds of allowances, because it is released. The caller holds the locks of its buckets.
CREATE OR REPLACE FUNCTION give_back_allowances(p_now timestamptz, p_reservation text, p_event text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  used reservation_allowance;
BEGIN
  FOR used IN SELECT * FROM reservation_allowance WHERE reservation = p_reservation ORDER BY allowance LOOP
    PERFORM lock_allowances();
    PERFORM enter_allowance(p_now, 'cover', p_reservation, used.allowance, -used.held, 0, p_event);
  END LOOP;
END $$;

-- Counts the part of a settled amount that allowances cover, in place of the part held or spent before.
CREATE OR REPLACE FUNCTION spend_allowances(p_now timestamptz, p_reservation text, p_was_open boolean)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  used record;
  covered bigint;
BEGIN
  FOR used IN
    SELECT part.*, line.spent AS counted FROM reservation_allowance AS part
    JOIN reservation_line AS line ON line.reservation = part.reservation AND line.bucket = part.bucket
    WHERE part.reservation = p_reservation ORDER BY part.allowance
  LOOP
    PERFORM lock_allowances();
    covered := least(used.held, cover_cost(greatest(used.counted - used.above, 0), coalesce(used.rate, 1)));
    UPDATE reservation_allowance SET spent = covered WHERE reservation = p_reservation AND allowance = used.allowance;
    PERFORM enter_allowance(
      p_now, 'cover', p_reservation, used.allowance, CASE WHEN p_was_open THEN -used.held ELSE 0 END,
      covered - used.spent, 'settle'
    );
  END LOOP;
END $$;

-- The verbs. Only `ask` and the functions that read are for a guard's role.

CREATE OR REPLACE FUNCTION shown_allowance(p_id text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT to_jsonb(allowance) - 'seq' FROM allowance WHERE id = p_id
$$;

CREATE OR REPLACE FUNCTION shown_request(p_asked allowance_request) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT to_jsonb(p_asked) - 'seq' || jsonb_build_object(
    'allowance', (SELECT id FROM allowance WHERE request = p_asked.id),
    'declined', (
      SELECT jsonb_build_object('actor', actor, 'reason', reason, 'at', at)
      FROM administration WHERE action = 'decline' AND subject = p_asked.id
    )
  )
$$;

-- Returns a filed request. Until the transaction ends, no other one can grant or decline it.
CREATE OR REPLACE FUNCTION locked_request(p_id text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  asked allowance_request;
BEGIN
  SELECT * INTO asked FROM allowance_request WHERE id = p_id FOR UPDATE;
  IF asked.id IS NULL THEN
    PERFORM refuse('unknown_request', jsonb_build_object('request', p_id));
  END IF;
  RETURN shown_request(asked);
END $$;

CREATE OR REPLACE FUNCTION allow(
  p_id text, p_project text, p_amount bigint, p_currency text, p_budgets text[], p_key text, p_until timestamptz,
  p_request text, p_actor text, p_reason text
) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  asked jsonb;
BEGIN
  IF EXISTS (SELECT FROM allowance WHERE id = p_id) THEN   -- the same call again, because its response was lost
    RETURN shown_allowance(p_id);
  ELSIF p_until <= now THEN
    PERFORM refuse('ended_before_it_began', jsonb_build_object('until', p_until));
  ELSIF p_request IS NOT NULL THEN
    asked := locked_request(p_request);
    IF asked->>'allowance' IS NOT NULL THEN
      PERFORM refuse('granted_already', jsonb_build_object('request', p_request, 'allowance', asked->'allowance'));
    ELSIF asked->>'declined' IS NOT NULL THEN
      PERFORM refuse('declined_already', asked->'declined' || jsonb_build_object('request', p_request));
    END IF;
  END IF;
  PERFORM require_budgets(p_budgets);
  INSERT INTO allowance (id, project, amount, currency, budgets, key, until, actor, reason, request, created_at)
  VALUES (p_id, p_project, p_amount, p_currency, p_budgets, p_key, p_until, p_actor, p_reason, p_request, now);
  PERFORM enter_allowance(now, 'allow', NULL, p_id, 0, 0, p_project);
  PERFORM administer(now, p_actor, 'allow', p_id, NULL, jsonb_build_object(
    'project', p_project, 'amount', trim_scale(from_nanos(p_amount))::text, 'currency', p_currency, 'budgets', to_jsonb(p_budgets),
    'key', p_key, 'until', p_until, 'request', p_request
  )::text, p_reason);
  RETURN shown_allowance(p_id);
END $$;

CREATE OR REPLACE FUNCTION revoke(p_id text, p_actor text, p_reason text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  granted allowance;
BEGIN
  PERFORM lock_allowances();   -- so that nothing is covered by it afterwards
  SELECT * INTO granted FROM allowance WHERE id = p_id;
  IF granted.id IS NULL THEN
    PERFORM refuse('unknown_allowance', jsonb_build_object('name', p_id, 'known', (
      SELECT coalesce(jsonb_agg(id ORDER BY seq), '[]') FROM allowance WHERE revoked_at IS NULL
    )));
  ELSIF granted.revoked_at IS NULL THEN
    UPDATE allowance SET revoked_at = now WHERE id = p_id;
    PERFORM enter_allowance(now, 'revoke', NULL, p_id, 0, 0, granted.project);
    PERFORM administer(now, p_actor, 'revoke', p_id, '{"revoked":false}', '{"revoked":true}', p_reason);
  END IF;
  RETURN shown_allowance(p_id);
END $$;

CREATE OR REPLACE FUNCTION ask(
  p_id text, p_project text, p_amount bigint, p_currency text, p_budgets text[], p_key text, p_actor text, p_reason text
) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  asked allowance_request;
BEGIN
  SELECT * INTO asked FROM allowance_request WHERE id = p_id;
  IF asked.id IS NULL THEN   -- otherwise the same call again, because its response was lost
    INSERT INTO allowance_request (id, project, amount, currency, budgets, key, actor, reason, created_at)
    VALUES (p_id, p_project, p_amount, p_currency, p_budgets, p_key, p_actor, p_reason, now) RETURNING * INTO asked;
    PERFORM administer(now, p_actor, 'ask', p_id, NULL, jsonb_build_object(
      'project', p_project, 'amount', trim_scale(from_nanos(p_amount))::text, 'currency', p_currency,
      'budgets', to_jsonb(p_budgets), 'key', p_key
    )::text, p_reason);
  END IF;
  RETURN shown_request(asked);
END $$;

CREATE OR REPLACE FUNCTION decline(p_request text, p_actor text, p_reason text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  asked jsonb := locked_request(p_request);
BEGIN
  IF asked->>'allowance' IS NOT NULL THEN
    PERFORM refuse('granted_not_declined', jsonb_build_object('request', p_request, 'allowance', asked->'allowance'));
  ELSIF asked->>'declined' IS NULL THEN
    PERFORM administer(now, p_actor, 'decline', p_request, '{"declined":false}', '{"declined":true}', p_reason);
  END IF;
  RETURN locked_request(p_request);
END $$;

CREATE OR REPLACE FUNCTION allowances() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT to_jsonb(allowance) - 'seq' FROM allowance ORDER BY seq
$$;

CREATE OR REPLACE FUNCTION allowance_requests() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT shown_request(allowance_request) FROM allowance_request ORDER BY seq
$$;
