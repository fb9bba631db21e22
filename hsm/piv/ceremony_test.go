package piv_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	upstream "github.com/go-piv/piv-go/v2/piv"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/simulators/pivtoken"
)

// ceremony is a token's making as the flow does it, one part after another, each
// on the token opened anew. A part that the token's removal interrupted is done
// again when back brought it back: PIN and keys after a reset, Lock by repeating
// it with the same administrator, a signature by making it again.
type ceremony struct {
	reader string
	back   func() // nil: it stays away
	spec   piv.KeySpec
	digest int // bytes that the key signs; 0: 32
	keys   piv.Keys
	begun  bool
}

func (c *ceremony) run(ctx context.Context) error {
	for _, part := range []func(context.Context, *piv.Token) error{c.probe, c.make, c.lock, c.sign} {
		for {
			err := c.open(ctx, part)
			if err == nil {
				break
			}
			if !errors.Is(err, hsm.ErrRemoved) || c.back == nil {
				return err
			}
			c.back()
		}
	}
	return nil
}

func (c *ceremony) open(ctx context.Context, part func(context.Context, *piv.Token) error) error {
	t, err := piv.Open(ctx, c.reader)
	if err != nil {
		return err
	}
	err = part(ctx, t)
	if closeErr := t.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (c *ceremony) probe(_ context.Context, t *piv.Token) error {
	switch i := t.Info(); {
	case !i.CanAttest:
		return hsm.ErrCannotAttest
	case !i.FactoryNew:
		return hsm.ErrNotFactoryNew
	case !i.CanAgree:
		return hsm.ErrUnsupported
	}
	return nil
}

func (c *ceremony) make(ctx context.Context, t *piv.Token) error {
	if !t.Info().FactoryNew {
		if !c.begun {
			return hsm.ErrNotFactoryNew
		}
		if err := t.Reset(ctx); err != nil {
			return err
		}
	}
	c.begun = true
	if err := t.SetPIN(ctx, text(citizenPIN)); err != nil {
		return err
	}
	var err error
	c.keys, err = t.GenerateKeys(ctx, text(citizenPIN), c.spec, nil)
	return err
}

func (c *ceremony) lock(ctx context.Context, t *piv.Token) error {
	return t.Lock(ctx, text(citizenPIN), admin)
}

func (c *ceremony) sign(ctx context.Context, t *piv.Token) error {
	if err := t.Ready(); err != nil {
		return err
	}
	k, err := t.Key(ctx, piv.Authentication, text(citizenPIN))
	if err != nil {
		return err
	}
	digest := make([]byte, cmp.Or(c.digest, 32))
	rand.Read(digest)
	if _, err := k.Sign(ctx, digest); err != nil {
		return err
	}
	if !k.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(c.keys.Authentication.Public) {
		return errors.New("signature of another key")
	}
	return nil
}

// The token is pulled at every single command of its making, before the token
// sees the command and after it has executed it. In the end it is ready: the
// citizen's PIN works, nothing of the factory's does, and the keys whose evidence
// was returned are the keys that sign.
func TestMadeReadyWhateverTheMomentItIsPulled(t *testing.T) {
	for _, answered := range []bool{false, true} {
		t.Run(whichCommand(answered), func(t *testing.T) {
			everyCommand(t, func(t *testing.T, n int) bool {
				ctx := within(t, 30*time.Second)
				r, card := insert(t, pivtoken.Options{})
				defer r.Remove()
				pulled := pullAt(r, n, answered)
				c := ceremony{reader: r.Name(), spec: piv.KeySpec{Retired: make([]hsm.KeyRule, 1)}, back: func() { r.Insert(card) }}
				if err := c.run(ctx); err != nil {
					t.Fatalf("command %d: %v", n, err)
				}
				r.Trace(nil)
				locked(t, r, card)
				r.Insert(card)
				madeReady(t, ctx, r.Name(), c.keys)
				return pulled.Load()
			})
		})
	}
}

// madeReady finds a token finished, from the token alone.
func madeReady(t *testing.T, ctx context.Context, reader string, keys piv.Keys) {
	t.Helper()
	token := open(t, ctx, reader)
	defer token.Close()
	if i := token.Info(); !i.Ready || i.FactoryNew || i.PINTries != 3 || i.PUKTries != 3 {
		t.Errorf("%+v", i)
	}
	if err := token.Ready(); err != nil {
		t.Error(err)
	}
	if err := token.Authenticate(ctx, admin.ManagementKey); err != nil {
		t.Error(err)
	}
	wants(t, "factory management key", token.Authenticate(ctx, text(string(factoryKey))), piv.ErrOtherAdmin)
	var wrong *hsm.WrongPIN
	if err := token.VerifyPIN(ctx, text(pivtoken.DefaultPIN)); !errors.As(err, &wrong) {
		t.Errorf("the factory's PIN: %v", err)
	}
	var wrongPUK *piv.WrongPUK
	if err := token.Unblock(ctx, text(pivtoken.DefaultPUK), text("802469")); !errors.As(err, &wrongPUK) {
		t.Errorf("the factory's PUK: %v", err)
	}
	k, err := token.Key(ctx, piv.Authentication, text(citizenPIN))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("again"))
	if _, err := k.Sign(ctx, digest[:]); err != nil {
		t.Errorf("the citizen's PIN: %v", err)
	}
	for slot, pair := range map[piv.Slot]piv.KeyPair{piv.Authentication: keys.Authentication, piv.KeyManagement: keys.KeyManagement} {
		if _, err := attest.VerifyPIV(pair.Evidence, roots(t), expect(slot, pair.Public)); err != nil {
			t.Errorf("slot %v: %v", slot, err)
		}
		now, err := token.Key(ctx, slot, text(citizenPIN))
		if err != nil || !now.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(pair.Public) {
			t.Errorf("slot %v holds another key than was attested: %v", slot, err)
		}
	}
}

