-- Access rights. No role but the owner may do anything until it is granted the verbs.
REVOKE ALL ON SCHEMA kling_pricing FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA kling_pricing FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA kling_pricing FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA kling_pricing FROM PUBLIC;

-- Lets a role use a guard: the verbs, and the functions that read. The role cannot access tables, replace budgets, set
-- opening balances, or create functions that run with the owner's rights.
CREATE OR REPLACE FUNCTION grant_guard(p_role text) RETURNS void LANGUAGE plpgsql
SET search_path = kling_pricing, pg_temp AS $$
DECLARE
  verb regprocedure;
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA kling_pricing TO %I', p_role);
  FOREACH verb IN ARRAY ARRAY[
    'reserve(text, jsonb, jsonb, interval)',
    'decide(jsonb, jsonb, jsonb)',
    'dispatch(text, text, interval)',
    'reserve_and_dispatch(text, jsonb, jsonb, interval, text, interval)',
    'bind(text, text[], text, jsonb)',
    'doubt(text[], text)',
    'release(text[], text, text[])',
    'settle(text, text[], numeric, text)',
    'settle_all(text, text[], numeric[], text)',
    'observe(text, text[], text, text, text, jsonb, numeric, text, jsonb, jsonb)',
    'record_spend(text, jsonb, jsonb, text, timestamptz)',
    'count_unpriced(text, jsonb)',
    'unpriced(date, date)',
    'installed()',
    'one_reservation(text[])',
    'reservations(text, text, boolean, timestamptz, timestamptz)',
    'reservation_page(text, text, text, boolean, text, bigint)',
    'reservation_page(text, text, text, boolean, text, bigint, timestamptz, timestamptz)',
    'unsettled()',
    'release_expired()',
    'sent(text, timestamptz)',
    'accounts()',
    'book_names()',
    'books(text)',
    'facts_of(text)',
    'begin_books(text, text, jsonb, jsonb)',
    'add_facts(text, text, jsonb)',
    'seal_books(text)',
    'note_settlement(text, text, text, text)',
    'settle_by(text, text[], numeric, text, text, text)',
    'record_by(text, jsonb, jsonb, text, timestamptz, text, text)',
    'unclaimed()',
    'windows(timestamptz)',
    'calendar_ends()',
    'buckets(timestamptz)',
    'buckets_of(text, timestamptz)',
    'bucket_histories(timestamptz, timestamptz)',
    'bucket_hours(timestamptz, timestamptz)',
    'entries(timestamptz, timestamptz)',
    'projects()',
    'administrative_actions()',
    'outbox(bigint, bigint)',
    'newest_alerts(bigint, bigint)',
    'receivers()',
    'mark_delivered(text, bigint)',
    'mark_failed(text, text, interval)',
    'resume_receiver(text)',
    'raise_alerts(jsonb, interval)',
    'count_refusals(text, jsonb)',
    'refusals(date, date)',
    'begun_at()',
    'openings(timestamptz)',
    'take_lease(text, text, interval)',
    'end_lease(text, text)',
    'freezes()',
    'ask(text, text, bigint, text, text[], text, text, text)',
    'allowances()',
    'allowance_requests()',
    'waived(timestamptz, timestamptz)',
    'cap_overlays()',
    'access_keys()',
    'find_access_key(text)',
    'mark_key_used(text)',
    'begin_session(text, text, interval)',
    'find_session(text, interval)',
    'keep_session(text)',
    'end_session(text)',
    'entries_of(text)',
    'observations_of(text, text)',
    'verification(text, bigint, bigint)',
    'verification_horizon()',
    'verification_begin(bigint, bigint)',
    'facts()',
    'require_version(integer)'
  ]::regprocedure[] LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', verb, p_role);
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION grant_guard(text) FROM PUBLIC;
