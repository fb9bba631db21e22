package tpm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/durable"
	"enrollkiosk/kiosk/secret"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// MaxTries is how many wrong PINs in a row a citizen's key takes.
const MaxTries = 5

// Errors about citizens' keys.
var (
	ErrNoCitizen = errors.New("this kiosk keeps no such key: look for it on the kiosk that made it")
	ErrPINForm   = errors.New("a PIN has 6 to 8 characters: choose another one")

	// ErrLastTry means that the TPM was not asked, because a wrong PIN would be
	// the last. See [Citizen.Insist]. It is an hsm.ErrPINBlocked, as in hsm/piv.
	ErrLastTry error = blocked("one PIN try is left, and after a wrong PIN the key is lost: ask whether to go on")
	// ErrKeyLost is an hsm.ErrPINBlocked that nothing unblocks.
	ErrKeyLost error = blocked("the PIN was wrong too often and the key is lost: enroll a new key in its place (replace)")
)

type blocked string

func (b blocked) Error() string { return string(b) }
func (b blocked) Unwrap() error { return hsm.ErrPINBlocked }

// Citizen is a key in station custody: born in this TPM, usable only with it
// and with the citizen's PIN, for which the TPM gives no second way. Values
// come from [TPM.CreateCitizen], [TPM.Citizen] and [TPM.Citizens]; copies are
// the same key.
//
// On disk it is citizens/NAME.tss2.pem, and NAME.tries beside it. Nothing in
// either, nor the name, says whose it is.
//
// Wrong PINs are counted twice. NAME.tries gives each key [MaxTries] in a row,
// so that one citizen's guesses cost no other citizen's. The TPM's dictionary-
// attack protection, which is one for all keys, slows down whoever has the
// file and leaves the count out.
type Citizen struct {
	tpm    *TPM
	name   string
	blob   *blob
	insist bool
}

func (t *TPM) citizens() string { return filepath.Join(t.options.Dir, "citizens") }

// CreateCitizen makes a P-256 key that signs under pin, bound at birth to
// outside. It is stored durably when this returns; after an error or a power
// cut there may be a key that nobody knows. The caller keeps pin.
//
// Errors: ErrPINForm, ErrNotInitialized.
func (t *TPM) CreateCitizen(ctx context.Context, outside [32]byte, pin secret.Text) (Citizen, error) {
	const what = "make citizen's key"
	if !goodPIN(pin) {
		return Citizen{}, fmt.Errorf("%s: %w", what, ErrPINForm)
	}
	if err := t.Ready(); err != nil {
		return Citizen{}, fmt.Errorf("%s: %w", what, err)
	}
	c := Citizen{tpm: t}
	err := t.do(ctx, what, func(r transport.TPM) error {
		srk, err := t.srk(r)
		if err != nil {
			return err
		}
		salt := make([]byte, saltSize)
		_, _ = rand.Read(salt) // never fails
		auth := authValue(salt, pin)
		defer clear(auth)
		public := template(false)
		public.ObjectAttributes.NoDA = false
		if c.blob, err = create(r, srk, public, auth, outside); err != nil {
			return err
		}
		c.blob.salt = salt
		c.name = citizenName(c.blob)
		return c.store()
	})
	if err != nil {
		return Citizen{}, err
	}
	return c, nil
}

// store writes the count first: a key file without one is damage.
func (c Citizen) store() error {
	dir := c.tpm.citizens()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := durable.SyncDir(c.tpm.options.Dir); err != nil {
		return err
	}
	if err := c.setTries(MaxTries); err != nil {
		return err
	}
	return c.blob.store(dir, KeyName(c.name).file())
}

// goodPIN is the rule of PIV cards (SP 800-73-4 Part 2, 2.4.3), so that a
// citizen meets one.
func goodPIN(pin secret.Text) bool { return pin.Len() >= 6 && pin.Len() <= 8 }

// authValue makes the key's authorization value of a PIN: half of
// SHA-256("enrollkiosk/citizen-pin/v1" || salt || PIN) in hexadecimal. That is
// 32 bytes, the most that a key with SHA-256 takes, and none is zero: go-tpm
// and the specification differ in where a zero ends a value (go-tpm#446). The
// salt keeps equal PINs apart. It need not be slow: nobody can try a value but
// through the TPM, which counts.
func authValue(salt []byte, pin secret.Text) []byte {
	h := sha256.New()
	h.Write([]byte("enrollkiosk/citizen-pin/v1"))
	h.Write(salt)
	h.Write(pin.Reveal())
	digest := h.Sum(nil)
	defer clear(digest)
	return hex.AppendEncode(nil, digest[:sha256.Size/2])
}

