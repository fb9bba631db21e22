package station

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/durable"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/sync/queue"
)

// custodyDir is where notes about keys in custody stand: one file for each
// custody number. The keys themselves are the TPM's to keep.
const custodyDir = "custody"

// custody plugs citizens' keys in the TPM into the flow.
type custody struct {
	tpm *tpm.TPM
	dir string
	log *slog.Logger
}

func openCustody(t *tpm.TPM, dir string, log *slog.Logger) (kiosk.Custody, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("notes about keys in custody: %w", err)
	}
	return custody{t, dir, log}, nil
}

func (c custody) TPM(ctx context.Context) (id kiosk.TPMIdentity, err error) {
	ak, err := c.tpm.AttestationKey()
	if err != nil {
		return id, err
	}
	id.AK, id.ParentName = ak.Public, ak.ParentName
	certificates, err := c.tpm.EKCertificates(ctx)
	for _, e := range certificates {
		id.EKCertificates = append(id.EKCertificates, e.DER)
	}
	return id, err
}

func (c custody) Create(ctx context.Context, outside [32]byte, pin secret.Text) (kiosk.CustodyKey, error) {
	k, err := c.tpm.CreateCitizen(ctx, outside, pin)
	return custodyKey{k}, err
}

// Keys leaves out, and tells of, what cannot be read: it is not ours to forget.
func (c custody) Keys(context.Context) (names []string, err error) {
	keys, err := c.tpm.Citizens()
	if err != nil {
		c.log.Error("a key in custody cannot be read", "cause", err)
	}
	for _, k := range keys {
		names = append(names, k.Name())
	}
	return names, nil
}

func (c custody) Key(_ context.Context, name string) (kiosk.CustodyKey, error) {
	k, err := c.tpm.Citizen(name)
	return custodyKey{k}, gone(err)
}

// gone adds kiosk.ErrKeyGone to what says that the key cannot be used here.
func gone(err error) error {
	for _, e := range []error{tpm.ErrNoCitizen, tpm.ErrKeyFile, tpm.ErrOtherTPM} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", kiosk.ErrKeyGone, err)
		}
	}
	return err
}

func (c custody) Forget(ctx context.Context, key string) error {
	if err := c.tpm.Forget(ctx, key); !errors.Is(err, tpm.ErrNoCitizen) {
		return err
	}
	return nil
}

func (c custody) Drop(_ context.Context, number string) error {
	if err := os.Remove(c.file(number)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return durable.SyncDir(c.dir)
}

// noteFile is a note on disk.
type noteFile struct {
	Making     bool   `json:"making,omitempty"` // the key is being made: nothing else is known
	Key        string `json:"key,omitempty"`
	Record     string `json:"record,omitempty"` // hexadecimal
	Saved      bool   `json:"saved,omitempty"`
	ReplacedBy string `json:"replaced_by,omitempty"` // hexadecimal
}

// ErrNote is a damaged note. Its key stays as it is.
var ErrNote = errors.New("a note about a key in custody is damaged: restore it from a backup or call staff")

const noteEnd = ".json"

func (c custody) file(number string) string { return filepath.Join(c.dir, number+noteEnd) }

func (c custody) Note(_ context.Context, n kiosk.CustodyNote) error {
	f := noteFile{Making: n.Key == "", Key: n.Key, Saved: n.Saved}
	if n.Record != (queue.ID{}) {
		f.Record = n.Record.String()
	}
	if n.ReplacedBy != (queue.ID{}) {
		f.ReplacedBy = n.ReplacedBy.String()
	}
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return durable.Replace(c.file(n.Number), append(b, '\n'))
}

func (c custody) Notes(context.Context) (notes []kiosk.CustodyNote, err error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name(), noteEnd)
		if !ok {
			continue // what a crash left of writing one
		}
		b, readErr := os.ReadFile(filepath.Join(c.dir, e.Name()))
		if readErr != nil {
			err = errors.Join(err, readErr)
			continue
		}
		n, noteErr := parseNote(number, b)
		if noteErr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", c.file(number), noteErr))
			continue
		}
		notes = append(notes, n)
	}
	return notes, err
}

func parseNote(number string, b []byte) (n kiosk.CustodyNote, err error) {
	var f noteFile
	if err := strictly(b, &f); err != nil {
		return n, ErrNote
	}
	n = kiosk.CustodyNote{Number: number, Key: f.Key, Saved: f.Saved}
	for _, id := range []struct {
		text string
		to   *queue.ID
	}{{f.Record, &n.Record}, {f.ReplacedBy, &n.ReplacedBy}} {
		raw, err := hex.DecodeString(id.text)
		if err != nil || len(raw) != len(id.to) && len(raw) != 0 {
			return n, ErrNote
		}
		copy(id.to[:], raw)
	}
	unborn := n == kiosk.CustodyNote{Number: number}
	if f.Making != unborn || !unborn && (n.Key == "" || n.Record == queue.ID{}) {
		return n, ErrNote
	}
	return n, nil
}

// custodyKey translates between the flow's types and the driver's.
type custodyKey struct{ tpm.Citizen }

func (k custodyKey) Evidence(ctx context.Context, qualifying [32]byte) (hsm.TPMEvidence, error) {
	return k.Certify(ctx, qualifying[:])
}

func (k custodyKey) Signer(pin secret.Text, insist bool) hsm.Key {
	c := k.Citizen
	if insist {
		c = c.Insist()
	}
	return custodySigner{c.Key(pin)}
}

type custodySigner struct{ hsm.Key }

func (s custodySigner) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	signature, err := s.Key.Sign(ctx, digest)
	if errors.Is(err, tpm.ErrLastTry) {
		return nil, fmt.Errorf("%w: %w", kiosk.ErrLastTry, err)
	}
	return signature, gone(err)
}
