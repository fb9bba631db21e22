// Package tpm keeps a kiosk's identity in a TPM 2.0: an attestation key, the
// key that signs records, the TLS client key, and the counter that numbers
// records. It also keeps the keys of citizens who have no token of their own
// ("station custody", [Citizen]).
//
// Keys are born in the TPM under its storage root key and never leave it
// usable: on disk stands what the TPM encrypted for itself, as TSS2 key files.
// The attestation key certifies the birth of the others, for hsm/attest to
// verify elsewhere. The counter is an NV counter: it never goes back.
//
// The kiosk's own objects are exempt from dictionary-attack protection and have
// an empty authorization value. What guards them is that they work on this
// machine only and that the device and the key files belong to the service's
// user. So an unclean stop or a citizen's wrong PINs never lock the kiosk out,
// and there is no secret to lose. A citizen's key is guarded by its PIN and
// protected.
//
// Whatever uses a key, makes one or carries a secret runs in an HMAC session
// salted to the storage root key that the key files name: parameters are
// encrypted, and an answer that was altered on the bus is found. What a TPM
// says when it refuses is not authenticated by any TPM.
//
// An operation loads what it needs into at most three transient and three
// session slots, of which the storage root key takes one, and flushes it on
// every path. The owner hierarchy must have an empty authorization while Init
// runs. The package holds no key for which the TPM has a substitute: without
// TPM there is no kiosk.
package tpm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"enrollkiosk/hsm"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Defaults of Options.
const (
	DefaultCounter = 0x01800100 // owner range of NV indexes
	DefaultSRK     = 0x81000001 // TCG TPM v2.0 Provisioning Guidance 7.8
	DefaultTimeout = 30 * time.Second
)

// Options say where the TPM and its key files are.
type Options struct {
	Path    string        // "/dev/tpmrm0" (best), "/dev/tpm0", "tbs" on Windows, or "unix:/path" of a raw socket
	Dir     string        // key files, and citizens' in citizens below it; Init makes it
	Counter uint32        // NV index of the counter; 0 is DefaultCounter
	SRK     uint32        // persistent handle of the storage root key; 0 is DefaultSRK
	Timeout time.Duration // for one command; 0 is DefaultTimeout
}

// Errors of this package, beside those of package hsm.
var (
	// ErrNotInitialized: Init has not run here, or not to its end.
	ErrNotInitialized = errors.New("the kiosk's keys have not been made yet: run kiosk init")
	// ErrOtherTPM: the key files were made with another TPM, or this one was cleared since.
	ErrOtherTPM = errors.New("the kiosk's key files belong to another TPM: call staff")
	// ErrOtherBinding: the keys exist and were bound to other outside information at birth.
	ErrOtherBinding = errors.New("the kiosk's keys were made for another kiosk id")
	// ErrForeign: a handle or index that we need is taken by something else.
	ErrForeign = errors.New("the TPM holds something else in the kiosk's place: configure another handle")
	// ErrOwned: Init needs the owner's authorization, and somebody has set one.
	ErrOwned = errors.New("somebody has taken ownership of this TPM: have its owner authorization made empty, or clear it in the firmware")
	// ErrAltered: an answer that the TPM did not give, or a command that it did not get as we sent it.
	ErrAltered = errors.New("what the TPM and the kiosk tell each other is altered on its way: call staff")
)

// KeyName names a key of the kiosk; its file is the name with ".tss2.pem".
type KeyName string

// Keys that the attestation key certifies.
const (
	Record KeyName = "record" // signs enrollment records
	TLS    KeyName = "tls"    // client key towards the registry
	ak     KeyName = "ak"
)

func (n KeyName) file() string { return string(n) + ".tss2.pem" }

// TPM is an open TPM. Its methods may be called from several goroutines; they
// run one after the other. After a failed exchange the next call connects
// anew.
type TPM struct {
	options Options

	lock   chan struct{} // holds one token while free; a mutex that a context can leave
	device device        // nil while disconnected
	root   *parent       // what srk read on this connection; nil after a failure
	shared bool
	opened bool // Open has succeeded
	closed bool

	mu   sync.Mutex // guards keys, beside lock, so that a public key needs no wait
	keys map[KeyName]*blob
}