// citizenName is the digest in the TPM's name of the key: SHA-256 of its
// TPMT_PUBLIC, in hexadecimal.
func citizenName(b *blob) string { return hex.EncodeToString(b.name[2:]) }

// Citizen finds a key by its name.
//
// Errors: ErrNoCitizen, ErrKeyFile, ErrOtherTPM.
func (t *TPM) Citizen(name string) (Citizen, error) {
	c, err := t.citizen(name)
	if err != nil {
		return Citizen{}, fmt.Errorf("find citizen's key: %w", err)
	}
	return c, nil
}

func (t *TPM) citizen(name string) (Citizen, error) {
	if !isName(name) {
		return Citizen{}, ErrNoCitizen
	}
	b, err := load(t.citizens(), KeyName(name).file())
	if err != nil {
		return Citizen{}, err
	}
	if b == nil {
		return Citizen{}, ErrNoCitizen
	}
	if b.salt == nil || citizenName(b) != name {
		return Citizen{}, fmt.Errorf("%w: another key than its name says", ErrKeyFile)
	}
	signer, err := t.blob(ak)
	if err != nil {
		return Citizen{}, err
	}
	if string(b.srk) != string(signer.srk) || b.parent != signer.parent {
		return Citizen{}, ErrOtherTPM
	}
	c := Citizen{tpm: t, name: name, blob: b}
	if _, err := c.Tries(); err != nil {
		return Citizen{}, err
	}
	return c, nil
}

func isName(name string) bool {
	b, err := hex.DecodeString(name)
	return err == nil && len(b) == sha256.Size && name == strings.ToLower(name)
}

// Citizens lists the keys kept here by name. A damaged one is told of in the
// error and keeps no other from being listed.
func (t *TPM) Citizens() ([]Citizen, error) {
	entries, err := os.ReadDir(t.citizens())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list citizens' keys: %w", err)
	}
	var out []Citizen
	var errs []error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), KeyName("").file())
		if !ok {
			continue
		}
		c, err := t.Citizen(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Name(), err))
			continue
		}
		out = append(out, c)
	}
	return out, errors.Join(errs...)
}

// Forget deletes a key durably: what TPM and PIN could use is gone with the
// file, wherever no copy was made. Repeat it after an error; ErrNoCitizen says
// that nothing is there.
func (t *TPM) Forget(ctx context.Context, name string) error {
	select { // not while the key is in use
	case <-t.lock:
		defer func() { t.lock <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("forget citizen's key: %w", ctx.Err())
	}
	if err := t.forget(name); err != nil {
		return fmt.Errorf("forget citizen's key: %w", err)
	}
	return nil
}

// forget deletes whatever bears the name: key file, count, and what a power
// cut left of writing either.
func (t *TPM) forget(name string) error {
	if !isName(name) {
		return ErrNoCitizen
	}
	entries, err := os.ReadDir(t.citizens())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	found := false
	for _, e := range slices.Backward(entries) { // sorted: the key goes before its count
		if strings.HasPrefix(e.Name(), name+".") {
			found = true
			if err := os.Remove(filepath.Join(t.citizens(), e.Name())); err != nil {
				return err
			}
		}
	}
	if !found {
		return ErrNoCitizen
	}
	return durable.SyncDir(t.citizens())
}

// Name is 64 hexadecimal digits.
func (c Citizen) Name() string { return c.name }

// Public is an *ecdsa.PublicKey.
func (c Citizen) Public() crypto.PublicKey { return c.blob.key }

// Certify has the attestation key state how the key was born, as [TPM.Certify]
// does for the kiosk's own. It takes no PIN.
func (c Citizen) Certify(ctx context.Context, qualifying []byte) (hsm.TPMEvidence, error) {
	return c.tpm.certify(ctx, "certify citizen's key", c.blob, qualifying)
}

// Insist is the same key for a citizen who knows that the last try is next.
func (c Citizen) Insist() Citizen { c.insist = true; return c }

// Key signs under pin, each time anew. The caller wipes pin when done with it.
//
// Errors of Sign: *hsm.WrongPIN, ErrKeyLost, ErrLastTry, ErrPINForm,
// *hsm.Lockout, ErrNoCitizen after Forget.
func (c Citizen) Key(pin secret.Text) hsm.Key { return citizenKey{c, pin} }

type citizenKey struct {
	Citizen
	pin secret.Text
}

// Sign counts a try durably before the TPM is asked and forgives it after the
// right PIN: a power cut in between costs a try and never gives one.
func (k citizenKey) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	const what = "sign with citizen's key"
	if len(digest) != sha256.Size {
		return nil, fmt.Errorf("%s: digest of %d bytes: %w", what, len(digest), hsm.ErrUnsupported)
	}
	if !goodPIN(k.pin) { // or wiped meanwhile
		return nil, fmt.Errorf("%s: %w", what, ErrPINForm)
	}
	var der []byte
	err := k.tpm.do(ctx, what, func(r transport.TPM) (err error) {
		der, err = k.sign(r, digest)
		return err
	})
	return der, err
}

