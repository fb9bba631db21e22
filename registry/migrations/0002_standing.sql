-- Each kiosk's chain: one record for each of its numbers, rejected ones too.
CREATE TABLE links (
    kiosk text COLLATE "C",
    sequence bigint,
    record bytea NOT NULL,
    link jsonb NOT NULL,
    PRIMARY KEY (kiosk, sequence)
);
DROP INDEX records_sequence;
ALTER TABLE rejections ADD sequence bigint NOT NULL DEFAULT 0; -- 0: nothing proves that it has one

-- What contradicts a kiosk's chain. It was rejected.
CREATE TABLE forks (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kiosk text COLLATE "C" NOT NULL,
    fork jsonb NOT NULL
);
CREATE INDEX forks_kiosk ON forks (kiosk, number);

-- When a kiosk was heard last.
CREATE TABLE heard (
    kiosk text COLLATE "C" PRIMARY KEY,
    at timestamptz NOT NULL
);

-- What became of DIDs beside revocation: replacement, and the cancel code.
ALTER TABLE records ADD did text COLLATE "C" NOT NULL DEFAULT ''; -- that it is about; empty: none
ALTER TABLE holders ADD replaced_by bytea, ADD cancelled text NOT NULL DEFAULT '';
CREATE TABLE codes (
    hash bytea PRIMARY KEY,
    did text COLLATE "C" NOT NULL,
    record bytea NOT NULL -- that brought the code
);
CREATE TABLE cancellations (
    did text COLLATE "C" PRIMARY KEY,
    state text NOT NULL,
    received timestamptz NOT NULL,
    due timestamptz NOT NULL,
    cancellation jsonb NOT NULL
);
CREATE INDEX cancellations_due ON cancellations (due) WHERE state = 'suspended';
CREATE TABLE cancel_attempts ( -- one row: every code writes
    one bool PRIMARY KEY DEFAULT true CHECK (one),
    attempts bigint NOT NULL
);
INSERT INTO cancel_attempts (attempts) VALUES (0);

ALTER TABLE policies ADD since timestamptz NOT NULL DEFAULT now();
ALTER TABLE registry ADD outcomes bigint NOT NULL DEFAULT 0; -- the vault's that was seen last
