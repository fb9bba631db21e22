package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/backup"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
)

// backupKind is what a registry's backups call themselves.
const backupKind = "registry"

// Backup copies the registry's directory into to while it serves, and its private
// keys into keys unless that is empty. snapshot writes the store as it is at one
// moment; it is nil if the store is a database that is backed up by its own means,
// beforehand.
//
// The store comes first and the log after it, so that the copy of the log holds
// every leaf whose receipt the copy of the store has: the log may be ahead, never
// behind. The policy in force names the key that signs.
func Backup(ctx context.Context, dir string, p policy.Signed, to, keys string, snapshot func(context.Context, io.Writer) error, now time.Time) (backup.Manifest, error) {
	pub, err := ReadPublic(dir)
	if err != nil {
		return backup.Manifest{}, err
	}
	signer, err := verdictKey(dir, p)
	if err != nil {
		return backup.Manifest{}, err
	}
	s := backup.Source{Kind: backupKind, Name: pub.Origin, Dir: dir, Leave: []string{fileStore}, Signer: signer, Now: now,
		Apart: dirLog, CopyApart: func(ctx context.Context, to string) error {
			_, err := CopyLog(ctx, LogDir(filepath.Join(dir, dirLog)), to, p.Policy().Log().Unwitnessed())
			return err
		}}
	if snapshot != nil {
		s.Parts = []backup.Part{{Path: fileStore, Write: snapshot}}
	}
	m, err := backup.Write(ctx, s, to, keys)
	if err != nil {
		return m, err
	}
	// What a disk has taken is only known when it is read.
	return m, m.Verify(to)
}

// RestoreOptions say what a registry is put back from.
type RestoreOptions struct {
	From   string        // made by Backup
	Keys   string        // likewise
	Dir    string        // where it is to be; empty or not there
	Policy policy.Signed // names the keys that sign backups
	// Log is the newest copy of the log; the backup's own if nil.
	Log LogSource
	// Seen are checkpoints that others have: kiosks, witnesses, auditors. The log
	// must continue each of them, or it would contradict what they saw.
	Seen [][]byte
}

// Restore puts a registry back. Nothing is there afterwards unless all of it was
// verified: the backup by its manifest, the log by its checkpoint and those that
// were seen, the store by the log. The report says what is missing of what was
// logged after the backup was made.
func Restore(ctx context.Context, o RestoreOptions) (Report, error) {
	var report Report
	p := o.Policy.Policy()
	m, err := backup.Open(o.From, backupKind, p.VerdictKeys.Registry)
	if err != nil {
		return report, err
	}
	if m.Name != p.LogOrigin {
		return report, fmt.Errorf("the backup is of %s and the policy of %s: %w", m.Name, p.LogOrigin, ErrPolicy)
	}
	if err := m.Verify(o.From); err != nil {
		return report, err
	}
	log := p.Log().Unwitnessed() // witnesses have seen what comes of it
	var seen []checkpoint.Checkpoint
	for _, b := range o.Seen {
		head, err := log.Open(b)
		if err != nil {
			return report, fmt.Errorf("a checkpoint that was seen: %w", err)
		}
		seen = append(seen, head)
	}
	if o.Log == nil {
		o.Log = LogDir(filepath.Join(o.From, dirLog))
	}
	err = keyfile.NewDir(o.Dir, func(dir string) error {
		if err := m.Restore(ctx, o.From, o.Keys, dir); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(dir, dirKiosks), 0o700); err != nil {
			return err
		}
		copied := filepath.Join(dir, dirLog)
		if _, err := CopyLog(ctx, o.Log, copied, log, seen...); err != nil {
			return err
		}
		file := filepath.Join(dir, fileStore)
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			return nil // a database elsewhere: see Check
		}
		st, err := openBolt(file)
		if err != nil {
			return err
		}
		report, err = examine(ctx, st, LogDir(copied), log)
		return errors.Join(err, st.Close(), report.Err())
	})
	if err != nil {
		return report, fmt.Errorf("put registry back: %w", err)
	}
	return report, nil
}

// Report is what a comparison of a store with its log finds.
type Report struct {
	Records  uint64 `json:"records"`  // held
	Receipts uint64 `json:"receipts"` // of them in the log, with a receipt
	Waiting  uint64 `json:"waiting"`  // of them yet to be logged
	LogSize  uint64 `json:"log_size"`
	// Unknown are leaves of records that are not held: they came after the backup was
	// made. Their kiosks have receipts; their sequence numbers show as gaps.
	Unknown uint64 `json:"unknown"`
	// Damaged are records whose bytes, receipt or place in the log do not fit: at
	// most 100.
	Damaged []api.ID `json:"damaged"`
}

// ErrDamaged means that what is stored is not what was taken on.
var ErrDamaged = errors.New("records in the store are damaged, or are not in the log where their receipts say")

// Err is ErrDamaged if anything that is held is wrong.
func (r Report) Err() error {
	if len(r.Damaged) > 0 {
		return fmt.Errorf("%w: %d", ErrDamaged, len(r.Damaged))
	}
	return nil
}

// String is the report in a line for people.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d records, %d with a receipt, %d waiting for the log of %d leaves", r.Records, r.Receipts, r.Waiting, r.LogSize)
	if r.Unknown > 0 {
		fmt.Fprintf(&b, "; %d leaves are of records that are not held", r.Unknown)
	}
	for _, id := range r.Damaged {
		fmt.Fprintf(&b, "\ndamaged: %s", id)
	}
	return b.String()
}
