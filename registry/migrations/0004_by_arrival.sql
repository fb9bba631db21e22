-- What hangs on a record is kept under the number of its arrival: numbers grow, so
-- that what is new goes to the end of each table and index. An id or a digest goes
-- to a random page, which after each checkpoint stands whole in the WAL: three of
-- them remain for each record, those that hold that nothing is there twice (id, DID,
-- cancel code). Rows are changed where they are; what lies out of line is not copied.
ALTER TABLE attestations DROP CONSTRAINT attestations_pkey, ADD arrival bigint;
UPDATE attestations a SET arrival = r.arrival FROM records r WHERE r.id = a.record;
ALTER TABLE attestations DROP record, ADD PRIMARY KEY (arrival);

ALTER TABLE unlogged DROP CONSTRAINT unlogged_pkey, ADD arrival bigint;
UPDATE unlogged u SET arrival = r.arrival FROM records r WHERE r.id = u.record;
ALTER TABLE unlogged DROP record, ADD PRIMARY KEY (arrival);

ALTER TABLE receipts DROP CONSTRAINT receipts_pkey, ADD arrival bigint;
UPDATE receipts p SET arrival = r.arrival FROM records r WHERE r.id = p.record;
ALTER TABLE receipts DROP record, ADD PRIMARY KEY (arrival);

ALTER TABLE unopened DROP CONSTRAINT unopened_pkey, ADD arrival bigint;
UPDATE unopened u SET arrival = r.arrival FROM records r WHERE r.id = u.record;
ALTER TABLE unopened DROP record, ADD PRIMARY KEY (arrival);

ALTER TABLE verdicts DROP CONSTRAINT verdicts_pkey, ADD arrival bigint;
UPDATE verdicts v SET arrival = r.arrival FROM records r WHERE r.id = v.record;
ALTER TABLE verdicts DROP record, ADD PRIMARY KEY (arrival);

-- The record says whose DID its code cancels.
ALTER TABLE codes ADD arrival bigint;
UPDATE codes c SET arrival = r.arrival FROM records r WHERE r.id = c.record;
ALTER TABLE codes DROP did, DROP record, ALTER arrival SET NOT NULL;

-- A DID is a did:key. That it is there once says that its key is. It is up to 730
-- bytes long, its SHA-256 is 32.
DROP TABLE keys;
ALTER TABLE holders DROP CONSTRAINT holders_pkey;
ALTER TABLE holders ALTER did TYPE bytea USING sha256(convert_to(did, 'UTF8')), ADD PRIMARY KEY (did);
