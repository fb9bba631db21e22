package station

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"enrollkiosk/kiosk/durable"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/policy"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/queue"
)

// Errors of export and import.
var (
	ErrNoExchange   = errors.New("the policy names no key to export to: the authority must sign one with the registry's present public.json, and this kiosk must have it")
	ErrNoRoom       = errors.New("not enough room on the drive")
	ErrOtherPolicy  = errors.New("the agent has another policy than is in the files: start the agent anew")
	ErrOtherReceipt = errors.New("another answer than the one that is kept here")
)

// Questions that export and import ask of whoever keeps the queue.
const (
	queryWaiting = "queue-waiting" // -> []waitingRecord
	querySign    = "export-sign"   // argument: a parcel.Manifest in JSON -> []byte, signed
	querySettle  = "queue-settle"  // argument: a settleQuestion in JSON -> Settlement
	queryFollow  = "log-follow"    // argument: a checkpoint.Proof in JSON -> followed
)

// exchangeFile is this kiosk's private key for receipts that come on a drive. It is
// not in the TPM: those have no key encapsulation. Where it is lost, one exports
// again.
const exchangeFile = "exchange.key"

// exportLimit is how many records one export looks at; the next goes on.
const exportLimit = 20_000

type waitingRecord struct {
	ID   api.ID `json:"id"`
	Size int    `json:"size"`
}

func waiting(ctx context.Context, open *queue.Queue) ([]waitingRecord, error) {
	entries, err := open.Queued(ctx, exportLimit)
	if err != nil {
		return nil, err
	}
	out := make([]waitingRecord, 0, len(entries))
	for _, e := range entries {
		out = append(out, waitingRecord{api.ID(e.ID), e.Size})
	}
	return out, nil
}

// sign signs a manifest that is this kiosk's, under the policy in force.
func (k keeper) sign(ctx context.Context, argument string) ([]byte, error) {
	var m parcel.Manifest
	if err := strictly([]byte(argument), &m); err != nil {
		return nil, fmt.Errorf("%w: %w", parcel.ErrForm, err)
	}
	p, err := k.policies.current()
	if err != nil {
		return nil, err
	}
	c := m.Context
	switch {
	case c.PolicyDigest != p.Digest():
		return nil, ErrOtherPolicy
	case c.KioskID != k.id || c.Audience != p.Policy().LogOrigin || !slices.ContainsFunc(p.Policy().Exchange, func(e parcel.Key) bool { return e.ID == c.KeyID }):
		return nil, fmt.Errorf("%w: kiosk, audience or key", parcel.ErrForm)
	}
	return parcel.Sign(ctx, m, k.key)
}

// Outcome is what an answer of the registry did to a record.
type Outcome string

const (
	OutcomeDelivered Outcome = "delivered" // receipt stored, record purged
	OutcomeRejected  Outcome = "rejected"  // quarantined, with the registry's signed reason
	OutcomeKnown     Outcome = "known"     // one of both before
	OutcomeOpen      Outcome = "open"      // neither yet
)

// Settlement is what became of a record with an answer of the registry.
type Settlement struct {
	ID      api.ID  `json:"id"`
	Outcome Outcome `json:"outcome,omitempty"`
	Code    string  `json:"code,omitempty"`    // of OutcomeRejected
	Proved  bool    `json:"proved,omitempty"`  // of OutcomeDelivered: the receipt's log continues the one that was seen here
	Refused string  `json:"refused,omitempty"` // why the answer was not believed, or not kept
}

type settleQuestion struct {
	Status json.RawMessage   `json:"status"`          // an api.RecordStatus
	Tiles  map[string][]byte `json:"tiles,omitempty"` // of the log: a checkpoint.Proof's
}

