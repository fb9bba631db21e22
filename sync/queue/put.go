package queue

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Put keeps item: when it returns nil the record survives any power cut after
// that instant. Putting the same record again is harmless; ErrConflict is
// another record under the id of one. Records that are put at the same time share
// the waiting for the disk.
func (q *Queue) Put(ctx context.Context, item Item) error {
	if len(item.Data) == 0 || len(item.Data) > MaxData || len(item.Head) > MaxHead {
		return ErrSize
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	p := &putting{spooled: spooled{Item: item, digest: sha256.Sum256(item.Data)}, turn: make(chan struct{}, 1)}
	if !q.arrivals.come(p) {
		<-p.turn
	}
	if !p.done {
		q.arrivals.linger()
		q.mu.Lock()
		group := q.arrivals.take()
		start := time.Now()
		q.putGroup(group) // p is the first of them
		q.mu.Unlock()
		q.arrivals.answer(group, time.Since(start))
	}
	return p.err
}

// putting is a record of which a caller of Put waits: for another to have put it,
// or for his turn to put all that have arrived.
type putting struct {
	spooled
	turn chan struct{}
	done bool
	err  error
}

// arrivals are the callers of Put. One of them at a time has the turn.
type arrivals struct {
	mu       sync.Mutex
	queue    []*putting // whose record nobody has begun to put
	turn     bool       // somebody has it, and will pass it on
	want     int        // how many are worth a moment's waiting
	enough   chan struct{}
	patience time.Duration
}

// come says whether p has the turn at once.
func (a *arrivals) come(p *putting) (turn bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = append(a.queue, p)
	if a.enough != nil && len(a.queue) >= a.want {
		close(a.enough)
		a.enough = nil
	}
	turn = !a.turn
	a.turn = true
	return turn
}

// linger waits a moment for those that have just been answered: callers who put one
// record after another would else fall into groups that wait for each other's disk. A
// lone caller waits for nobody.
func (a *arrivals) linger() {
	a.mu.Lock()
	var enough chan struct{}
	if len(a.queue) < a.want {
		enough = make(chan struct{})
		a.enough = enough
	}
	patience := a.patience
	a.mu.Unlock()
	if enough == nil {
		return
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-enough:
	case <-timer.C:
		a.mu.Lock()
		a.enough = nil
		a.mu.Unlock()
	}
}

// take takes as many as one write takes.
func (a *arrivals) take() []*putting {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, size := 0, 0
	for ; n < len(a.queue); n++ {
		if size += frameSize(a.queue[n].spooled); n > 0 && size > segmentSize {
			break
		}
	}
	group := a.queue[:n:n]
	a.queue = a.queue[n:]
	return group
}

// answer ends the waiting of those whose records were put, which took so long, and
// passes the turn on.
func (a *arrivals) answer(group []*putting, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.want, a.patience = len(a.queue)+len(group), took/4
	if a.turn = len(a.queue) > 0; a.turn {
		a.queue[0].turn <- struct{}{}
	}
	for _, p := range group {
		p.done = true
		p.turn <- struct{}{}
	}
}

// putGroup puts records that have come together, each with its own outcome.
func (q *Queue) putGroup(group []*putting) {
	first := map[ID]*putting{}
	var fresh, again []*putting
	for _, p := range group {
		if first[p.ID] != nil {
			again = append(again, p)
			continue
		}
		first[p.ID] = p
		if known, err := q.knows(p.spooled); known || err != nil {
			p.err = err
			continue
		}
		fresh = append(fresh, p)
	}
	if err := q.putAll(fresh); clean(err) && len(fresh) > 1 {
		for _, p := range fresh { // there may be room for some
			p.err = q.putAll([]*putting{p})
		}
	} else {
		for _, p := range fresh {
			p.err = err
		}
	}
	for _, p := range again {
		if known, err := q.knows(p.spooled); known || err != nil {
			p.err = err
		} else {
			p.err = first[p.ID].err
		}
	}
}

// knows says that a record is here already.
func (q *Queue) knows(s spooled) (bool, error) {
	if q.fatal != nil {
		return false, q.fatal
	}
	old, err := q.untold[s.ID], error(nil)
	if old.Digest == nil {
		old, err = q.here(s.ID)
	}
	if errors.Is(err, ErrUnknown) {
		var e ending
		e, err = q.history.find(s.ID)
		old = e.Entry
	}
	switch {
	case errors.Is(err, ErrUnknown), errors.Is(err, errHistory):
		return false, nil // the registry knows what a damaged history has forgotten
	case err == nil && !bytes.Equal(old.Digest, s.digest[:]):
		return false, ErrConflict
	}
	return err == nil, err
}

// putAll puts records that are not here yet, all of them or none. They are kept when
// both copies are; the database is told later, of many at once.
func (q *Queue) putAll(puts []*putting) error {
	if q.fatal != nil || len(puts) == 0 {
		return q.fatal
	}
	if len(q.untold)+len(puts) > q.opts.untoldAt {
		if err := q.tellLocked(); err != nil {
			return err
		}
	}
	now := q.opts.Clock().UTC()
	records := make([]spooled, len(puts))
	seq := q.seq
	for i, p := range puts {
		seq++
		records[i] = p.spooled
		records[i].seq, records[i].put = seq, now
	}
	places, err := q.spool.add(records)
	if err != nil {
		return q.failed("spool", err)
	}
	q.seq = seq
	for i, r := range records {
		q.untold[r.ID] = r.entry(places[i])
		if r.Head != nil {
			q.untoldHead = dbHead{r.seq, r.Head}
		}
	}
	q.behind.Store(true)
	return nil
}

// tell tells the database of all records that have been put: whoever asks it does so
// first.
func (q *Queue) tell() error {
	if !q.behind.Load() { // so it stays for who has the lock
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.tellLocked()
}

// tellLocked is tell, under the lock. When there is no room for it the records wait in
// the spool.
func (q *Queue) tellLocked() error {
	if len(q.untold) == 0 || q.fatal != nil {
		return q.fatal
	}
	entries := slices.SortedFunc(maps.Values(q.untold), func(a, b Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	put := func() error {
		return q.commit(func(tx *bolt.Tx) error {
			if err := q.setSequences(tx); err != nil {
				return err
			}
			if q.untoldHead.head != nil {
				if err := writeHead(tx, q.untoldHead); err != nil {
					return err
				}
			}
			var t tally
			for _, e := range entries {
				if err := putEntry(tx, &t, e); err != nil {
					return err
				}
			}
			return t.write(tx)
		})
	}
	err := put()
	if clean(err) && q.unload() {
		err = put()
	}
	if err != nil {
		return q.failed("put", err)
	}
	if q.untoldHead.head != nil {
		q.headSeq = q.untoldHead.seq
	}
	clear(q.untold)
	q.untoldHead = dbHead{}
	q.behind.Store(false)
	return nil
}

// setSequences keeps the last numbers given, to records and to files.
func (q *Queue) setSequences(tx *bolt.Tx) error {
	return errors.Join(tx.Bucket(bucketIDs).SetSequence(q.seq), tx.Bucket(bucketSpool).SetSequence(q.spool.last))
}

// entry is that of a queued record.
func (r spooled) entry(at place) Entry {
	return Entry{ID: r.ID, State: Queued, Seq: r.seq, Size: len(r.Data), Digest: bytes.Clone(r.digest[:]), Put: r.put, at: at}
}
