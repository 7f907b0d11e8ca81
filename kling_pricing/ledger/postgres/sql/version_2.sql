-- Version 2: reservations store the quote at the published prices if there is a contract.
ALTER TABLE reservation ADD COLUMN list_total bigint CHECK (list_total >= 0);
DROP FUNCTION IF EXISTS unmatched();     -- now `unclaimed`
DROP FUNCTION IF EXISTS differences();   -- replaced by `verification`