// settle believes an answer as the client does, and keeps it as the courier does.
func (k keeper) settle(ctx context.Context, argument string) (Settlement, error) {
	var q settleQuestion
	if err := strictly([]byte(argument), &q); err != nil {
		return Settlement{}, err
	}
	got, err := api.Decode[api.RecordStatus](bytes.NewReader(q.Status))
	if err != nil {
		return Settlement{}, err
	}
	id := queue.ID(got.ID)
	out := Settlement{ID: got.ID, Outcome: OutcomeOpen}
	e, err := k.queue.Get(ctx, id)
	if err != nil {
		return out, err
	}
	if got.Receipt == "" && got.Status != api.Rejected {
		return out, nil
	}
	if e.State == queue.Purged || e.State == queue.Quarantined && e.Reason != nil && len(e.Reason.Evidence) > 0 {
		return k.known(ctx, e, got)
	}
	data, err := k.queue.Data(ctx, id)
	if err != nil {
		return out, err
	}
	p, err := k.policies.current()
	if err != nil {
		return out, err
	}
	status, err := client.VerifyStatus(got, client.Item{ID: id, Data: data}, p.Policy())
	if err != nil {
		return out, err
	}
	if status.Status != api.Rejected {
		if out.Proved, err = k.fits(ctx, got, p.Policy(), q.Tiles); err != nil {
			return out, err
		}
	}
	if err := k.courier.Settle(ctx, status); err != nil {
		return out, err
	}
	if out.Outcome = OutcomeDelivered; status.Status == api.Rejected {
		out.Outcome, out.Code = OutcomeRejected, status.Code
	}
	return out, nil
}

// known compares an answer with the one that is kept: there is one only.
func (k keeper) known(ctx context.Context, e queue.Entry, got api.RecordStatus) (Settlement, error) {
	out := Settlement{ID: got.ID, Outcome: OutcomeKnown}
	same := e.State == queue.Quarantined && got.Status == api.Rejected && string(e.Reason.Evidence) == got.Verdict
	if e.State == queue.Purged {
		kept, err := k.queue.Receipt(ctx, e.ID)
		if err != nil {
			return out, err
		}
		same = string(kept) == got.Receipt
	}
	if !same {
		return out, ErrOtherReceipt
	}
	return out, nil
}

// Exported says what Export did.
type Exported struct {
	Dir       string   `json:"dir"`
	Records   int      `json:"records"`   // written now
	Already   int      `json:"already"`   // were there, and are as they should be
	Files     int      `json:"files"`     // written now, manifests aside
	Bytes     int64    `json:"bytes"`     // of them
	Manifests []string `json:"manifests"` // written now
	More      bool     `json:"more"`      // there are more records than one run takes: export again
	Failed    []string `json:"failed,omitempty"`
}

// Export copies all records that wait, sealed to the registry, to a directory on
// a drive. The queue stays as it is. Records that this kiosk has put there before
// are not put there again, so an export that was interrupted is finished by the
// next. did is told how many of how many records are on the drive.
//
// Errors: parcel.ErrNoDrive, ErrDrive; ErrNoExchange, ErrNoRoom, ErrOtherPolicy,
// and those of the queue and the TPM. A record that cannot be read is in Failed
// and keeps no other one.
func Export(ctx context.Context, c Config, dir string, did func(records, all int)) (out Exported, err error) {
	out.Dir = dir
	x := exporter{did: did, out: &out}
	if x.drive, err = parcel.OpenDrive(dir); err != nil {
		return out, err
	}
	if x.line, err = openLine(ctx, c, true); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, x.line.close()) }()
	if err := x.context(c); err != nil {
		return out, err
	}
	var all []waitingRecord
	if err := x.line.ask(ctx, wire.Query{Kind: queryWaiting}, &all); err != nil {
		return out, err
	}
	out.More = len(all) == exportLimit
	if err := x.drive.Clear(); err != nil {
		return out, err
	}
	own, err := ownParcels(c, x.drive, x.base.Reply)
	if err != nil {
		return out, err
	}
	there := contentOf(own.whole)
	todo := slices.DeleteFunc(slices.Clone(all), func(w waitingRecord) bool { return there.has(w.ID) })
	out.Already = len(all) - len(todo)
	if err := room(dir, todo); err != nil {
		return out, err
	}
	x.all = len(all)
	did(out.Already, x.all)
	if err := x.write(ctx, todo); err != nil {
		return out, err
	}
	// What was damaged is there again: nothing is left to be missed.
	for _, name := range own.damaged {
		if err := x.drive.Remove(name); err != nil {
			return out, err
		}
	}
	if len(all) > 0 {
		if err := writeSeen(c, x.drive, x.policy); err != nil {
			return out, err
		}
	}
	return out, x.drive.Clear()
}

// exporter is one run of Export.
type exporter struct {
	line   *line
	drive  parcel.Drive
	policy policy.Policy
	base   parcel.Context // without nonce and time
	to     parcel.Key
	all    int
	did    func(records, all int)
	out    *Exported
}