var factoryKey = []byte{1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}

// Whoever has forgotten everything (a kiosk that was started anew) finds a token
// that was begun, is told so, and cannot hand it out; a reset makes it good again.
func TestBegunTokenIsNotTakenForFinished(t *testing.T) {
	everyCommand(t, func(t *testing.T, n int) bool {
		ctx := within(t, 30*time.Second)
		r, card := insert(t, pivtoken.Options{})
		defer r.Remove()
		pulled := pullAt(r, n, true)
		gone := errors.New("gone for good")
		c := ceremony{reader: r.Name(), back: func() { panic(gone) }}
		func() {
			defer func() {
				if p := recover(); p != nil && p != any(gone) {
					panic(p)
				}
			}()
			if err := c.run(ctx); err != nil {
				t.Error(err)
			}
		}()
		r.Trace(nil)
		r.Insert(card)
		again := ceremony{reader: r.Name()}
		token := open(t, ctx, r.Name())
		defer token.Close()
		info, err := token.Info(), token.Ready()
		if info.Ready != (err == nil) || info.Ready && info.FactoryNew {
			t.Errorf("command %d: %+v, %v", n, info, err)
		}
		if !info.Ready {
			wants(t, fmt.Sprintf("command %d: ready", n), err, hsm.ErrFactoryCredentials)
		}
		if !info.FactoryNew {
			wants(t, fmt.Sprintf("command %d: begin again", n), again.make(ctx, token), hsm.ErrNotFactoryNew)
			if err := token.Reset(ctx); err != nil || !token.Info().FactoryNew {
				t.Errorf("command %d: %v", n, err)
			}
		}
		if err := again.make(ctx, token); err != nil {
			t.Errorf("command %d: after a reset: %v", n, err)
		}
		return pulled.Load()
	})
}

// A token that takes what it is told and does nothing is not ready.
func TestTokenThatLiesAboutItsCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		ins, p2 byte
	}{"PUK": {0x24, 0x81}, "management key": {0xFF, 0xFF}} {
		t.Run(name, func(t *testing.T) {
			r := bench(t)
			r.Insert(altered{pivtoken.New(pivtoken.Options{Root: authority}), func(_ context.Context, command []byte) []byte {
				if command[1] == c.ins && command[3] == c.p2 {
					return []byte{0x90, 0}
				}
				return nil
			}})
			e := ceremony{reader: r.Name()}
			wants(t, name, e.run(within(t, 10*time.Second)), hsm.ErrFactoryCredentials)
		})
	}
}

// Each of the three credentials alone keeps a token from being ready.
func TestReadyWantsAllThree(t *testing.T) {
	ctx := within(t, 10*time.Second)
	set := map[string]func(*upstream.YubiKey) error{
		"PIN":            func(y *upstream.YubiKey) error { return y.SetPIN(pivtoken.DefaultPIN, citizenPIN) },
		"PUK":            func(y *upstream.YubiKey) error { return y.SetPUK(pivtoken.DefaultPUK, "31415926") },
		"management key": func(y *upstream.YubiKey) error { return y.SetManagementKey(factoryKey, bytes.Repeat([]byte{7}, 24)) },
	}
	for missing := range set {
		r, _ := insert(t, pivtoken.Options{})
		y, err := upstream.Open(r.Name())
		if err != nil {
			t.Fatal(err)
		}
		for name, replace := range set {
			if name != missing {
				if err := replace(y); err != nil {
					t.Fatal(err)
				}
			}
		}
		y.Close()
		token := open(t, ctx, r.Name())
		err = token.Ready()
		wants(t, missing, err, hsm.ErrFactoryCredentials)
		if token.Info().Ready || token.Info().FactoryNew || !strings.Contains(err.Error(), missing) {
			t.Errorf("%s: %+v, %v", missing, token.Info(), err)
		}
	}
}

