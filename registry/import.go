package registry

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/reply"
	"enrollkiosk/registry/parcel"
)

// Records that come on a drive take the same way as over the network, from
// takeBatch on; a manifest's signature stands for the sender's TLS certificate.

// Errors about parcels, beside parcel's and those about kiosks.
var (
	ErrOtherRegistry = errors.New("the parcel is for another registry")
	ErrUnread        = errors.New("some files were not taken: what they hold is at the kiosk still, export it again")
	ErrNotWritten    = errors.New("receipts could not be written to the drive: import it again")
)

// openParcel verifies a manifest, and that the kiosk that signed it is in good standing
// now.
func (r *Registry) openParcel(ctx context.Context, manifest []byte) (parcel.Signed, Kiosk, error) {
	var sender Kiosk
	s, err := parcel.Verify(manifest, func(id string, key crypto.PublicKey) (err error) {
		if sender, err = r.kiosks.Find(ctx, id); err != nil {
			return err
		}
		spki, err := x509.MarshalPKIXPublicKey(key)
		if err != nil || !sender.hasRecordKey(spki) {
			return parcel.ErrSigner
		}
		if sender.Revoked != nil {
			return fmt.Errorf("%s: %w", id, ErrRevoked)
		}
		return nil
	})
	if err == nil && s.Manifest().Context.Audience != r.origin {
		err = fmt.Errorf("%w: %s", ErrOtherRegistry, s.Manifest().Context.Audience)
	}
	if err != nil {
		return parcel.Signed{}, Kiosk{}, err
	}
	return s, sender, nil
}

// What Import and the registry say to one another.
type (
	parcelQuestion struct {
		Manifest []byte   `json:"manifest"`
		Number   int      `json:"number"`            // of the file
		Records  []byte   `json:"records,omitempty"` // the file, to take on
		IDs      []api.ID `json:"ids,omitempty"`     // what it held, to ask for receipts
	}
	recordsAnswer struct {
		Verdicts []api.ItemVerdict `json:"verdicts"`
	}
	receiptsAnswer struct {
		Records  []api.RecordStatus `json:"records"`
		Receipts []byte             `json:"receipts"` // an api.StatusResult of them, sealed to the kiosk
		Trees    []uint64           `json:"trees"`    // leaves under the checkpoint of each receipt
	}
)

// importParcel says whether a manifest is taken.
func (r *Registry) importParcel(ctx context.Context, q parcelQuestion) (parcel.Manifest, error) {
	s, _, err := r.openParcel(ctx, q.Manifest)
	return s.Manifest(), err
}

// importRecords takes on the records of one file.
func (r *Registry) importRecords(ctx context.Context, q parcelQuestion) (out recordsAnswer, err error) {
	s, sender, err := r.openParcel(ctx, q.Manifest)
	if err != nil {
		return out, err
	}
	body, err := s.Open(q.Number, q.Records, r.exchange)
	if err != nil {
		return out, err
	}
	batch, err := api.Decode[api.Batch](bytes.NewReader(body))
	if err != nil {
		return out, fmt.Errorf("%w: %w", parcel.ErrForm, err)
	}
	var ids [][32]byte
	for _, item := range batch.Items {
		ids = append(ids, item.ID)
	}
	if err := s.CheckItems(q.Number, ids); err != nil {
		return out, err
	}
	r.opts.Log.Info("records come on a drive", "kiosk", sender.ID, "records", len(ids), "exported", s.Manifest().Context.Time)
	return recordsAnswer{r.takeBatch(ctx, batch, sender)}, nil
}

// importReceipts says what has become of the records of one file.
func (r *Registry) importReceipts(ctx context.Context, q parcelQuestion) (out receiptsAnswer, err error) {
	s, sender, err := r.openParcel(ctx, q.Manifest)
	if err != nil {
		return out, err
	}
	var ids [][32]byte
	for _, id := range q.IDs {
		ids = append(ids, id)
	}
	if err := s.CheckItems(q.Number, ids); err != nil {
		return out, err
	}
	result, err := r.statuses(ctx, sender, q.IDs)
	if err != nil {
		return out, err
	}
	body, err := json.Marshal(result)
	if err != nil {
		return out, err
	}
	out.Records = result.Statuses
	for _, s := range result.Statuses {
		if n := r.treeOf(s.Receipt, s.ID); n > 0 {
			out.Trees = append(out.Trees, n)
		}
	}
	out.Receipts, err = s.SealReceipts(q.Number, body)
	return out, err
}

// Where the console takes a parcelQuestion, and a logQuestion.
const (
	pathImportParcel   = "/import/parcel"
	pathImportRecords  = "/import/records"
	pathImportReceipts = "/import/receipts"
	pathImportLog      = "/import/log"
)

// maxQuestion holds the largest file and manifest in base64.
const maxQuestion = 2 * (parcel.MaxFile + parcel.MaxManifest)

// codeParcel marks a refusal of a parcel, or of one file in it.
const codeParcel = "registry-parcel"

