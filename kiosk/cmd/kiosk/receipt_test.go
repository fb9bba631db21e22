package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry/checkpoint/logtest"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

func writeIn(t *testing.T, dir, name string, b []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A final receipt is held against the policy's log key and witnesses, offline, or
// against keys that the command line names.
func TestReceiptVerifyByPolicy(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 3))
	id, blind := [32]byte{1}, [32]byte{2}
	leaf := receipt.Leaf(blind, id)
	l.Fill(4, "others")
	l.Add(leaf[:])
	l.Fill(5, "others")
	final := func(witnesses ...int) []byte {
		return receipt.Build(4, l.Path(t, 4, 10), l.Signed(t, 10, witnesses...), blind, id)
	}
	s := newSettingWith(t, "/dev/none", func(p *policy.Policy, _ record.AuthorityPrivateKey) {
		p.LogKey, p.Witnesses, p.WitnessQuorum = l.Key.Log.Key, l.Key.Log.Witnesses, 2
	})
	good, one := writeIn(t, s.dir, "good", final(0, 2)), writeIn(t, s.dir, "one", final(1))
	r := wants(t, exitDone, "", s.config, "receipt", "verify", good)
	for _, says := range []string{"leaf     4 of 10", "witness  witness.example/w1 at", "witness  witness.example/w3 at", "The record is in the log."} {
		if !strings.Contains(r.out, says) {
			t.Errorf("no %q in %s", says, r.out)
		}
	}
	r = wants(t, exitDone, "", s.config, "receipt", "verify", good, "--json")
	var shown finalReport
	if err := json.Unmarshal([]byte(r.out), &shown); err != nil || shown.Kind != "final" || shown.ID != hex.EncodeToString(id[:]) || len(shown.Witnesses) != 2 {
		t.Errorf("%v in %s", err, r.out)
	}
	wants(t, exitRefused, "too few witnesses", s.config, "receipt", "verify", one)
	byHand := []string{"receipt", "verify", "--log-key", l.Key.Log.Key, "--witness", l.Key.Log.Witnesses[0], "--witness", l.Key.Log.Witnesses[1]}
	wants(t, exitDone, "", "", append(byHand, "--quorum", "1", one)...)
	wants(t, exitRefused, "too few witnesses", "", append(byHand, "--quorum", "2", one)...)
	wants(t, exitUsage, "--quorum is missing", "", append(byHand, one)...)
	wants(t, exitUsage, "go with --log-key", s.config, "receipt", "verify", "--quorum", "1", one)
	wants(t, exitUsage, "--log-key is missing", "", "receipt", "verify", one)

	// The log has another key since; the old one has ended at the tree of this receipt.
	old := l.Key
	end, err := l.Key.Log.Open(l.Signed(t, 10))
	if err != nil {
		t.Fatal(err)
	}
	l.Fill(2, "others")
	forged := writeIn(t, s.dir, "forged", receipt.Build(4, l.Path(t, 4, 11), l.Signed(t, 11, 0, 1, 2), blind, id))
	wants(t, exitDone, "", s.config, "receipt", "verify", forged)
	l.Key = old.Rotate(t).Retire(end)
	renewed := newSettingWith(t, "/dev/none", func(p *policy.Policy, _ record.AuthorityPrivateKey) {
		p.LogKey, p.EarlierLogs, p.Witnesses, p.WitnessQuorum = l.Key.Log.Key, l.Key.Log.Earlier, l.Key.Log.Witnesses, 2
	})
	keys := l.Key.Log.Keys()
	byHand = []string{"receipt", "verify", "--log-key", keys[0], "--log-key", keys[1]}
	inFile := []string{"receipt", "verify", "--log-key", writeIn(t, s.dir, "log.vkey", []byte(strings.Join(keys, "\n")+"\n"))}
	wants(t, exitDone, "", renewed.config, "receipt", "verify", good)
	wants(t, exitDone, "", "", append(byHand, good)...)
	wants(t, exitDone, "", "", append(inFile, good)...)
	wants(t, exitRefused, "ended at 10 leaves, this tree has 11", renewed.config, "receipt", "verify", forged)
	wants(t, exitRefused, "ended at 10 leaves, this tree has 11", "", append(byHand, forged)...)
	wants(t, exitRefused, "ended at 10 leaves, this tree has 11", "", append(inFile, forged)...)
	wants(t, exitUsage, "the present one comes first", "", "receipt", "verify", "--log-key", keys[1], good)
	l.Key = old
	b := final(0, 2)
	for i := 0; i < len(b); i += 97 {
		wants(t, exitRefused, "", s.config, "receipt", "verify", writeIn(t, s.dir, "bad", flip(b, i)))
	}
}