// Keys are made in empty slots only, in retired ones too, which a probe does not
// look into.
func TestNoKeyIsOverwritten(t *testing.T) {
	ctx := within(t, 10*time.Second)
	r, _ := insert(t, pivtoken.Options{})
	y, err := upstream.Open(r.Name())
	if err != nil {
		t.Fatal(err)
	}
	slot, _ := upstream.RetiredKeyManagementSlot(0x82)
	public, err := y.GenerateKey(upstream.DefaultManagementKey, slot,
		upstream.Key{Algorithm: upstream.AlgorithmEC256, PINPolicy: upstream.PINPolicyOnce, TouchPolicy: upstream.TouchPolicyNever})
	y.Close()
	if err != nil {
		t.Fatal(err)
	}
	e := ceremony{reader: r.Name(), spec: piv.KeySpec{Retired: make([]hsm.KeyRule, 1)}}
	wants(t, "a key in 82", e.run(ctx), hsm.ErrNotFactoryNew)
	d, err := piv.Describe(ctx, r.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range d.Slots {
		if o.Ref == piv.Retired(0) && !o.Public.(interface{ Equal(crypto.PublicKey) bool }).Equal(public) {
			t.Error("the key is another one")
		}
	}
}

// A token that answers a key agreement with anything is not taken for one that
// can agree.
func TestTokenThatAgreesOnNonsense(t *testing.T) {
	for name, answer := range map[string][]byte{
		"another secret": append(append([]byte{0x7C, 34, 0x82, 32}, bytes.Repeat([]byte{0x5A}, 32)...), 0x90, 0x00),
		"half a secret":  append(append([]byte{0x7C, 18, 0x82, 16}, bytes.Repeat([]byte{0x5A}, 16)...), 0x90, 0x00),
	} {
		r := bench(t)
		r.Insert(altered{pivtoken.New(pivtoken.Options{Root: authority}), func(_ context.Context, c []byte) []byte {
			if c[1] == 0x87 && c[3] == 0x9D {
				return answer
			}
			return nil
		}})
		e := ceremony{reader: r.Name()}
		wants(t, name, e.run(within(t, 10*time.Second)), hsm.ErrUnsupported)
	}
}

// Whatever the algorithm, the key signs what records ask for and its evidence is
// of it; the retired slots are filled in order.
func TestAlgorithmsAndPolicies(t *testing.T) {
	ctx := within(t, time.Minute)
	for _, algorithm := range []hsm.Algorithm{hsm.P256, hsm.P384, hsm.Ed25519, hsm.RSA2048} {
		t.Run(string(algorithm), func(t *testing.T) {
			r, _ := insert(t, pivtoken.Options{})
			token := open(t, ctx, r.Name())
			if err := token.SetPIN(ctx, text(citizenPIN)); err != nil {
				t.Fatal(err)
			}
			rule := hsm.KeyRule{Algorithm: algorithm, PIN: hsm.PINAlways, Touch: hsm.TouchNever}
			var seen []hsm.Progress
			keys, err := token.GenerateKeys(ctx, text(citizenPIN), piv.KeySpec{Authentication: rule, KeyManagement: hsm.KeyRule{Algorithm: hsm.P384},
				Retired: []hsm.KeyRule{rule, {}}}, func(p hsm.Progress) { seen = append(seen, p) })
			if err != nil {
				t.Fatal(err)
			}
			if len(keys.Retired) != 2 || len(seen) != 9 || seen[8] != hsm.TouchNow {
				t.Errorf("%d retired, %v", len(keys.Retired), seen)
			}
			if err := token.Lock(ctx, text(citizenPIN), admin); err != nil {
				t.Fatal(err)
			}
			token.Close()
			token = open(t, ctx, r.Name())
			k, err := token.Key(ctx, piv.Authentication, text(citizenPIN))
			if err != nil {
				t.Fatal(err)
			}
			message := bytes.Repeat([]byte("message"), 300)
			good := map[hsm.Algorithm][]byte{hsm.P256: make([]byte, 32), hsm.P384: make([]byte, 48), hsm.Ed25519: message, hsm.RSA2048: make([]byte, 32)}
			for of, digest := range good {
				_, err := k.Sign(ctx, digest)
				switch {
				case len(digest) == len(good[algorithm]) || algorithm == hsm.Ed25519:
					if err != nil {
						t.Errorf("%d bytes: %v", len(digest), err)
					}
				default:
					wants(t, "digest for "+string(of), err, hsm.ErrUnsupported)
				}
			}
			d, err := piv.Describe(ctx, closed(t, token, r.Name()))
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []string{"9A " + string(algorithm) + " always never generated", "9D p-384 once cached generated",
				"82 " + string(algorithm) + " always never generated", "83 p-256 once cached generated", "F9 p-256 never never imported"} {
				o := d.Slots[i]
				if got := fmt.Sprint(o.Slot, " ", o.Algorithm, " ", o.PIN, " ", o.Touch, " ", o.Origin); got != want {
					t.Errorf("%s, want %s", got, want)
				}
				if (o.Evidence != nil) != (o.Slot != "F9") {
					t.Errorf("slot %s: evidence %v", o.Slot, o.Evidence != nil)
				}
			}
		})
	}
}

// closed gives a token back and returns its reader's name.
func closed(t *testing.T, token *piv.Token, reader string) string {
	t.Helper()
	if err := token.Close(); err != nil {
		t.Error(err)
	}
	return reader
}

// What a token cannot do is refused with a type, and a reset leaves nothing.
func TestTokenThatCannot(t *testing.T) {
	ed := piv.KeySpec{Authentication: hsm.KeyRule{Algorithm: hsm.Ed25519}}
	for name, c := range map[string]struct {
		fault pivtoken.Fault
		spec  piv.KeySpec
		probe bool // CanAgree
		made  int  // keys made before it was found out
	}{
		"no ECDH, said at once":      {pivtoken.NoAgreement, piv.KeySpec{}, false, 2},
		"no ECDH, said of a key":     {pivtoken.LateAgreement, piv.KeySpec{}, true, 2},
		"no Ed25519":                 {pivtoken.NoEd25519, ed, true, 1},
		"Ed25519 cannot agree":       {0, piv.KeySpec{KeyManagement: hsm.KeyRule{Algorithm: hsm.Ed25519}}, true, 0},
		"nobody's algorithm":         {0, piv.KeySpec{Authentication: hsm.KeyRule{Algorithm: "rot-13"}}, true, 0},
		"nobody's policy":            {0, piv.KeySpec{Authentication: hsm.KeyRule{Touch: "gently"}}, true, 0},
		"more slots than there are":  {0, piv.KeySpec{Retired: make([]hsm.KeyRule, 21)}, true, 0},
		"a retired slot nobody made": {pivtoken.NoEd25519, piv.KeySpec{Retired: []hsm.KeyRule{{Algorithm: hsm.Ed25519}}}, true, 3},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := insert(t, pivtoken.Options{Faults: c.fault})
			count := counting(r)
			ctx := within(t, 10*time.Second)
			token := open(t, ctx, r.Name())
			if i := token.Info(); i.CanAgree != c.probe || !i.FactoryNew {
				t.Errorf("%+v", i)
			}
			if err := token.SetPIN(ctx, text(citizenPIN)); err != nil {
				t.Fatal(err)
			}
			_, err := token.GenerateKeys(ctx, text(citizenPIN), c.spec, nil)
			wants(t, "generate", err, hsm.ErrUnsupported)
			if n := count(generate); n != c.made {
				t.Errorf("%d keys, want %d", n, c.made)
			}
			if err := token.Reset(ctx); err != nil || !token.Info().FactoryNew {
				t.Errorf("reset: %v, %+v", err, token.Info())
			}
		})
	}
}