// parcelErrors are about what the drive holds; all others are about the registry.
var parcelErrors = []error{parcel.ErrForm, parcel.ErrSigner, parcel.ErrDamaged, parcel.ErrKey, parcel.ErrSealed, ErrUnknownKiosk, ErrRevoked, ErrOtherRegistry}

// importRoute serves one of the questions.
func importRoute[Q, A any](r *Registry, answer func(context.Context, Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		var question Q
		d := json.NewDecoder(http.MaxBytesReader(w, q.Body, maxQuestion))
		d.DisallowUnknownFields()
		if err := d.Decode(&question); err != nil {
			reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "not a question about a parcel", 0)
			return
		}
		a, err := answer(q.Context(), question)
		switch {
		case err == nil:
			reply.JSON(w, a)
		case slices.ContainsFunc(parcelErrors, func(target error) bool { return errors.Is(err, target) }):
			r.opts.Log.Warn("parcel refused", "error", err)
			reply.Problem(w, http.StatusForbidden, codeParcel, err.Error(), 0)
		default:
			r.consoleFailed(w, err)
		}
	}
}

// Imported says what Import did with a drive.
type Imported struct {
	Parcels []ImportedParcel `json:"parcels"`
	// Unnamed are files of records that no manifest here names: the drive was
	// written or copied in part.
	Unnamed []string `json:"unnamed,omitempty"`
}

// ImportedParcel is what became of a manifest and its files.
type ImportedParcel struct {
	Manifest string         `json:"manifest"` // the file's name
	Kiosk    string         `json:"kiosk,omitempty"`
	Exported time.Time      `json:"exported,omitzero"`
	Refused  string         `json:"refused,omitempty"` // why nothing of it was taken
	Files    []ImportedFile `json:"files,omitempty"`
	// Why the drive does not prove, for this kiosk, what the log has become since
	// the kiosk has seen it.
	NoLogProof string `json:"no_log_proof,omitempty"`
}

// ImportedFile is what became of a file of records.
type ImportedFile struct {
	Name       string           `json:"name"`
	Refused    string           `json:"refused,omitempty"`     // why nothing of it was taken
	NotWritten string           `json:"not_written,omitempty"` // why its receipts are not on the drive
	Records    []ImportedRecord `json:"records,omitempty"`
}

// ImportedRecord is what the registry says about one record.
type ImportedRecord struct {
	ID      api.ID     `json:"id"`
	Status  api.Status `json:"status"`         // retry: not taken on, the kiosk keeps it; otherwise as the network says
	Code    string     `json:"code,omitempty"` // why rejected, refused or to be sent again
	Receipt bool       `json:"receipt"`        // its proof is in the log, and on the drive

	told bool // as the network says
}

// settled says that the kiosk can let go of the record.
func (r ImportedRecord) settled() bool { return r.Receipt || r.Status == api.Rejected }

// Count counts records, those that are settled, and those that were not taken on.
func (i Imported) Count() (records, settled, retry int) {
	for _, p := range i.Parcels {
		for _, f := range p.Files {
			for _, r := range f.Records {
				records++
				switch {
				case r.settled():
					settled++
				case r.Status == api.Retry:
					retry++
				}
			}
		}
	}
	return records, settled, retry
}

// Err is ErrUnread, ErrNotWritten or ErrNoLogProof, or several of them; nil when all
// was taken and written.
func (i Imported) Err() (err error) {
	unread, unwritten, unproved := len(i.Unnamed) > 0, false, false
	for _, p := range i.Parcels {
		unread, unproved = unread || p.Refused != "", unproved || p.NoLogProof != ""
		for _, f := range p.Files {
			unread, unwritten = unread || f.Refused != "", unwritten || f.NotWritten != ""
		}
	}
	if unread {
		err = ErrUnread
	}
	if unwritten {
		err = errors.Join(err, ErrNotWritten)
	}
	if unproved {
		err = errors.Join(err, ErrNoLogProof)
	}
	return err
}

// importPause is between two looks at whether the log has taken records in.
const importPause = 500 * time.Millisecond

// Import takes on the records of all parcels on a drive, and writes what became of
// them beside them. It waits for receipts that long at most; who imports the drive
// again later gets the rest. A file that is not in order is told and keeps no other
// one; the error is one of the drive, the registry, or ctx.
func Import(ctx context.Context, r *Console, d parcel.Drive, wait time.Duration) (Imported, error) {
	in := &importing{registry: r, drive: d, trees: map[string][]uint64{}}
	err := in.read(ctx)
	for deadline := time.Now().Add(wait); err == nil; {
		open := false
		if open, err = in.answer(ctx); !open || !time.Now().Before(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(importPause):
		}
	}
	if err == nil {
		err = in.proveLogs(ctx)
	}
	return in.done, err
}

// importing is one run of Import.
type importing struct {
	registry *Console
	drive    parcel.Drive
	done     Imported
	answers  []answering
	trees    map[string][]uint64 // by kiosk: of its receipts here
}

