// Package queue keeps opaque records durably until the registry has them.
package queue

import (
	"context"
	"errors"
	"time"
)

// ID names a record. The caller supplies it; the queue knows nothing of records.
type ID [32]byte

// Item is a record to keep. Head is an opaque value of the caller's that is
// stored in the same transaction; nil leaves the old one.
type Item struct {
	ID   ID
	Data []byte
	Head []byte
}

// Errors of the queue.
var (
	ErrFull    = errors.New("the disk is full: make room before the next enrollment")
	ErrLocked  = errors.New("another agent uses this queue: stop it first")
	ErrDamaged = errors.New("the queue is damaged: call staff")
)

// Stats counts what is here.
type Stats struct {
	Waiting     int
	Oldest      time.Time
	Quarantined int
	Receipted   int
	Bytes       int64
}

// Queue is an open queue.
type Queue struct{}

// Put keeps item: when it returns nil the record survives any power cut.
func (q *Queue) Put(ctx context.Context, item Item) error { return ErrDamaged }

// Head returns the caller's value, nil when none was stored.
func (q *Queue) Head(ctx context.Context) ([]byte, error) { return nil, ErrDamaged }

// SetHead stores the caller's value durably.
func (q *Queue) SetHead(ctx context.Context, head []byte) error { return ErrDamaged }

// Stats counts what is here.
func (q *Queue) Stats(ctx context.Context) (Stats, error) { return Stats{}, ErrDamaged }

// Room says, before an enrollment begins, whether its record will fit: ErrFull.
func (q *Queue) Room(ctx context.Context) error { return ErrDamaged }
