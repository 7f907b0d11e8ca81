-- Moves a reservation from reserved to dispatching, for exactly one caller. That caller may repeat the call.
CREATE OR REPLACE FUNCTION dispatch(p_id text, p_token text, p_doubtful_after interval)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  now timestamptz := begin_verb();
  kept reservation := locked(ARRAY[p_id]);
  refusal jsonb;
BEGIN
  PERFORM require_interval(p_doubtful_after);
  IF kept.dispatch_token = p_token THEN
    RETURN shown(kept, now);
  END IF;
  IF kept.state = 'reserved' AND EXISTS (SELECT FROM frozen) THEN
    refusal := frozen_refusal(ARRAY(
      SELECT budget FROM reservation_line AS line JOIN bucket ON bucket.id = line.bucket WHERE reservation = p_id
      UNION SELECT name FROM unnest(matching(kept.labels))   -- those that were added later too
    ));
    IF refusal IS NOT NULL THEN
      PERFORM give_back(p_id, 'spending is frozen', 'release', now);
      RETURN jsonb_build_object('refusal', refusal);   -- commits the release
    END IF;
  END IF;
  IF kept.state = 'reserved' AND kept.deadline > now THEN
    UPDATE reservation
    SET state = 'dispatching', dispatched_at = now, dispatch_token = p_token,
      deadline = greatest(now + p_doubtful_after, created_at)   -- the clock may have stepped back since
    WHERE id = p_id RETURNING * INTO kept;
    PERFORM enter(now, 'dispatch', p_id, NULL, NULL, NULL, instant_text(kept.deadline));
    RETURN shown(kept, now);
  END IF;
  IF kept.state = 'reserved' THEN
    PERFORM expire(now, NULL);
    kept := reread(p_id);
  END IF;
  -- returns the refusal instead of raising it, so that an expiry is committed
  RETURN jsonb_build_object('refusal', jsonb_build_object('kind', 'dispatch', 'reservation', shown(kept, now)));
END $$;

-- Reserves and dispatches in one transaction. A reservation that is replayed is not dispatched.
CREATE OR REPLACE FUNCTION reserve_and_dispatch(
  p_id text, p_order jsonb, p_candidates jsonb, p_expires_after interval, p_token text, p_doubtful_after interval
) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = kling_pricing, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  reserved jsonb := reserve(p_id, p_order, p_candidates, p_expires_after);
  dispatched jsonb;
BEGIN
  -- `replayed` is false if this call is repeated because its response was lost
  IF NOT reserved ? 'candidate' AND coalesce((reserved->'replayed')::boolean, true) THEN
    RETURN reserved;
  END IF;
  dispatched := dispatch(p_id, p_token, p_doubtful_after);
  IF dispatched ? 'refusal' THEN
    RETURN dispatched;
  END IF;
  RETURN reserved || jsonb_build_object('dispatched', dispatched);
END $$;
