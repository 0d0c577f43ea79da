-- A table that refuses what an old holder writes.
--
-- Every session says which epoch it works under: `SET firedrill.epoch = '7'`, or on connecting, `PGOPTIONS='-c firedrill.epoch=7'`.
-- The newest epoch that ever wrote is kept in `fence`; a statement of an older one is refused, and so is one that says none.

CREATE TABLE fence (
    singleton text PRIMARY KEY,
    epoch     bigint NOT NULL
);

CREATE FUNCTION refuse_old_epochs() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    mine   bigint := nullif(current_setting('firedrill.epoch', true), '')::bigint;
    newest bigint;
BEGIN
    IF mine IS NULL THEN
        RAISE EXCEPTION 'no epoch: SET firedrill.epoch before writing to %', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- The row stays locked until this transaction ends: a newer epoch waits for what an older one has begun, and then shuts it out.
    INSERT INTO fence AS f (singleton, epoch) VALUES (TG_ARGV[0], mine)
        ON CONFLICT (singleton) DO UPDATE SET epoch = greatest(f.epoch, excluded.epoch)
        RETURNING epoch INTO newest;
    IF mine < newest THEN
        RAISE EXCEPTION 'epoch % of % is over: % is in force', mine, TG_ARGV[0], newest USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END
$$;

-- What the singleton writes. Put the same trigger on every table of it.
CREATE TABLE ledger (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entry text NOT NULL
);

CREATE TRIGGER fenced BEFORE INSERT OR UPDATE OR DELETE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_old_epochs('shop/consumer');
