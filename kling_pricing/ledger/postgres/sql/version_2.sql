-- Version 2: a quote under a contract keeps its total at the published prices.
ALTER TABLE reservation ADD COLUMN list_total bigint CHECK (list_total >= 0);
DROP FUNCTION IF EXISTS unmatched();     -- it is `unclaimed` now
DROP FUNCTION IF EXISTS differences();   -- `verification` is in its place