// answering is a file whose records were taken on.
type answering struct {
	parcel, file int // in done
	question     parcelQuestion
	name         string
	written      bool // with all receipts
}

// read takes on what is on the drive.
func (in *importing) read(ctx context.Context) error {
	manifests, err := in.drive.Names(parcel.Manifests)
	if err != nil {
		return err
	}
	records, err := in.drive.Names(parcel.Records)
	if err != nil {
		return err
	}
	named := map[string]bool{}
	for _, name := range manifests {
		p := ImportedParcel{Manifest: name}
		m, b, err := in.manifest(ctx, name)
		if p.Refused, err = refusedOnly(err); err != nil {
			return err
		}
		p.Kiosk, p.Exported = m.Context.KioskID, m.Context.Time
		for number, f := range m.Files {
			named[f.Name()] = true
			out := ImportedFile{Name: f.Name()}
			q := parcelQuestion{Manifest: b, Number: number}
			out.Records, err = in.records(ctx, f.Name(), q)
			if out.Refused, err = refusedOnly(err); err != nil {
				return err
			}
			if out.Refused == "" {
				for _, r := range out.Records {
					q.IDs = append(q.IDs, r.ID)
				}
				in.answers = append(in.answers, answering{parcel: len(in.done.Parcels), file: number, question: q, name: f.ReceiptsName()})
			}
			p.Files = append(p.Files, out)
		}
		in.done.Parcels = append(in.done.Parcels, p)
	}
	for _, name := range records {
		if !named[name] {
			in.done.Unnamed = append(in.done.Unnamed, name)
		}
	}
	return nil
}

// notTaken is an error about what is on the drive.
type notTaken struct{ error }

// refusedOnly gives the reason why something is not taken; every other error it passes on.
func refusedOnly(err error) (reason string, _ error) {
	var no notTaken
	if errors.As(err, &no) {
		return no.Error(), nil
	}
	return "", err
}

func (in *importing) manifest(ctx context.Context, name string) (m parcel.Manifest, b []byte, err error) {
	// Who signed it is for the registry to say.
	if _, b, err = in.drive.Manifest(name, func(string, crypto.PublicKey) error { return nil }); err != nil {
		return m, nil, notTaken{err}
	}
	err = in.ask(ctx, pathImportParcel, parcelQuestion{Manifest: b}, &m)
	return m, b, err
}

func (in *importing) records(ctx context.Context, name string, q parcelQuestion) (out []ImportedRecord, err error) {
	q.Records, err = in.drive.Read(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, notTaken{fmt.Errorf("the file is missing: %w", parcel.ErrDamaged)}
	case err != nil:
		return nil, notTaken{err}
	}
	var a recordsAnswer
	if err := in.ask(ctx, pathImportRecords, q, &a); err != nil {
		return nil, err
	}
	for _, v := range a.Verdicts {
		out = append(out, ImportedRecord{ID: v.ID, Status: v.Status, Code: v.Code})
	}
	return out, nil
}

func (in *importing) ask(ctx context.Context, path string, q parcelQuestion, out any) error {
	err := in.registry.Do(ctx, http.MethodPost, path, q, out)
	var refused *Refused
	if errors.As(err, &refused) && refused.Code == codeParcel {
		return notTaken{err}
	}
	return err
}

// answer asks what has become of records, and writes it to the drive where that is
// news. open says that some wait for the log yet.
func (in *importing) answer(ctx context.Context) (open bool, err error) {
	for i := range in.answers {
		a := &in.answers[i]
		if a.written {
			continue
		}
		f := &in.done.Parcels[a.parcel].Files[a.file]
		var got receiptsAnswer
		err := in.ask(ctx, pathImportReceipts, a.question, &got)
		if f.Refused, err = refusedOnly(err); err != nil {
			return open, err
		}
		if a.written = f.Refused != ""; a.written {
			continue // its kiosk was revoked meanwhile
		}
		kiosk := in.done.Parcels[a.parcel].Kiosk
		in.trees[kiosk] = append(in.trees[kiosk], got.Trees...)
		news := f.heard(got.Records)
		a.written = true
		for _, r := range f.Records {
			if !r.settled() && r.Status != api.Retry {
				a.written, open = false, true
			}
		}
		if !news {
			continue
		}
		// A drive that takes no receipts has still brought its records.
		f.NotWritten = ""
		if err := in.drive.Write(a.name, got.Receipts); err != nil {
			f.NotWritten = err.Error()
			a.written = true
		}
	}
	return open, nil
}

// heard keeps what is known of records now, and says whether more of them are
// settled than before.
func (f *ImportedFile) heard(list []api.RecordStatus) (news bool) {
	for _, s := range list {
		for i := range f.Records {
			if r := &f.Records[i]; r.ID == s.ID && s.Status != api.Unknown { // unknown: it was to be sent again
				was := r.settled() && r.told
				r.Status, r.Code, r.Receipt = s.Status, s.Code, s.Receipt != ""
				r.told = true
				news = news || r.settled() && !was
			}
		}
	}
	return news
}
