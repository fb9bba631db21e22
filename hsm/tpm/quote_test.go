package tpm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"

	"github.com/google/go-tpm/tpm2"
)

var quoteNonce = sha256.Sum256([]byte("quote"))

func TestQuote(t *testing.T) {
	i, w, d := wired(t)
	ak, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	want := attest.QuoteExpect{AK: ak.Public, ParentName: ak.ParentName, QualifyingData: quoteNonce[:]}
	first, err := d.Quote(t.Context(), quoteNonce[:])
	if err != nil {
		t.Fatal(err)
	}
	before, err := attest.VerifyQuote(first, want)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Quote(t.Context(), make([]byte, 33)); !errors.Is(err, hsm.ErrUnsupported) {
		t.Errorf("long nonce: %v", err)
	}

	// A PCR that is extended between reading and quoting is read again; one that
	// never rests is no quote.
	extends := 1
	w.set(func(command []byte, ask func([]byte) []byte) []byte {
		if code(command) == tpm2.TPMCCQuote && extends > 0 {
			extends--
			// TPM2_PCR_Extend of PCR 3 with a password session (TPM 2.0 Part 3, 22.2).
			extend := []byte{0x80, 2, 0, 0, 0, 0, 0, 0, 0x01, 0x82, 0, 0, 0, 3, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0B}
			extend = append(extend, make([]byte, 32)...)
			binary.BigEndian.PutUint32(extend[2:], uint32(len(extend)))
			if a := ask(extend); binary.BigEndian.Uint32(a[6:]) != 0 {
				t.Errorf("extend: %x", a)
			}
		}
		return ask(command)
	})
	second, err := d.Quote(t.Context(), quoteNonce[:])
	if err != nil {
		t.Fatal(err)
	}
	after, err := attest.VerifyQuote(second, want)
	if err != nil || after == before || after[3] == [32]byte{} || after[2] != before[2] {
		t.Errorf("after an extension: %x, %v", after[3], err)
	}
	extends = 1000
	if _, err := d.Quote(t.Context(), quoteNonce[:]); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("restless: %v", err)
	}
	w.set(nil)
	_ = d.Close()
	if list := loaded(t, i); len(list) > 0 {
		t.Errorf("%#x stay loaded", list)
	}
}

// tpm2_checkquote accepts our quote, and VerifyQuote one that tpm2_quote made
// with our key.
func TestForeignToolsAgreeOnQuotes(t *testing.T) {
	i, dir, d := initialized(t)
	ak, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	q, err := d.Quote(t.Context(), quoteNonce[:])
	if err != nil {
		t.Fatal(err)
	}
	_ = d.Close() // one client at a time
	tmp := t.TempDir()
	in := func(name string) string { return filepath.Join(tmp, name) }
	put := func(name string, b []byte) string {
		t.Helper()
		if err := os.WriteFile(in(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return in(name)
	}
	const list = "sha256:0,1,2,3,4,5,6,7"
	nonce := hex.EncodeToString(quoteNonce[:])
	text, err := os.ReadFile(filepath.Join(dir, "ak.tss2.pem"))
	if err != nil {
		t.Fatal(err)
	}
	public, private := keyFile(t, text)
	tool(t, i, "tpm2_load", "-C", "0x81000001", "-u", put("pub", public), "-r", put("priv", private), "-c", in("ctx"))
	tool(t, i, "tpm2_flushcontext", "-t")
	tool(t, i, "tpm2_quote", "-c", in("ctx"), "-l", list, "-q", nonce, "-m", in("msg"), "-s", in("sig"), "-o", in("pcrs"))
	// The tools' own reading of the PCRs, our quote.
	check := []string{"-u", in("pub"), "-m", put("ours.msg", q.Attest), "-s", put("ours.sig", q.Signature), "-g", "sha256", "-f", in("pcrs"), "-q"}
	tool(t, i, "tpm2_checkquote", append(check, nonce)...)
	theirs := hsm.TPMQuote{PCRs: q.PCRs}
	if theirs.Attest, err = os.ReadFile(in("msg")); err != nil {
		t.Fatal(err)
	}
	if theirs.Signature, err = os.ReadFile(in("sig")); err != nil {
		t.Fatal(err)
	}
	want := attest.QuoteExpect{AK: ak.Public, ParentName: ak.ParentName, QualifyingData: quoteNonce[:]}
	if _, err := attest.VerifyQuote(theirs, want); err != nil {
		t.Errorf("of tpm2_quote: %v", err)
	}
	tool(t, i, "tpm2_quote", "-c", in("ctx"), "-l", "sha256:0,1,2,3,4,5,6", "-q", nonce, "-m", in("msg"), "-s", in("sig"))
	theirs.Attest, _ = os.ReadFile(in("msg"))
	theirs.Signature, _ = os.ReadFile(in("sig"))
	var refused *attest.Error
	if _, err := attest.VerifyQuote(theirs, want); !errors.As(err, &refused) || refused.Check != attest.CheckSelection {
		t.Errorf("of fewer PCRs: %v", err)
	}
	if bytes.Equal(theirs.Attest, q.Attest) {
		t.Error("the tools made nothing")
	}
}