// context is what every parcel of this run says of itself.
func (x *exporter) context(c Config) error {
	policies, err := readPolicies(c)
	if err != nil {
		return err
	}
	s, err := policies.current()
	if err != nil {
		return err
	}
	p := s.Policy()
	if len(p.Exchange) == 0 {
		return ErrNoExchange
	}
	reply, err := replyKey(c)
	if err != nil {
		return err
	}
	x.policy, x.to = p, p.Exchange[0]
	x.base = parcel.Context{Version: parcel.Version, KioskID: c.Kiosk.ID, Audience: p.LogOrigin, PolicyDigest: s.Digest(), KeyID: x.to.ID, Reply: reply.Public()}
	return nil
}

// write writes parcels. A parcel is whole before the next is begun.
func (x *exporter) write(ctx context.Context, todo []waitingRecord) error {
	for len(todo) > 0 {
		m := parcel.Manifest{Context: x.base}
		m.Context.Time = time.Now().UTC().Truncate(time.Second)
		rand.Read(m.Context.Nonce[:])
		records, size := 0, int64(0)
		for len(todo) > 0 && len(m.Files) < parcel.MaxFiles {
			var batch api.Batch
			var err error
			if batch, todo, err = x.batch(ctx, todo); err != nil {
				return err
			}
			if len(batch.Items) == 0 {
				continue
			}
			n, err := x.file(&m, batch)
			if err != nil {
				return err
			}
			records, size = records+len(batch.Items), size+n
		}
		if len(m.Files) == 0 {
			return nil
		}
		if err := x.manifest(ctx, m); err != nil {
			return err
		}
		x.out.Records, x.out.Files, x.out.Bytes = x.out.Records+records, x.out.Files+len(m.Files), x.out.Bytes+size
		x.did(x.out.Already+x.out.Records, x.all)
	}
	return nil
}

// batch takes the records of the next file off todo.
func (x *exporter) batch(ctx context.Context, todo []waitingRecord) (batch api.Batch, rest []waitingRecord, err error) {
	size := 0
	for len(todo) > 0 && len(batch.Items) < parcel.MaxItems && (len(batch.Items) == 0 || size+todo[0].Size <= api.MaxBatchData) {
		id := todo[0].ID
		todo = todo[1:]
		var r QueueRecord
		err := x.line.ask(ctx, wire.Query{Kind: QueryShow, Argument: id.String()}, &r)
		switch {
		case err != nil && x.line.broken(ctx, err):
			return batch, todo, err
		case err != nil:
			x.out.Failed = append(x.out.Failed, fmt.Sprintf("%s: %v", id, err))
		case r.State == queue.Queued: // nobody has delivered it meanwhile
			size += len(r.Submission)
			batch.Items = append(batch.Items, api.Item{ID: id, Submission: r.Submission})
		}
	}
	return batch, todo, nil
}

// broken says of an error that it is about the line, not about what was asked for.
func (l *line) broken(ctx context.Context, err error) bool {
	if l.keeper != nil {
		return ctx.Err() != nil || errors.Is(err, queue.ErrClosed)
	}
	return !errors.Is(err, wire.ErrAnswer)
}

func (x *exporter) file(m *parcel.Manifest, batch api.Batch) (size int64, err error) {
	body, err := json.Marshal(batch)
	if err != nil {
		return 0, err
	}
	var ids [][32]byte
	for _, item := range batch.Items {
		ids = append(ids, item.ID)
	}
	b, err := m.Add(x.to, body, ids)
	if err != nil {
		return 0, err
	}
	return int64(len(b)), x.drive.Write(m.Files[len(m.Files)-1].Name(), b)
}

// manifest has a manifest signed and writes it, after all of its files.
func (x *exporter) manifest(ctx context.Context, m parcel.Manifest) error {
	argument, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var signed []byte
	if err := x.line.ask(ctx, wire.Query{Kind: querySign, Argument: string(argument)}, &signed); err != nil {
		return fmt.Errorf("sign manifest: %w", err)
	}
	name := parcel.ManifestName(signed)
	if err := x.drive.Write(name, signed); err != nil {
		return err
	}
	x.out.Manifests = append(x.out.Manifests, name)
	return nil
}

