package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The methods of this file bring the TPM into a state. They talk to it as one
// more client, so that nobody else may be connected: they wait a few seconds
// for that and then fail.

// responseCode is a TPM_RC (TPM 2.0 Part 2, 6.6).
type responseCode uint32

const (
	rcLockout  responseCode = 0x921
	rcRetry    responseCode = 0x922
	rcAuthFail responseCode = 0x98E // of session 1
)

func (c responseCode) Error() string { return fmt.Sprintf("response code %#x", uint32(c)) }

// Handles and the authorization with a password (TPM 2.0 Part 2, 7.4).
const (
	rhNull    = 0x40000007
	rsPW      = 0x40000009
	rhLockout = 0x4000000A
)

// command encodes a command: its code, its handles of which the first is
// authorized with password, its parameters.
func command(code uint32, handle uint32, password string, parameters ...byte) []byte {
	u16, u32 := binary.BigEndian.AppendUint16, binary.BigEndian.AppendUint32
	b := u32(u32([]byte{0x80, 0x02, 0, 0, 0, 0}, code), handle)
	b = u32(b, uint32(4+2+1+2+len(password)))
	b = append(u16(u32(b, rsPW), 0), 0) // no nonce, no attributes
	b = append(u16(b, uint16(len(password))), password...)
	b = append(b, parameters...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b
}

// run is exchange, asked again while the TPM says TPM_RC_RETRY.
func (i *Instance) run(ctx context.Context, command []byte) (b []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for range 10 {
		if b, err = i.exchange(ctx, command); !errors.Is(err, rcRetry) {
			return b, err
		}
	}
	return nil, err
}

// SetDictionaryAttack sets after how many wrong authorizations the TPM locks
// out, and how long it takes to forgive one, in whole seconds
// (TPM2_DictionaryAttackParameters). The lockout authorization must be empty.
func (i *Instance) SetDictionaryAttack(ctx context.Context, maxTries uint32, recovery time.Duration) error {
	u32 := binary.BigEndian.AppendUint32
	p := u32(u32(u32(nil, maxTries), uint32(recovery/time.Second)), uint32(recovery/time.Second))
	if _, err := i.run(ctx, command(0x13A, rhLockout, "", p...)); err != nil {
		return fmt.Errorf("set dictionary attack parameters: %w", err)
	}
	return nil
}

// SetLockoutAuth makes the lockout authorization password
// (TPM2_HierarchyChangeAuth), as an owner does who keeps it. It must be empty
// before.
func (i *Instance) SetLockoutAuth(ctx context.Context, password string) error {
	p := append(binary.BigEndian.AppendUint16(nil, uint16(len(password))), password...)
	if _, err := i.run(ctx, command(0x129, rhLockout, "", p...)); err != nil {
		return fmt.Errorf("set lockout authorization: %w", err)
	}
	return nil
}

// ResetLockout forgives all wrong tries (TPM2_DictionaryAttackLockReset).
func (i *Instance) ResetLockout(ctx context.Context) error {
	if _, err := i.run(ctx, command(0x139, rhLockout, "")); err != nil {
		return fmt.Errorf("reset lockout: %w", err)
	}
	return nil
}

// Lockout gives wrong passwords for an object of its own until the TPM refuses
// protected objects (TPM_RC_LOCKOUT).
func (i *Instance) Lockout(ctx context.Context) error {
	h, err := i.run(ctx, sealed)
	if err != nil || len(h) < 4 {
		return fmt.Errorf("lock out: make an object: %w", err)
	}
	handle := binary.BigEndian.Uint32(h)
	unseal := command(0x15E, handle, "wrong")
	for range 1000 {
		if _, err = i.run(ctx, unseal); !errors.Is(err, rcAuthFail) {
			break
		}
	}
	if !errors.Is(err, rcLockout) {
		return fmt.Errorf("lock out: a wrong password: %w", err)
	}
	flush := binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 14, 0, 0, 0x01, 0x65}, handle)
	if _, err := i.run(ctx, flush); err != nil {
		return fmt.Errorf("lock out: flush the object: %w", err)
	}
	return nil
}

// sealed is TPM2_CreatePrimary of a protected object: a keyedHash under the
// null hierarchy that seals one byte under the password "right".
var sealed = command(0x131, rhNull, "",
	0, 10, 0, 5, 'r', 'i', 'g', 'h', 't', 0, 1, 7, // TPM2B_SENSITIVE_CREATE: userAuth, data
	0, 14, 0, 8, 0, 0x0B, 0, 0, 0, 0x52, 0, 0, // TPM2B_PUBLIC: keyedHash, SHA-256, fixedTPM | fixedParent | userWithAuth, no policy
	0, 0x10, 0, 0, // TPM_ALG_NULL, no unique
	0, 0, // no outside info
	0, 0, 0, 0, // no PCR
)

// ExtendPCR extends a register of the SHA-256 bank with a digest, as a changed
// firmware does (TPM2_PCR_Extend).
func (i *Instance) ExtendPCR(ctx context.Context, index int, digest [32]byte) error {
	if index < 0 || index > 23 {
		return fmt.Errorf("extend pcr: no register %d", index)
	}
	p := append([]byte{0, 0, 0, 1, 0, 0x0B}, digest[:]...) // TPML_DIGEST_VALUES: one, SHA-256
	if _, err := i.run(ctx, command(0x182, uint32(index), "", p...)); err != nil {
		return fmt.Errorf("extend pcr %d: %w", index, err)
	}
	return nil
}
