-- Version 2: reservations store the quote at the published prices if there is a contract, the minimum of a range, the
-- values of units and the currency of the account. Observations store all parts of a charge.
ALTER TABLE reservation ADD COLUMN list_total bigint CHECK (list_total >= 0);
ALTER TABLE reservation ADD COLUMN minimum bigint CHECK (minimum >= 0);
ALTER TABLE reservation ADD COLUMN pack_units jsonb;
ALTER TABLE reservation ADD COLUMN account_currency text;
ALTER TABLE observation ADD COLUMN charge jsonb;
UPDATE observation
SET charge = jsonb_build_object('parts', jsonb_build_array(jsonb_build_array(trim_scale(amount)::text, amount_unit)))
WHERE amount IS NOT NULL AND amount_unit IS NOT NULL;
DROP INDEX observation_once;
ALTER TABLE observation DROP COLUMN amount;
ALTER TABLE observation DROP COLUMN amount_unit;
CREATE UNIQUE INDEX observation_once ON observation
  (provider, task_id, coalesce(state, ''), coalesce(md5(charge::text), ''));
DROP FUNCTION IF EXISTS observe(text, text[], text, text, text, numeric, text, numeric, text);
DROP FUNCTION IF EXISTS take_up(text, reservation, text, numeric, text, timestamptz);
DROP FUNCTION IF EXISTS unmatched();     -- now `unclaimed`
DROP FUNCTION IF EXISTS differences();   -- replaced by `verification`