// Open connects to the TPM and reads the key files, if there are any. Errors:
// hsm.ErrNoDevice, hsm.ErrBusy when another program holds the socket,
// hsm.ErrUnavailable, ErrOtherTPM.
func Open(ctx context.Context, o Options) (*TPM, error) {
	if o.Counter == 0 {
		o.Counter = DefaultCounter
	}
	if o.SRK == 0 {
		o.SRK = DefaultSRK
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	t := &TPM{options: o, lock: make(chan struct{}, 1), keys: map[KeyName]*blob{}}
	t.lock <- struct{}{}
	for _, name := range []KeyName{ak, Record, TLS} {
		b, err := load(o.Dir, name.file())
		if err != nil {
			return nil, fmt.Errorf("open tpm: %w", err)
		}
		if b != nil && b.salt != nil {
			return nil, fmt.Errorf("open tpm: key %s: %w: a citizen's", name, ErrKeyFile)
		}
		if b != nil {
			t.keys[name] = b
		}
	}
	err := t.do(ctx, "open tpm", func(r transport.TPM) error {
		if len(t.keys) == 0 {
			return nil
		}
		_, err := t.srk(r)
		return err
	})
	if err != nil {
		_ = t.Close()
		return nil, err
	}
	t.opened = true
	return t, nil
}

// do runs f with the TPM to itself and says what an error means. f must leave
// nothing loaded.
func (t *TPM) do(ctx context.Context, what string, f func(transport.TPM) error) (err error) {
	select {
	case <-t.lock:
		defer func() { t.lock <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	defer func() {
		if err != nil {
			t.root = nil
			err = fmt.Errorf("%s: %w", what, err)
		}
	}()
	if t.closed {
		return os.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.device == nil {
		if err := t.connect(ctx); err != nil {
			return classify(err)
		}
	}
	r := &runner{ctx: ctx, device: t.device, timeout: t.options.Timeout}
	// go-tpm reads answers by reflection; a malformed one must not take the
	// kiosk down.
	defer func() {
		if p := recover(); p != nil {
			r.broken = fmt.Errorf("%w (%w: %v)", hsm.ErrUnavailable, errFraming, p)
			err = r.broken
		}
		// After an altered answer nobody knows what is loaded; of a new
		// connection that is nothing.
		if r.broken != nil || errors.Is(err, ErrAltered) || slices.ContainsFunc(full, func(rc tpm2.TPMRC) bool { return errors.Is(err, rc) }) {
			t.disconnect()
		}
	}()
	return classify(f(r))
}

// full are the codes of a TPM without a free slot. We leave none occupied.
var full = []tpm2.TPMRC{tpm2.TPMRCObjectMemory, tpm2.TPMRCObjectHandles, tpm2.TPMRCSessionMemory, tpm2.TPMRCSessionHandles}

// firstAnswer is how long a socket gets to answer at all. A raw socket serves
// one client; the next one is accepted and then hears nothing.
const firstAnswer = 5 * time.Second

// connect dials and, where the TPM is ours alone, clears what a crashed
// predecessor left loaded. What is loaded in a shared one is others'.
func (t *TPM) connect(ctx context.Context) error {
	d, shared, err := dial(ctx, t.options.Path)
	if err != nil {
		if t.opened && errors.Is(err, hsm.ErrNoDevice) {
			return fmt.Errorf("%w (%v)", hsm.ErrUnavailable, err)
		}
		return err
	}
	return t.attach(ctx, d, shared)
}

func (t *TPM) attach(ctx context.Context, d device, shared bool) (err error) {
	t.device, t.shared = d, shared
	r := &runner{ctx: ctx, device: d, timeout: t.options.Timeout}
	if !shared {
		r.timeout = min(r.timeout, firstAnswer)
		err = sweep(r)
	}
	if err != nil {
		t.disconnect() // the next call sweeps again
		if errors.Is(r.broken, context.DeadlineExceeded) && strings.HasPrefix(t.options.Path, "unix:") && ctx.Err() == nil {
			return fmt.Errorf("%w (%v)", hsm.ErrBusy, err)
		}
		return err
	}
	return nil
}

func (t *TPM) disconnect() {
	if t.device != nil {
		_ = t.device.Close()
		t.device = nil
	}
	t.root = nil
}

// sweep flushes all transient objects and loaded and saved sessions.
func sweep(r transport.TPM) error {
	for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} {
		list, err := handles(r, first)
		if err != nil {
			return err
		}
		for _, h := range list {
			if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(r); err != nil {
				return fmt.Errorf("flush %#x: %w", uint32(h), err)
			}
		}
	}
	return nil
}

// handles lists what exists from first on, in first's own range.
func handles(r transport.TPM, first uint32) ([]tpm2.TPMHandle, error) {
	got, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 64}.Execute(r)
	if err != nil {
		return nil, fmt.Errorf("list handles: %w", err)
	}
	list, err := got.CapabilityData.Data.Handles()
	if err != nil {
		return nil, fmt.Errorf("list handles: %w", err)
	}
	return list.Handle, nil
}

// classify adds to a TPM's response code what the person can do.
func classify(err error) error {
	var rc tpm2.TPMRC
	if !errors.As(err, &rc) || errors.Is(err, hsm.ErrLockout) || errors.Is(err, ErrOwned) {
		return err
	}
	switch {
	case rc == tpm2.TPMRCLockout:
		return fmt.Errorf("%w (%w)", hsm.ErrLockout, err)
	case slices.Contains(again, rc), slices.Contains(full, rc), rc == tpm2.TPMRCFailure, rc == tpm2.TPMRCCanceled, rc == tpm2.TPMRCInitialize, rc == tpm2.TPMRCNVUnavailable:
		return fmt.Errorf("%w (%w)", hsm.ErrUnavailable, err)
	case errors.Is(rc, tpm2.TPMRCIntegrity):
		return fmt.Errorf("%w (%w)", ErrOtherTPM, err)
	case errors.Is(rc, tpm2.TPMRCBadAuth), errors.Is(rc, tpm2.TPMRCAuthFail):
		// Our authorizations are empty or derived from the session alone.
		return fmt.Errorf("%w (%w)", ErrAltered, err)
	case rc == tpm2.TPMRCCommandCode, errors.Is(rc, tpm2.TPMRCCurve), errors.Is(rc, tpm2.TPMRCScheme):
		return fmt.Errorf("%w (%w)", hsm.ErrUnsupported, err)
	}
	return err
}

// Close shuts the TPM down in order, unless it is shared, and disconnects.
// A TPM that is gone already is no error.
func (t *TPM) Close() error {
	<-t.lock
	defer func() { t.lock <- struct{}{} }()
	if t.closed {
		return nil
	}
	t.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), firstAnswer)
	defer cancel()
	if t.device == nil && t.opened && !t.shared {
		_ = t.connect(ctx) // the last operation was given up: clear what it left
	}
	if t.device != nil && !t.shared {
		// Without it the TPM counts the next start as an attack, if a
		// citizen's key was used.
		r := &runner{ctx: ctx, device: t.device, timeout: t.options.Timeout}
		_, _ = tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(r)
	}
	t.disconnect()
	return nil
}