// A provisional receipt is held against its kiosk's certificate, and that against
// the authority over kiosks that the policy names.
func TestProvisionalReceiptVerify(t *testing.T) {
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	now := time.Now().UTC().Truncate(time.Second)
	certify := func(name string, key, by *ecdsa.PrivateKey, parent *x509.Certificate) *x509.Certificate {
		template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: parent == nil, BasicConstraintsValid: true,
			NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
		if parent == nil {
			parent, template.KeyUsage = template, x509.KeyUsageCertSign
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	caKey, recordKey := newKey(), newKey()
	ca := certify("Kiosks", caKey, caKey, nil)
	own := certify("KIOSK-0001", recordKey, caKey, ca)
	s := newSettingWith(t, "/dev/none", func(p *policy.Policy, _ record.AuthorityPrivateKey) {
		p.KioskCA = []policy.Root{{Certificate: ca.Raw, Class: record.Test}}
	})
	give := func(change func(*receipt.Provisional)) string {
		p := receipt.Provisional{Record: [32]byte{1}, Audience: "registry.example/log", Kiosk: "KIOSK-0001", Sequence: 7, Time: now, Claim: "QX7"}
		if change != nil {
			change(&p)
		}
		b, err := receipt.SignProvisional(t.Context(), p, authority{recordKey})
		if err != nil {
			t.Fatal(err)
		}
		return writeIn(t, s.dir, "provisional", append(b, '\n'))
	}
	cert := writeIn(t, s.dir, "kiosk.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Raw}))
	verify := []string{"receipt", "verify", "--certificate", cert}
	r := wants(t, exitDone, "", s.config, append(verify, give(nil))...)
	if !strings.Contains(r.out, "KIOSK-0001, number 7") || !strings.Contains(r.out, "the final receipt says") {
		t.Error(r.out)
	}
	r = wants(t, exitDone, "", s.config, append(verify, give(nil), "--json", "--id", "01"+strings.Repeat("00", 31))...)
	var shown provisionalReport
	if err := json.Unmarshal([]byte(r.out), &shown); err != nil || shown.Kind != "provisional" || shown.Sequence != 7 || !shown.Time.Equal(now) {
		t.Errorf("%v in %s", err, r.out)
	}
	wants(t, exitRefused, "another record", s.config, append(verify, give(nil), "--id", strings.Repeat("ab", 32))...)
	wants(t, exitUsage, "run `kiosk provision", s.config, "receipt", "verify", give(nil))
	wants(t, exitUsage, "--config", "", append(verify, give(nil))...)
	for name, change := range map[string]func(*receipt.Provisional){
		"another kiosk's name": func(p *receipt.Provisional) { p.Kiosk = "KIOSK-0002" },
		"another registry's":   func(p *receipt.Provisional) { p.Audience = "other.example/log" },
		"before its time":      func(p *receipt.Provisional) { p.Time = now.Add(-48 * time.Hour) },
		"after its time":       func(p *receipt.Provisional) { p.Time = now.Add(48 * time.Hour) },
	} {
		if r := wants(t, exitRefused, "receipt-signature", s.config, append(verify, give(change))...); t.Failed() {
			t.Fatal(name, r)
		}
	}
	stranger := newKey()
	for name, c := range map[string]*x509.Certificate{
		"another key":           certify("KIOSK-0001", newKey(), caKey, ca),
		"a stranger's":          certify("KIOSK-0001", recordKey, stranger, certify("Kiosks", stranger, stranger, nil)),
		"another kiosk of ours": certify("KIOSK-0002", recordKey, caKey, ca),
	} {
		if r := wants(t, exitRefused, "receipt-signature", s.config, "receipt", "verify", "--certificate", writeIn(t, s.dir, "other.der", c.Raw), give(nil)); t.Failed() {
			t.Fatal(name, r)
		}
	}
	good, err := os.ReadFile(give(nil))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(good)-1; i += 41 {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		wants(t, exitRefused, "", s.config, append(verify, writeIn(t, s.dir, "bad", bad))...)
	}
}
