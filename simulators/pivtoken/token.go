// Package pivtoken is a virtual PIV token: a card application of SP 800-73-4
// with Yubico's extensions that speaks bytes, for tests and demonstrations on
// machines without hardware.
//
// A [Token] behaves like a factory-new YubiKey until [Options] asks for
// something else; its faults are those that an enrollment must survive. Keys it
// generates are real keys and its signatures real signatures, but nothing here
// resists an attacker: state lives in memory, and the attestations chain to a
// test root ([Authority]).
//
// Not simulated: secure messaging, biometrics, the contactless interface,
// power loss between two writes, and side channels.
package pivtoken

import (
	"context"
	"slices"
	"sync"
	"time"

	"enrollkiosk/smartcard/apdu"
)

// Factory settings of PIN and PUK.
const (
	DefaultPIN = "123456"
	DefaultPUK = "12345678"
)

const (
	defaultTries      = 3
	defaultSerial     = 10000001
	defaultFormFactor = 0x01 // USB-A keychain

	touchTimeout = 15 * time.Second
	touchCache   = 15 * time.Second // of the policy "cached"

	maxChain  = 8192 // bytes collected from chained commands
	maxObject = 3052 // bytes of one data object
)

// Key references and the object of the attestation certificate (SP 800-73-4
// part 1, tables 3 and 4b; F9 is Yubico's).
const (
	slotAuthentication = 0x9A
	managementKeyRef   = 0x9B
	slotSignature      = 0x9C
	slotKeyManagement  = 0x9D
	slotCardAuth       = 0x9E
	slotFirstRetired   = 0x82
	slotLastRetired    = 0x95
	slotAttestation    = 0xF9
	objectAttestation  = 0x5FFF01
)

// Statuses that only this package names (ISO/IEC 7816-4 5.6).
const (
	statusNoChannel     = apdu.Status(0x6881)
	statusChainExpected = apdu.Status(0x6883)
	statusNoMemory      = apdu.Status(0x6A84)
)

const nitrokeySerial = 0x0052F743

var (
	defaultVersion       = version{5, 7, 4}
	nitrokeyVersion      = version{6, 6, 6}
	pivAppletVersion     = version{5, 0, 0}
	defaultManagementKey = []byte{
		1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8,
	}

	// Both offer T=1. The first is what a YubiKey 5 answers over USB.
	atrYubico = []byte{
		0x3B, 0xFD, 0x13, 0x00, 0x00, 0x81, 0x31, 0xFE, 0x15, 0x80, 0x73, 0xC0,
		0x21, 0xC0, 0x57, 0x59, 0x75, 0x62, 0x69, 0x4B, 0x65, 0x79, 0x40,
	}
	atrNIST = []byte{0x3B, 0x80, 0x80, 0x01, 0x01}
)

type version [3]byte

func (v version) atLeast(major, minor, patch byte) bool {
	return slices.Compare(v[:], []byte{major, minor, patch}) >= 0
}

// Options describes a token. The zero value is a factory-new token of firmware
// 5.7.4 with an attestation root nobody knows, touched as soon as it asks.
type Options struct {
	Serial     uint32     // 0 means 10000001
	Version    [3]byte    // firmware; zero means 5.7.4
	FormFactor byte       // as attested; zero means 1, a USB-A keychain
	Root       *Authority // issues the token's attestation certificate
	Faults     Fault      // what is wrong with it

	// Touch is the finger: it blocks until the token was touched (true) or
	// never will be (false), at most until ctx ends. nil touches at once.
	// The token may be reset meanwhile.
	Touch func(ctx context.Context) bool

	// Observe sees every command before it is executed, with its number since
	// the token was made, from 1. A card pulled in here (ctx of Transmit
	// ended) does not execute the command. It sees PINs.
	Observe func(n int, command []byte)
}

// Token is one virtual token. Its methods may be called from any goroutine;
// commands are executed one after the other.
type Token struct {
	serial     uint32
	version    version
	formFactor byte
	faults     Fault
	touch      func(context.Context) bool
	observe    func(int, []byte)

	transmit sync.Mutex // serialises commands; held while a touch is awaited

	mu       sync.Mutex // guards everything below; not held while waiting
	commands int
	epoch    int // counts resets, so that a wait notices one
	pin, puk reference
	admin    managementKey
	keys     map[byte]*key
	objects  map[uint32][]byte
	session  session
	donor    *Token // whose attestations a CopiedChain copies
}

// session is what a reset forgets.
type session struct {
	applet   applet
	verified bool // the PIN was verified since the application was selected
	fresh    bool // ... by the command before this one
	admin    bool // the management key was authenticated
	expected []byte
	expectBy byte // tag under which expected must come back
	chain    *apdu.Command
	rest     []byte // of an answer, for GET RESPONSE
	touched  time.Time
}

type applet int

const (
	appletNone applet = iota
	appletPIV
	appletManagement
	appletOTP
)

// New makes a token. It panics when the system cannot make keys.
func New(o Options) *Token {
	t := &Token{
		serial:     o.Serial,
		version:    o.Version,
		formFactor: o.FormFactor,
		faults:     o.Faults,
		touch:      o.Touch,
		observe:    o.Observe,
		keys:       make(map[byte]*key),
		objects:    make(map[uint32][]byte),
	}
	if t.serial == 0 {
		t.serial = defaultSerial
	}
	if t.version == (version{}) {
		t.version = defaultVersion
	}
	switch {
	case t.has(LikeNitrokey): // piv-authenticator says the same of every token
		t.serial, t.version = nitrokeySerial, nitrokeyVersion
	case t.has(LikePivApplet):
		t.version = pivAppletVersion
	}
	if t.formFactor == 0 {
		t.formFactor = defaultFormFactor
	}
	t.factory()
	if err := t.manufacture(o.Root); err != nil {
		panic("pivtoken: " + err.Error())
	}
	return t
}

