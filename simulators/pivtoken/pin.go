package pivtoken

import (
	"bytes"
	"crypto/subtle"
	"fmt"

	"enrollkiosk/smartcard/apdu"
)

const (
	pinLength  = 8 // padded with FF (SP 800-73-4 part 2, 2.4.3)
	pinMinimum = 6
)

// reference is a PIN or PUK with its retry counter.
type reference struct {
	value       [pinLength]byte
	initial     bool // still the factory's
	total, left int
}

func newReference(value string, tries int) reference {
	return reference{value: pad(value), initial: true, total: tries, left: tries}
}

func pad(value string) (p [pinLength]byte) {
	for i := range p {
		p[i] = 0xFF
	}
	copy(p[:], value)
	return p
}

// check compares and counts.
func (r *reference) check(value []byte) apdu.Status {
	if r.left == 0 {
		return apdu.AuthenticationBlocked
	}
	if subtle.ConstantTimeCompare(value, r.value[:]) != 1 {
		r.left--
		return triesLeft(r.left)
	}
	r.left = r.total
	return apdu.OK
}

// state is the answer to a VERIFY without data.
func (r *reference) state() apdu.Status {
	if r.left == 0 {
		return apdu.AuthenticationBlocked
	}
	return triesLeft(r.left)
}

func (r *reference) set(value []byte) {
	r.value = [pinLength]byte(value)
	r.initial = false
	r.left = r.total
}

// triesLeft has four bits to say it in.
func triesLeft(n int) apdu.Status { return 0x63C0 | apdu.Status(min(n, 15)) }

// wellFormed says whether a new PIN or PUK has 6 to 8 bytes, padded with FF.
func wellFormed(value []byte) bool {
	content := bytes.TrimRight(value, "\xFF")
	return len(content) >= pinMinimum && !bytes.Contains(content, []byte{0xFF})
}

// SetPIN gives the token another PIN of 6 to 8 characters, with all its tries.
func (t *Token) SetPIN(pin string) error {
	padded := pad(pin)
	if len(pin) > pinLength || !wellFormed(padded[:]) {
		return fmt.Errorf("set pin: want %d to %d characters", pinMinimum, pinLength)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pin.set(padded[:])
	return nil
}
