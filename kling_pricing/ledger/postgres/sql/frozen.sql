-- Freezes and thaws budgets or all spending, for the administrator. The journal keeps who did so, and why.
-- The scope of a freeze is 'all', or 'budget:' and the name of a budget.

-- Refuses a name that no budget in force has.
CREATE OR REPLACE FUNCTION require_budgets(p_budgets text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  unknown text;
BEGIN
  SELECT name INTO unknown FROM unnest(p_budgets) AS name WHERE name NOT IN (SELECT budget.name FROM budget) LIMIT 1;
  IF unknown IS NOT NULL THEN
    PERFORM refuse('unknown_budget', jsonb_build_object(
      'name', unknown, 'known', (SELECT coalesce(jsonb_agg(name ORDER BY file_order), '[]') FROM budget)
    ));
  END IF;
END $$;

CREATE OR REPLACE FUNCTION shown_freeze(p_frozen frozen) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object(
    'scope', p_frozen.scope, 'actor', p_frozen.actor, 'reason', p_frozen.reason, 'frozen_at', p_frozen.frozen_at
  )
$$;

-- Freezes budgets, or all spending if `p_budgets` is null. Returns their freezes. No verb runs meanwhile, so nothing is
-- admitted or dispatched afterwards.
CREATE OR REPLACE FUNCTION freeze_budgets(p_budgets text[], p_actor text, p_reason text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC'
SET lock_timeout = '5s' AS $$   -- every verb waits behind it meanwhile; see LOCK_WAIT_S
DECLARE
  now timestamptz;
  name text;
BEGIN
  LOCK TABLE budget_revision IN EXCLUSIVE MODE;
  now := current_instant();
  PERFORM require_budgets(p_budgets);
  FOREACH name IN ARRAY coalesce(p_budgets, ARRAY[NULL::text]) LOOP
    INSERT INTO frozen (scope, actor, reason, frozen_at)
    VALUES (coalesce('budget:' || name, 'all'), p_actor, p_reason, now) ON CONFLICT DO NOTHING;
    IF FOUND THEN
      PERFORM enter_freeze(now, 'freeze', name, p_actor, p_reason);
    END IF;
  END LOOP;
  RETURN (
    SELECT jsonb_agg(shown_freeze(frozen) ORDER BY frozen_at, scope) FROM frozen
    WHERE scope = ANY (scopes_of(p_budgets))
  );
END $$;

-- Ends the freezes of budgets, or that of all spending if `p_budgets` is null. Returns the freezes that it ended.
CREATE OR REPLACE FUNCTION thaw_budgets(p_budgets text[], p_actor text, p_reason text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  ended frozen;
  freezes jsonb := '[]';
BEGIN
  PERFORM require_budgets(ARRAY(
    SELECT name FROM unnest(p_budgets) AS name WHERE 'budget:' || name NOT IN (SELECT scope FROM frozen)
  ));
  FOR ended IN DELETE FROM frozen WHERE scope = ANY (scopes_of(p_budgets)) RETURNING * LOOP
    freezes := freezes || shown_freeze(ended);
    PERFORM enter_freeze(now, 'thaw', nullif(substr(ended.scope, 8), ''), p_actor, p_reason);
  END LOOP;
  RETURN freezes;
END $$;

CREATE OR REPLACE FUNCTION scopes_of(p_budgets text[]) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN p_budgets IS NULL THEN ARRAY['all'] ELSE ARRAY(SELECT 'budget:' || name FROM unnest(p_budgets) AS name) END
$$;

CREATE OR REPLACE FUNCTION enter_freeze(p_now timestamptz, p_verb text, p_budget text, p_actor text, p_reason text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM enter(
    p_now, p_verb || CASE WHEN p_budget IS NULL THEN '' ELSE '_budget' END, NULL, NULL, NULL, NULL,
    coalesce(p_budget || ': ', '') || p_actor || ': ' || p_reason
  );
  PERFORM administer(
    p_now, p_actor, p_verb, coalesce(p_budget, 'all'), jsonb_build_object('frozen', p_verb = 'thaw')::text,
    jsonb_build_object('frozen', p_verb = 'freeze')::text, p_reason
  );
END $$;

CREATE OR REPLACE FUNCTION freezes() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
  SELECT shown_freeze(frozen) FROM frozen ORDER BY scope <> 'all', frozen_at, scope
$$;

-- Returns the refusal of a request that these budgets match, or null if no freeze concerns it.
CREATE OR REPLACE FUNCTION frozen_refusal(p_budgets text[]) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('kind', 'frozen', 'freeze', shown_freeze(frozen)) FROM frozen
  WHERE scope = 'all' OR scope = ANY (scopes_of(p_budgets)) ORDER BY scope <> 'all', frozen_at, scope LIMIT 1
$$;