// factory sets what INS RESET sets: everything but the attestation key.
func (t *Token) factory() {
	t.pin = newReference(DefaultPIN, defaultTries)
	t.puk = newReference(DefaultPUK, defaultTries)
	t.admin = managementKey{alg: alg3DES, key: defaultManagementKey}
	if !t.has(PlainNIST|LikePivApplet) && t.version.atLeast(5, 7, 0) {
		t.admin.alg = algAES192
	}
	for slot := range t.keys {
		if slot != slotAttestation {
			delete(t.keys, slot)
		}
	}
	for tag := range t.objects {
		if tag != objectAttestation {
			delete(t.objects, tag)
		}
	}
}

func (t *Token) has(f Fault) bool { return t.faults&f != 0 }

// ATR is the answer to reset.
func (t *Token) ATR() []byte {
	if t.has(PlainNIST) {
		return slices.Clone(atrNIST)
	}
	return slices.Clone(atrYubico)
}

// Reset forgets the session: selection, PIN and administrator state. Keys,
// objects, PINs and counters stay. A command that waits for a touch goes on
// waiting but will do nothing.
func (t *Token) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
	t.session = session{}
}

// Transmit executes one command and returns the answer, at least two bytes. It
// blocks while a touch is awaited, until ctx ends or 15 seconds have passed.
func (t *Token) Transmit(ctx context.Context, command []byte) []byte {
	t.transmit.Lock()
	defer t.transmit.Unlock()

	t.mu.Lock()
	t.commands++
	n := t.commands
	t.mu.Unlock()
	if t.observe != nil {
		t.observe(n, slices.Clone(command))
	}
	if ctx.Err() != nil {
		return apdu.Response{Status: apdu.UnknownError}.Bytes()
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	c, err := apdu.ParseCommand(command)
	if err != nil {
		return apdu.Response{Status: apdu.WrongLength}.Bytes()
	}
	return t.exchange(ctx, c).Bytes()
}

// exchange handles chaining in both directions (ISO/IEC 7816-4 5.3).
func (t *Token) exchange(ctx context.Context, c apdu.Command) apdu.Response {
	s := &t.session
	if c.INS == insGetResponse && c.CLA == 0 {
		if len(s.rest) == 0 {
			return apdu.Response{Status: apdu.ConditionsNotSatisfied}
		}
		return t.answer(c, s.rest)
	}
	s.rest = nil

	switch {
	case c.CLA == 0x00 || c.CLA == 0x10:
	case c.CLA&0xFC == 0 || c.CLA&0xFC == 0x10:
		return apdu.Response{Status: statusNoChannel}
	case c.CLA&0x0C != 0 && c.CLA&0xE0 == 0:
		return apdu.Response{Status: apdu.SMNotSupported}
	default:
		return apdu.Response{Status: apdu.ClassNotSupported}
	}

	if first := s.chain; first != nil {
		s.chain = nil
		if c.INS == first.INS && c.P1 == first.P1 && c.P2 == first.P2 {
			c.Data = append(first.Data, c.Data...)
		} else if c.INS != insSelect {
			return apdu.Response{Status: statusChainExpected}
		}
	}
	if len(c.Data) > maxChain {
		return apdu.Response{Status: apdu.WrongLength}
	}
	if c.CLA == 0x10 {
		s.chain = &c
		return apdu.Response{Status: apdu.OK}
	}

	data, status := t.execute(ctx, c)
	if status != apdu.OK {
		return apdu.Response{Status: status}
	}
	return t.answer(c, data)
}

// answer returns as much of data as c allows and keeps the rest.
func (t *Token) answer(c apdu.Command, data []byte) apdu.Response {
	limit := c.Le
	if limit == 0 {
		limit = apdu.MaxShortLe // tools leave Le out under T=1 and still expect an answer
	}
	if len(data) <= limit {
		t.session.rest = nil
		return apdu.Response{Data: data, Status: apdu.OK}
	}
	t.session.rest = data[limit:]
	return apdu.Response{
		Data:   data[:limit],
		Status: 0x6100 | apdu.Status(min(len(t.session.rest), 256)&0xFF),
	}
}

// outside runs wait without the lock and reports whether the session is still
// the same afterwards.
func (t *Token) outside(wait func()) bool {
	epoch := t.epoch
	func() {
		t.mu.Unlock()
		defer t.mu.Lock()
		wait()
	}()
	return t.epoch == epoch
}

// awaitTouch waits for a finger.
func (t *Token) awaitTouch(ctx context.Context) apdu.Status {
	touched := true
	same := t.outside(func() {
		ctx, cancel := context.WithTimeout(ctx, touchTimeout)
		defer cancel()
		switch {
		case t.has(NoTouch):
			<-ctx.Done()
			touched = false
		case t.touch != nil:
			touched = t.touch(ctx) && ctx.Err() == nil
		}
	})
	switch {
	case !same:
		return apdu.UnknownError
	case !touched:
		return apdu.SecurityNotSatisfied
	}
	t.session.touched = time.Now()
	return apdu.OK
}
