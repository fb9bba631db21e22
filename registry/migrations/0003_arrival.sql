-- The order in which records were taken on: one that rests on another has a higher
-- number. Numbers may be missing.
ALTER TABLE records ADD arrival bigint GENERATED ALWAYS AS IDENTITY;
CREATE UNIQUE INDEX records_arrival ON records (arrival);
