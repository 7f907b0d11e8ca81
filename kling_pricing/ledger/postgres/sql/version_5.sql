-- Version 5: reservations keep the account from which they were sent, and the journal keeps the amounts of settlements.

-- Accounts: null stands for the account with the provider's name, which earlier versions had.
ALTER TABLE reservation ADD COLUMN account text COLLATE "C";
ALTER TABLE reservation ADD CONSTRAINT account_is_a_name CHECK (
  account <> provider AND length(account) BETWEEN 1 AND 200 AND account !~ '[\u0001-\u001f\u007f-\u009f]'
) NOT VALID;
CREATE INDEX reservation_account ON reservation (provider, account) WHERE account IS NOT NULL;
DROP FUNCTION IF EXISTS entries();
-- Books belong to an account: `books` is their name, which is the provider's for the account of that name.
ALTER TABLE book_statement RENAME COLUMN provider TO books;
ALTER TABLE book_fact RENAME COLUMN provider TO books;
ALTER TABLE closed_month RENAME COLUMN provider TO books;
ALTER TABLE book_seal RENAME COLUMN provider TO books;
DROP FUNCTION IF EXISTS books_known(text);
DROP FUNCTION IF EXISTS books(text);
DROP FUNCTION IF EXISTS facts_of(text);
DROP FUNCTION IF EXISTS begin_books(text, text, jsonb, jsonb);
DROP FUNCTION IF EXISTS add_facts(text, text, jsonb);
DROP FUNCTION IF EXISTS books_sealed(text, book_seal, book_seal);
DROP FUNCTION IF EXISTS books_present(text);
DROP FUNCTION IF EXISTS seal_books(text);

-- The amount of a settlement, in the currency of the quote, so that reports can look back.
ALTER TABLE journal ADD COLUMN billed bigint;
DROP FUNCTION IF EXISTS enter(timestamptz, text, text, bigint[], bigint[], bigint[], text);
