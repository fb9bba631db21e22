-- What a registry remembers. Record ids, thumbprints and digests are 32 bytes.
-- There are no foreign keys: every transaction writes all that belongs together,
-- nothing is ever deleted but from outboxes and sessions, and each check would
-- cost every record a look-up.

-- Whose database this is: one row.
CREATE TABLE registry (
    origin text PRIMARY KEY,
    scanned bigint NOT NULL DEFAULT 0 -- size of the log up to which every leaf is accounted for
);

-- Who has a role: the term counts its holders. A holder of an earlier term is refused.
CREATE TABLE roles (
    name text PRIMARY KEY,
    term bigint NOT NULL DEFAULT 0,
    since timestamptz
);
INSERT INTO roles (name) VALUES ('log'), ('vault');

CREATE TABLE policies (
    digest bytea PRIMARY KEY,
    signed bytea NOT NULL
);

-- Records as they came. Ciphertext and signatures do not compress.
CREATE TABLE records (
    id bytea PRIMARY KEY CHECK (length(id) = 32),
    kiosk text COLLATE "C" NOT NULL, -- who signed it; empty: none
    sequence bigint,                 -- of that kiosk; null: none
    sender text COLLATE "C" NOT NULL, -- who may ask for it; empty: any kiosk
    received timestamptz NOT NULL,
    jws bytea NOT NULL
);
ALTER TABLE records ALTER jws SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX records_sequence ON records (kiosk, sequence) WHERE sequence IS NOT NULL;

-- Apart from the records: they identify tokens.
CREATE TABLE attestations (
    record bytea PRIMARY KEY,
    evidence bytea NOT NULL
);
ALTER TABLE attestations ALTER evidence SET STORAGE EXTERNAL;

-- Holders' keys by RFC 7638 thumbprint, each in one record only.
CREATE TABLE keys (
    thumbprint bytea PRIMARY KEY,
    record bytea NOT NULL
);

CREATE TABLE holders (
    did text COLLATE "C" PRIMARY KEY,
    record bytea NOT NULL, -- that brought it
    ended_by bytea         -- the record that ended it
);

-- Enrollments by officer and day.
CREATE TABLE approvals (
    officer bytea,
    day text COLLATE "C",
    enrollments bigint NOT NULL,
    PRIMARY KEY (officer, day)
);

-- Outbox of the log role, and what becomes of it.
CREATE TABLE unlogged (
    record bytea PRIMARY KEY,
    blind bytea NOT NULL
);
CREATE TABLE receipts (
    record bytea PRIMARY KEY,
    receipt bytea NOT NULL
);
ALTER TABLE receipts ALTER receipt SET STORAGE EXTERNAL;

-- Outbox of the vault role, and what becomes of it.
CREATE TABLE unopened (
    record bytea PRIMARY KEY
);
CREATE TABLE verdicts (
    record bytea PRIMARY KEY,
    status text NOT NULL,
    code text NOT NULL,
    verdict text NOT NULL
);

-- What a kiosk sent and is refused for good: for that kiosk alone.
CREATE TABLE rejections (
    sender text COLLATE "C",
    record bytea,
    status text NOT NULL,
    code text NOT NULL,
    verdict text NOT NULL,
    PRIMARY KEY (sender, record)
);

-- The register: a Kiosk and a Provision in JSON.
CREATE TABLE kiosks (
    id text COLLATE "C" PRIMARY KEY,
    kiosk jsonb NOT NULL
);
CREATE TABLE provisions (
    id text COLLATE "C" PRIMARY KEY,
    provision jsonb NOT NULL
);
CREATE TABLE sessions (
    id bytea PRIMARY KEY,
    made bigint GENERATED ALWAYS AS IDENTITY,
    kiosk text COLLATE "C" NOT NULL,
    ends timestamptz NOT NULL,
    session jsonb NOT NULL
);

-- What kiosks report of their officers.
CREATE TABLE activity (
    kiosk text COLLATE "C" PRIMARY KEY,
    counter bigint NOT NULL,
    reported timestamptz, -- null: not yet
    alarms jsonb NOT NULL
);
CREATE TABLE activity_counts (
    kiosk text COLLATE "C",
    day text COLLATE "C",
    officer bytea,
    reads bigint NOT NULL,
    enrollments bigint NOT NULL,
    PRIMARY KEY (kiosk, day, officer)
);
CREATE INDEX activity_counts_officer ON activity_counts (officer, day);
