package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// What a session encrypts is the first parameter of command and answer, if
// that is a TPM2B; of any other the TPM refuses it (TPM 2.0 Part 1, 21). These
// options are for commands where it is not.
var (
	inOnly   = tpm2.AESEncryption(128, tpm2.EncryptIn) // TPM2_Sign answers with a TPMT_SIGNATURE
	authOnly = tpm2.AESEncryption(128, 0)              // the counter and its value are no secrets
)

// session opens an HMAC session for one operation (TPM 2.0 Part 1, 19):
// SHA-256, salted to srk, both first parameters encrypted with AES-128-CFB.
// Only a TPM that holds srk can answer in it. done ends it and may be called
// whatever happened.
func session(r transport.TPM, srk parent, opts ...tpm2.AuthOption) (s tpm2.Session, done func(), err error) {
	opts = append([]tpm2.AuthOption{tpm2.Salted(srk.Handle, srk.public), tpm2.AESEncryption(128, tpm2.EncryptInOut)}, opts...)
	s, _, err = tpm2.HMACSession(r, tpm2.TPMAlgSHA256, 16, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("start session: %w", unread(r, err))
	}
	// The handle is taken now: go-tpm forgets it when an answer claims, truly
	// or not, that the TPM has ended the session.
	h := s.Handle()
	return checked{s}, func() { flush(r, h) }, nil
}

// checked names the error of an answer whose HMAC is wrong.
type checked struct{ tpm2.Session }

func (c checked) Validate(rc tpm2.TPMRC, cc tpm2.TPMCC, parms []byte, names []tpm2.TPM2BName, i int, auth *tpm2.TPMSAuthResponse) error {
	if err := c.Session.Validate(rc, cc, parms, names, i, auth); err != nil {
		return fmt.Errorf("%w (%w)", ErrAltered, err)
	}
	return nil
}

// unread gives ErrAltered to an error that is neither the TPM's nor the
// transport's: go-tpm could not make sense of the answer, so that something may
// be loaded whose handle nobody knows.
func unread(r transport.TPM, err error) error {
	var rc tpm2.TPMRC
	if k, ok := r.(*runner); errors.As(err, &rc) || errors.Is(err, ErrAltered) || ok && k.broken != nil {
		return err
	}
	return fmt.Errorf("%w (%w)", ErrAltered, err)
}

// flush frees a slot. Where that fails the handle was not ours: the connection
// is given up, and the next one sweeps.
func flush(r transport.TPM, h tpm2.TPMHandle) {
	_, err := tpm2.FlushContext{FlushHandle: h}.Execute(r)
	if k, ok := r.(*runner); ok && err != nil && k.broken == nil {
		k.broken = fmt.Errorf("%w (flush %#x: %w)", ErrAltered, uint32(h), err)
	}
}