// room says, before anything is written, whether these records fit.
func room(dir string, todo []waitingRecord) error {
	if len(todo) == 0 {
		return nil
	}
	// base64, and for every record what a file of one record has around it.
	const around = parcel.Overhead + 4096
	need := int64(parcel.MaxManifest)
	for _, w := range todo {
		need += int64(w.Size)*4/3 + around
	}
	free, err := queue.Free(dir)
	if err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	if free < need {
		return fmt.Errorf("%w: up to %d MiB are needed, %d MiB are free", ErrNoRoom, need>>20+1, free>>20)
	}
	return nil
}

// replyKey is the kiosk's key for receipts; it is made when it is first needed.
func replyKey(c Config) (parcel.PrivateKey, error) {
	key, err := readReplyKey(c)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = parcel.GenerateKey(); err != nil {
		return key, err
	}
	text, err := key.Text()
	if err != nil {
		return key, err
	}
	defer text.Wipe()
	if err := durable.Replace(c.in(exchangeFile), text.Reveal()); err != nil {
		return key, fmt.Errorf("keep %s: %w", exchangeFile, err)
	}
	return key, nil
}

func readReplyKey(c Config) (parcel.PrivateKey, error) {
	b, err := os.ReadFile(c.in(exchangeFile))
	if err != nil {
		return parcel.PrivateKey{}, err
	}
	text := secret.New(b)
	defer text.Wipe()
	return parcel.ParseKey(text)
}

// parcels are this kiosk's own on a drive.
type parcels struct {
	whole []parcel.Signed // with all their files
	// Manifests that lack a file, or have it damaged, or whose answers this kiosk
	// could not read any more.
	damaged []string
}

// ownParcels looks through a drive for what this kiosk has signed. Whatever else is
// there is not its business.
func ownParcels(c Config, d parcel.Drive, reply parcel.Key) (out parcels, err error) {
	signed, err := ownManifests(c, d)
	if err != nil {
		return out, err
	}
	for name, s := range signed {
		whole := s.Manifest().Context.Reply.ID == reply.ID
		for i, f := range s.Manifest().Files {
			b, err := d.Read(f.Name())
			whole = whole && err == nil && s.CheckFile(i, b) == nil
		}
		if whole {
			out.whole = append(out.whole, s)
		} else {
			out.damaged = append(out.damaged, name)
		}
	}
	return out, nil
}

// errForeign: a manifest of another kiosk.
var errForeign = errors.New("another kiosk's")

// ownManifests are this kiosk's manifests on a drive, by name.
func ownManifests(c Config, d parcel.Drive) (map[string]parcel.Signed, error) {
	certs, err := c.certificates()
	if err != nil {
		return nil, err
	}
	if len(certs.Record) == 0 {
		return nil, ErrCertificates
	}
	leaf, err := x509.ParseCertificate(certs.Record[0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificates, err)
	}
	names, err := d.Names(parcel.Manifests)
	if err != nil {
		return nil, err
	}
	out := map[string]parcel.Signed{}
	for _, name := range names {
		s, _, err := d.Manifest(name, func(id string, key crypto.PublicKey) error {
			spki, err := x509.MarshalPKIXPublicKey(key)
			if err != nil || id != c.Kiosk.ID || !bytes.Equal(spki, leaf.RawSubjectPublicKeyInfo) {
				return errForeign
			}
			return nil
		})
		if err == nil {
			out[name] = s
		}
	}
	return out, nil
}

// content is which records parcels hold.
type content []struct {
	context parcel.Context
	items   map[[32]byte]bool
}

func contentOf(list []parcel.Signed) content {
	out := make(content, len(list))
	for i, s := range list {
		m := s.Manifest()
		out[i].context, out[i].items = m.Context, map[[32]byte]bool{}
		for _, f := range m.Files {
			for _, item := range f.Items {
				out[i].items[item] = true
			}
		}
	}
	return out
}

func (c content) has(id [32]byte) bool {
	for _, p := range c {
		if p.items[p.context.Item(id)] {
			return true
		}
	}
	return false
}

// Collected says what ImportReceipts did.
type Collected struct {
	Records []Settlement `json:"records"`           // that the drive has an answer for
	Refused []string     `json:"refused,omitempty"` // files, with the reason
	Parcels int          `json:"parcels"`           // of this kiosk's, on the drive
	Waiting int          `json:"waiting"`           // records on the drive that have no answer yet
	// Why receipts were taken without proof that their log continues the one that
	// was seen here; "" when none was.
	Unproved string `json:"unproved,omitempty"`
}

