-- What the issuer of credentials keeps: see registry/issuer, store.go. Nothing in it
-- links a person's credentials.
CREATE TABLE issuer (
    kind text COLLATE "C",
    key bytea,
    value bytea NOT NULL,
    expires timestamptz, -- null: never
    PRIMARY KEY (kind, key)
);
CREATE INDEX issuer_expires ON issuer (expires) WHERE expires IS NOT NULL;

-- The credentials of a DID that ends, or is suspended, are to be revoked; one whose
-- suspension is lifted may collect anew.
CREATE FUNCTION end_credentials() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.ended_by IS NOT NULL OR NEW.replaced_by IS NOT NULL OR NEW.cancelled IN ('suspended', 'revoked') THEN
        INSERT INTO issuer (kind, key, value) SELECT 'ended', NEW.record, '\x01'
            WHERE NOT EXISTS (SELECT FROM issuer WHERE kind = 'closed' AND key = NEW.record)
            ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM issuer WHERE kind IN ('ended', 'closed') AND key = NEW.record;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER end_credentials AFTER UPDATE ON holders FOR EACH ROW
    WHEN (NEW.ended_by IS DISTINCT FROM OLD.ended_by OR NEW.replaced_by IS DISTINCT FROM OLD.replaced_by OR NEW.cancelled IS DISTINCT FROM OLD.cancelled)
    EXECUTE FUNCTION end_credentials();
