package tpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"enrollkiosk/hsm"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// bootPCRs is how many PCRs a quote is about: 0 to 7, which firmware and boot
// loader measure themselves into (TCG PC Client Platform Firmware Profile 3.3.4).
const bootPCRs = 8

// quoteTries bounds quoting while something keeps extending a PCR.
const quoteTries = 5

// Quote has the attestation key state the boot PCRs of the SHA-256 bank
// (TPM2_Quote). qualifying, 1 to 32 bytes, is the verifier's nonce. A TPM
// without that bank is hsm.ErrUnsupported.
func (t *TPM) Quote(ctx context.Context, qualifying []byte) (hsm.TPMQuote, error) {
	if len(qualifying) == 0 || len(qualifying) > 32 {
		return hsm.TPMQuote{}, fmt.Errorf("quote: qualifying data of %d bytes: %w", len(qualifying), hsm.ErrUnsupported)
	}
	var out hsm.TPMQuote
	err := t.do(ctx, "quote", func(r transport.TPM) error {
		signer, err := t.blob(ak)
		if err != nil {
			return err
		}
		return t.with(r, signer, func(ak tpm2.AuthHandle) error {
			for range quoteTries {
				values, err := readPCRs(r)
				if err != nil {
					return err
				}
				got, err := tpm2.Quote{
					SignHandle:     ak,
					QualifyingData: tpm2.TPM2BData{Buffer: qualifying},
					InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
					PCRSelect:      selectPCRs(0xFF),
				}.Execute(r)
				if err != nil {
					return err
				}
				attest, err := got.Quoted.Contents()
				if err != nil {
					return fmt.Errorf("%w (%w)", hsm.ErrUnavailable, err)
				}
				quoted, err := attest.Attested.Quote()
				if err != nil {
					return fmt.Errorf("%w (%w)", hsm.ErrUnavailable, err)
				}
				h := sha256.New()
				for _, v := range values {
					h.Write(v.Value)
				}
				if bytes.Equal(quoted.PCRDigest.Buffer, h.Sum(nil)) {
					out = hsm.TPMQuote{Attest: got.Quoted.Bytes(), Signature: tpm2.Marshal(got.Signature), PCRs: values}
					return nil
				} // a PCR was extended between reading and quoting
			}
			return fmt.Errorf("%w (the PCRs keep changing)", hsm.ErrUnavailable)
		})
	})
	return out, err
}

// readPCRs reads them one by one: how many a TPM returns at once is its choice.
func readPCRs(r transport.TPM) ([]hsm.PCR, error) {
	out := make([]hsm.PCR, bootPCRs)
	for i := range out {
		got, err := tpm2.PCRRead{PCRSelectionIn: selectPCRs(1 << i)}.Execute(r)
		if err != nil {
			return nil, fmt.Errorf("read pcr %d: %w", i, err)
		}
		if d := got.PCRValues.Digests; len(d) != 1 || len(d[0].Buffer) != sha256.Size {
			return nil, fmt.Errorf("read pcr %d: no SHA-256 bank: %w", i, hsm.ErrUnsupported)
		}
		out[i] = hsm.PCR{Index: i, Value: got.PCRValues.Digests[0].Buffer}
	}
	return out, nil
}

// selectPCRs selects among 0 to 7 of the SHA-256 bank (TPM 2.0 Part 2, 10.6.2).
func selectPCRs(bits byte) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: []byte{bits, 0, 0}}}}
}
