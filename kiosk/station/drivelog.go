package station

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"enrollkiosk/kiosk/wire"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
)

// What this kiosk has seen of the registry's public log leaves on the drive, and
// the registry's proof comes back beside the receipts: how the log has become what
// they are under. A proof that is missing, damaged or for another tree than was
// seen last proves nothing, and receipts count without it, for whoever has the drive
// can take it away; one that proves two faces of the log is the alarm that the
// network's would be, and none of its receipts is taken.

// ErrNoLogProof: nothing is wrong, but nothing is proved.
var ErrNoLogProof = errors.New("the drive does not prove that the log which its receipts are in continues the one that this kiosk has seen")

// writeSeen puts onto the drive what was seen last.
func writeSeen(c Config, d parcel.Drive, p policy.Policy) error {
	kept, err := checkpoint.ReadKept(c.in(logDir), p.Log())
	if err != nil || !kept.Valid() {
		return err
	}
	return d.Write(parcel.KioskName(c.Kiosk.ID, parcel.Seen), kept.Bytes())
}

// driveLog is the log's proof on a drive.
type driveLog struct {
	log    checkpoint.Log
	newest checkpoint.Checkpoint // not valid: there is no proof to go by
	proof  checkpoint.Proof
	split  string // it shows another face of the log
}

// openDriveLog reads the proof and follows it. why says why it proves nothing; the
// error is one of the line.
func openDriveLog(ctx context.Context, c Config, d parcel.Drive, p policy.Policy, l *line) (out driveLog, why error, err error) {
	out.log = p.Log()
	b, err := d.Read(parcel.KioskName(c.Kiosk.ID, parcel.Log))
	if errors.Is(err, fs.ErrNotExist) {
		return out, ErrNoLogProof, nil
	}
	if err == nil {
		out.proof, err = checkpoint.ParseProof(b)
	}
	var newest checkpoint.Checkpoint
	if err == nil {
		newest, err = out.log.Open([]byte(out.proof.Checkpoint))
	}
	if err != nil {
		return out, fmt.Errorf("%w: %w", ErrNoLogProof, err), nil
	}
	kept, err := checkpoint.ReadKept(c.in(logDir), out.log)
	if err != nil {
		return out, fmt.Errorf("%w: %w", ErrNoLogProof, err), nil
	}
	argument, err := json.Marshal(out.only(ctx, newest, kept.Size()))
	if err != nil {
		return out, nil, err
	}
	var a followed
	if err := l.ask(ctx, wire.Query{Kind: queryFollow, Argument: string(argument)}, &a); err != nil {
		return out, nil, err
	}
	switch out.split = a.Split; {
	case a.Split != "":
	case a.Unproved != "":
		return out, fmt.Errorf("%w: %s", ErrNoLogProof, a.Unproved), nil
	default:
		out.newest = newest
	}
	return out, nil, nil
}

// only is of the proof what is needed for one size, and for where keys ended.
func (g driveLog) only(ctx context.Context, newest checkpoint.Checkpoint, size uint64) checkpoint.Proof {
	p, err := checkpoint.Prove(ctx, g.proof, newest, append(g.log.Ends(), size)...)
	if err != nil { // it lacks something: whoever needs it finds out what
		return checkpoint.Proof{Checkpoint: g.proof.Checkpoint}
	}
	return p
}

// about is what the proof has to say about a receipt.
func (g driveLog) about(ctx context.Context, s api.RecordStatus) map[string][]byte {
	if !g.newest.Valid() || s.Receipt == "" {
		return nil
	}
	f, err := receipt.Verify([]byte(s.Receipt), g.log, s.ID)
	if err != nil {
		return nil // settle says so
	}
	return g.only(ctx, g.newest, f.Checkpoint().Size()).Tiles
}

// followed is the answer to queryFollow.
type followed struct {
	Split    string `json:"split,omitempty"`    // the log has two faces: evidence is kept
	Unproved string `json:"unproved,omitempty"` // the checkpoint was not followed
}

// follow holds the newest checkpoint of a drive against the one kept, and keeps it.
func (k keeper) follow(ctx context.Context, argument string) (followed, error) {
	p, err := k.policies.current()
	if err != nil {
		return followed{}, err
	}
	proof, err := checkpoint.ParseProof([]byte(argument))
	if err != nil {
		return followed{}, err
	}
	_, err = k.seen.Follow(ctx, p.Policy().Log(), proof)
	switch {
	case ctx.Err() != nil:
		return followed{}, ctx.Err()
	case errors.Is(err, checkpoint.ErrSplit):
		k.log.Error(saysSplit, "cause", err)
		return followed{Split: err.Error()}, nil
	case err != nil:
		return followed{Unproved: err.Error()}, nil
	}
	return followed{}, nil
}

// fits holds a verified receipt's checkpoint against the one kept, by the tiles that
// came with it. A contradiction is an error; otherwise proved says whether it fits,
// or nothing is known.
func (k keeper) fits(ctx context.Context, s api.RecordStatus, p policy.Policy, tiles map[string][]byte) (proved bool, err error) {
	f, err := receipt.Verify([]byte(s.Receipt), p.Log(), s.ID)
	if err != nil {
		return false, err
	}
	err = k.seen.Accept(ctx, p.Log(), checkpoint.Proof{Tiles: tiles}, f.Checkpoint())
	if errors.Is(err, checkpoint.ErrSplit) {
		k.log.Error(saysSplit, "cause", err)
		return false, err
	}
	return err == nil, ctx.Err()
}