// The kind of management key is found out by asking, not from a version.
func TestManagementKeyOfWhatTheTokenTakes(t *testing.T) {
	for name, c := range map[string]struct {
		version [3]byte
		length  int
		want    string
	}{
		"AES-192": {[3]byte{5, 7, 4}, 24, "aes-192"}, "AES-256": {[3]byte{5, 7, 4}, 32, "aes-256"}, "AES-128": {[3]byte{5, 4, 3}, 16, "aes-128"},
		"3DES where AES is unknown": {[3]byte{5, 3, 0}, 24, "3des"}, "no AES-256": {[3]byte{5, 3, 0}, 32, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t, 10*time.Second)
			r, _, token := born(t, ctx, pivtoken.Options{Version: c.version})
			mine := piv.Admin{PUK: admin.PUK, ManagementKey: text(string(bytes.Repeat([]byte{0x15, 0x8A, 0x3E}, 11)[:c.length]))}
			err := token.Lock(ctx, text(citizenPIN), mine)
			if c.want == "" {
				wants(t, "lock", err, hsm.ErrUnsupported)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := token.Authenticate(ctx, mine.ManagementKey); err != nil {
				t.Errorf("on the same connection: %v", err)
			}
			d, err := piv.Describe(ctx, closed(t, token, r.Name()))
			if err != nil || d.Management.Algorithm != c.want || d.Management.Setting != piv.Replaced || !d.Ready {
				t.Errorf("%+v, %v", d.Management, err)
			}
		})
	}
}