// parent is the storage root key, ready to be named in a command.
type parent struct {
	tpm2.NamedHandle
	public tpm2.TPMTPublic
}

func (p parent) auth(s tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: p.Handle, Name: p.Name, Auth: s}
}

// srk reads the storage root key and compares it with the one that the key
// files were born under. Its name is computed here, not believed. Once is
// enough for a connection: a session salted to it works with no other key.
func (t *TPM) srk(r transport.TPM) (parent, error) {
	if t.root != nil {
		return *t.root, nil
	}
	p, err := readSRK(r, t.options.SRK)
	if errors.Is(err, tpm2.TPMRCHandle) {
		if len(t.keys) > 0 {
			return parent{}, fmt.Errorf("storage root key: %w (%w)", ErrOtherTPM, err)
		}
		return parent{}, fmt.Errorf("storage root key: %w (%w)", ErrNotInitialized, err)
	}
	if err != nil {
		return parent{}, err
	}
	for name, b := range t.keys {
		if !bytes.Equal(b.srk, p.Name.Buffer) || b.parent != t.options.SRK {
			return parent{}, fmt.Errorf("key %s: %w", name, ErrOtherTPM)
		}
	}
	if len(t.keys) > 0 { // pinned
		t.root = &p
	}
	return p, nil
}

func readSRK(r transport.TPM, handle uint32) (parent, error) {
	got, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(handle)}.Execute(r)
	if err != nil {
		return parent{}, fmt.Errorf("read storage root key: %w", err)
	}
	public, err := got.OutPublic.Contents()
	if err != nil {
		return parent{}, fmt.Errorf("read storage root key: %w", err)
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return parent{}, fmt.Errorf("read storage root key: %w", err)
	}
	a := public.ObjectAttributes
	if !a.Restricted || !a.Decrypt || a.SignEncrypt || !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.UserWithAuth {
		return parent{}, fmt.Errorf("handle %#x is no storage root key: %w", handle, ErrForeign)
	}
	return parent{tpm2.NamedHandle{Handle: tpm2.TPMHandle(handle), Name: *name}, *public}, nil
}