func (k citizenKey) sign(r transport.TPM, digest []byte) (der []byte, err error) {
	left, err := k.mayTry()
	if err != nil {
		return nil, err
	}
	srk, err := k.tpm.srk(r)
	if err != nil {
		return nil, err
	}
	auth := authValue(k.blob.salt, k.pin)
	defer clear(auth)
	err = k.tpm.with(r, k.blob, func(h tpm2.AuthHandle) error {
		// The PIN has a session of its own: a session of go-tpm knows one
		// authorization value, and the storage root key's is empty.
		s, done, err := session(r, srk, inOnly, tpm2.Auth(auth))
		if err != nil {
			return err
		}
		defer done()
		h.Auth = s
		if err := k.setTries(left - 1); err != nil {
			return err
		}
		der, err = k.blob.sign(r, h, digest)
		return k.judge(r, err, left)
	}, inOnly)
	return der, err
}

// judge settles the try that was counted. Only what the TPM says of the PIN
// itself, or of not having looked at it, is taken for that.
func (k citizenKey) judge(r transport.TPM, err error, left int) error {
	var rc tpm2.TPMRC
	switch {
	case err == nil:
		return k.setTries(MaxTries)
	case !errors.As(err, &rc):
		return err
	case rc == tpm2.TPMRCLockout:
		return errors.Join(lockout(r), k.setTries(left))
	case !errors.Is(rc, tpm2.TPMRCAuthFail) && !errors.Is(rc, tpm2.TPMRCBadAuth):
		return err
	case left == 1:
		return ErrKeyLost
	}
	return &hsm.WrongPIN{Left: left - 1}
}

// mayTry is the number of tries left, if one may be used.
func (c Citizen) mayTry() (int, error) {
	left, err := c.Tries()
	switch {
	case err != nil:
		return 0, err
	case left == 0:
		return 0, ErrKeyLost
	case left == 1 && !c.insist:
		return 0, ErrLastTry
	}
	return left, nil
}

func (c Citizen) triesFile() string { return c.name + ".tries" }

// Tries is how many wrong PINs the key takes before it is lost. A missing or
// damaged count is ErrKeyFile: it never becomes a full one.
func (c Citizen) Tries() (int, error) {
	name := filepath.Join(c.tpm.citizens(), c.triesFile())
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		if _, gone := os.Stat(filepath.Join(c.tpm.citizens(), KeyName(c.name).file())); errors.Is(gone, os.ErrNotExist) {
			return 0, ErrNoCitizen
		}
		return 0, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if err != nil {
		return 0, err
	}
	n, ok := parseTries(b)
	if !ok {
		return 0, fmt.Errorf("read %s: %w", name, ErrKeyFile)
	}
	return n, nil
}

// A count is one decimal digit and a line feed.
func parseTries(b []byte) (int, bool) {
	if len(b) != 2 || b[0] < '0' || b[0] > '0'+MaxTries || b[1] != '\n' {
		return 0, false
	}
	return int(b[0] - '0'), true
}

func (c Citizen) setTries(n int) error {
	return durable.Replace(filepath.Join(c.tpm.citizens(), c.triesFile()), []byte{'0' + byte(n), '\n'})
}