// Count counts records by what became of them, and the answers that were refused.
func (c Collected) Count(o Outcome) (n int) {
	for _, r := range c.Records {
		if r.Refused == "" && r.Outcome == o {
			n++
		}
	}
	return n
}

// Err is ErrReceipts when an answer or a file was refused.
func (c Collected) Err() error {
	if len(c.Refused) > 0 || slices.ContainsFunc(c.Records, func(r Settlement) bool { return r.Refused != "" }) {
		return ErrReceipts
	}
	return nil
}

// ErrReceipts: what was refused is kept as it was, to be delivered again.
var ErrReceipts = errors.New("some receipts on the drive are not in order; their records stay here: export them again, or call staff")

// ImportReceipts takes what the registry has written about this kiosk's records to
// a drive: each receipt or rejection is verified as one from the network is. One
// that is not in order is told and keeps no other one. It may be done again.
func ImportReceipts(ctx context.Context, c Config, dir string) (out Collected, err error) {
	d, err := parcel.OpenDrive(dir)
	if err != nil {
		return out, err
	}
	l, err := openLine(ctx, c, false)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	manifests, err := ownManifests(c, d)
	if err != nil {
		return out, err
	}
	out.Parcels = len(manifests)
	reply, err := readReplyKey(c)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	policies, err := readPolicies(c)
	if err != nil {
		return out, err
	}
	inForce, err := policies.current()
	if err != nil {
		return out, err
	}
	log, why, err := openDriveLog(ctx, c, d, inForce.Policy(), l)
	if err != nil {
		return out, err
	}
	for _, s := range manifests {
		for number, f := range s.Manifest().Files {
			list, err := readReceipts(d, s, number, reply)
			if errors.Is(err, fs.ErrNotExist) {
				continue // not imported yet
			}
			if err != nil {
				out.Refused = append(out.Refused, fmt.Sprintf("%s: %v", f.ReceiptsName(), err))
				continue
			}
			for _, status := range list.Statuses {
				if status.Status == api.Unknown {
					continue // it was to be sent again
				}
				settled, err := settle(ctx, l, log, status)
				if err != nil {
					return out, err
				}
				if settled.Outcome == OutcomeDelivered && settled.Refused == "" && !settled.Proved {
					out.Unproved = cmp.Or(why, ErrNoLogProof).Error()
				}
				out.Records = append(out.Records, settled)
			}
		}
	}
	slices.SortFunc(out.Records, func(a, b Settlement) int { return cmp.Compare(a.ID.String(), b.ID.String()) })
	slices.Sort(out.Refused)
	var left []waitingRecord
	if err := l.ask(ctx, wire.Query{Kind: queryWaiting}, &left); err != nil {
		return out, err
	}
	there := contentOf(slices.Collect(maps.Values(manifests)))
	for _, w := range left {
		if there.has(w.ID) {
			out.Waiting++
		}
	}
	// So that the registry proves what comes next; a drive that takes nothing has
	// brought its receipts all the same.
	_ = writeSeen(c, d, inForce.Policy())
	return out, nil
}

func readReceipts(d parcel.Drive, s parcel.Signed, number int, reply parcel.PrivateKey) (api.StatusResult, error) {
	b, err := d.Read(s.Manifest().Files[number].ReceiptsName())
	if err != nil {
		return api.StatusResult{}, err
	}
	body, err := s.OpenReceipts(number, b, reply)
	if err != nil {
		return api.StatusResult{}, err
	}
	return api.Decode[api.StatusResult](bytes.NewReader(body))
}

// settle has one answer kept; the error is one of the line.
func settle(ctx context.Context, l *line, log driveLog, status api.RecordStatus) (Settlement, error) {
	out := Settlement{ID: status.ID}
	if status.Receipt != "" && log.split != "" {
		out.Refused = log.split
		return out, nil
	}
	answer, err := json.Marshal(status)
	if err != nil {
		return out, err
	}
	argument, err := json.Marshal(settleQuestion{answer, log.about(ctx, status)})
	if err != nil {
		return out, err
	}
	err = l.ask(ctx, wire.Query{Kind: querySettle, Argument: string(argument)}, &out)
	if err != nil && !l.broken(ctx, err) {
		out.Refused, err = err.Error(), nil
	}
	return out, err
}