// Init makes what is missing of the kiosk's keys and counter and leaves what
// is there: it may be run again, also after a power cut at any point. Each key
// is bound at birth to outside, for a verifier to compare.
//
// It also sets the dictionary-attack parameters, [Protection], if the lockout
// authorization is empty. Otherwise they belong to whoever set it:
// [Info].Protection tells them.
//
// The storage root key is made without a session, for want of a key to salt
// one to; that it is the TPM's own is for a verifier to find out.
func (t *TPM) Init(ctx context.Context, outside [32]byte) error {
	if err := os.MkdirAll(t.options.Dir, 0o700); err != nil {
		return fmt.Errorf("make tpm keys: %w", err)
	}
	return t.do(ctx, "make tpm keys", func(r transport.TPM) error {
		for name, b := range t.keys {
			if !bytes.Equal(b.outside, outside[:]) {
				return fmt.Errorf("key %s: %w", name, ErrOtherBinding)
			}
		}
		srk, err := t.srk(r)
		if errors.Is(err, ErrNotInitialized) {
			srk, err = makeSRK(r, t.options.SRK)
		}
		if err != nil {
			return err
		}
		for _, name := range []KeyName{ak, Record, TLS} {
			if t.keys[name] != nil {
				continue
			}
			b, err := create(r, srk, template(name == ak), nil, outside)
			if err != nil {
				return fmt.Errorf("create key %s: %w", name, err)
			}
			if err := b.store(t.options.Dir, name.file()); err != nil {
				return fmt.Errorf("store key %s: %w", name, err)
			}
			t.mu.Lock()
			t.keys[name] = b
			t.mu.Unlock()
		}
		if err := makeCounter(r, srk, t.options.Counter); err != nil {
			return err
		}
		return protect(r, srk)
	})
}

func makeSRK(r transport.TPM, handle uint32) (parent, error) {
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner,
		InPublic:      tpm2.New2B(tpm2.ECCSRKTemplate),
	}.Execute(r)
	if err != nil {
		return parent{}, fmt.Errorf("create storage root key: %w", owned(err))
	}
	defer flush(r, made.ObjectHandle)
	_, err = tpm2.EvictControl{
		Auth:             tpm2.TPMRHOwner,
		ObjectHandle:     tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name},
		PersistentHandle: tpm2.TPMHandle(handle),
	}.Execute(r)
	if err != nil {
		return parent{}, fmt.Errorf("keep storage root key: %w", owned(err))
	}
	return readSRK(r, handle)
}

// owned says of a command under the owner hierarchy what a refused
// authorization means.
func owned(err error) error {
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return fmt.Errorf("%w (%w)", ErrOwned, err)
	}
	return err
}

// template is a P-256 key that signs with ECDSA and SHA-256, for ever in this
// TPM, born there. A restricted key signs only what the TPM itself made.
func template(restricted bool) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgECC,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
			UserWithAuth: true, NoDA: true, SignEncrypt: true, Restricted: restricted,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
		}),
	}
}

// create makes one key under srk with an authorization value, which may be
// empty. A key whose coordinates came out short is thrown away for another.
func create(r transport.TPM, srk parent, public tpm2.TPMTPublic, auth []byte, outside [32]byte) (*blob, error) {
	s, done, err := session(r, srk)
	if err != nil {
		return nil, err
	}
	defer done()
	for {
		made, err := tpm2.Create{
			ParentHandle: srk.auth(s),
			InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: auth}}},
			InPublic:     tpm2.New2B(public),
			OutsideInfo:  tpm2.TPM2BData{Buffer: outside[:]},
		}.Execute(r)
		if err != nil {
			return nil, err
		}
		b := &blob{
			parent:  uint32(srk.Handle),
			public:  made.OutPublic.Bytes(),
			private: made.OutPrivate.Buffer,
			creation: tssCreation{
				Data:   made.CreationData.Bytes(),
				Hash:   made.CreationHash.Buffer,
				Ticket: tpm2.Marshal(made.CreationTicket),
			},
		}
		switch err := b.derive(); {
		case errors.Is(err, errShortPoint):
			continue
		case err != nil:
			return nil, err
		case !bytes.Equal(b.outside, outside[:]) || !bytes.Equal(b.srk, srk.Name.Buffer):
			return nil, fmt.Errorf("%w (%w: creation data of another key)", hsm.ErrUnavailable, errFraming)
		}
		return b, nil
	}
}

// AttestationKey is the kiosk's restricted signing key, which certifies the
// others.
type AttestationKey struct {
	Public     []byte // TPMT_PUBLIC
	Name       []byte // TPM name: algorithm and SHA-256 of Public
	Key        *ecdsa.PublicKey
	ParentName []byte // name of the storage root key above all our keys
}

// AttestationKey returns it; ErrNotInitialized before Init.
func (t *TPM) AttestationKey() (AttestationKey, error) {
	b, err := t.blob(ak)
	if err != nil {
		return AttestationKey{}, err
	}
	return AttestationKey{slices.Clone(b.public), slices.Clone(b.name), b.key, slices.Clone(b.srk)}, nil
}

// Ready is ErrNotInitialized until all keys are there.
func (t *TPM) Ready() error {
	for _, name := range []KeyName{ak, Record, TLS} {
		if _, err := t.blob(name); err != nil {
			return err
		}
	}
	return nil
}

func (t *TPM) blob(name KeyName) (*blob, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.keys[name]
	if b == nil {
		return nil, fmt.Errorf("key %s: %w", name, ErrNotInitialized)
	}
	return b, nil
}
