package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
)

// runReceiptVerify checks a receipt offline: a final one by the log's key and its
// witnesses', a provisional one by the certificate of the kiosk that gave it.
func runReceiptVerify(_ context.Context, c *command) error {
	f := receiptFlags{}
	c.flags.Var(&f.keys, "log-key", "the log's verifier key, or a `file` that holds it (log.vkey); an earlier key of the log after it, as \"KEY SIZE ROOT\"; default: the policy of this kiosk")
	c.flags.Var(&f.witnesses, "witness", "with --log-key: a witness's verifier `key`; may stand several times")
	c.flags.IntVar(&f.quorum, "quorum", 0, "with --log-key: so `many` of the witnesses must have cosigned")
	c.flags.StringVar(&f.id, "id", "", "record `id` in hex; default: the one in the receipt")
	c.flags.StringVar(&f.certificate, "certificate", "", "of a provisional receipt: `file` with the certificate of the kiosk that gave it, PEM or DER; default: this kiosk's")
	args, err := c.flagsDone("FILE")
	if err != nil {
		return err
	}
	b, err := readFile(args[0])
	if err != nil {
		return err
	}
	if provisional(b) {
		return c.verifyProvisional(f, bytes.TrimSpace(b))
	}
	of, err := c.logOf(f)
	if err != nil {
		return err
	}
	want, err := wantedID(f.id, b)
	if err != nil {
		return err
	}
	final, err := receipt.Verify(b, of, want)
	if err != nil {
		return err
	}
	out := finalReport{Kind: "final", ID: hex.EncodeToString(want[:]), Origin: final.Origin(), Index: final.Index(), Size: final.Size()}
	human := fmt.Sprintf("record   %s\nlog      %s\nleaf     %d of %d", out.ID, out.Origin, out.Index, out.Size)
	for _, s := range final.Checkpoint().Cosigned() {
		out.Witnesses = append(out.Witnesses, cosigned{s.Witness, s.Time})
		human += fmt.Sprintf("\nwitness  %s at %s", s.Witness, s.Time.Format(time.RFC3339))
	}
	return c.print(human+"\nThe record is in the log.", out)
}

type finalReport struct {
	Kind      string     `json:"kind"`
	ID        string     `json:"id"`
	Origin    string     `json:"origin"`
	Index     uint64     `json:"index"`
	Size      uint64     `json:"size"`
	Witnesses []cosigned `json:"witnesses,omitempty"`
}

type cosigned struct {
	Name string    `json:"name"`
	Time time.Time `json:"time"`
}

type provisionalReport struct {
	Kind     string    `json:"kind"`
	ID       string    `json:"id"`
	Origin   string    `json:"origin"`
	Kiosk    string    `json:"kiosk"`
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
}

type receiptFlags struct {
	id, certificate string
	keys, witnesses list
	quorum          int
}

// list collects a flag that may stand several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// provisional tells the two kinds apart: a compact JWS is one line with two dots.
func provisional(b []byte) bool {
	return bytes.HasPrefix(b, []byte("eyJ")) && bytes.Count(b, []byte(".")) == 2
}

// logOf is what the command line, or this kiosk's policy, holds a final receipt
// against.
func (c *command) logOf(f receiptFlags) (checkpoint.Log, error) {
	if f.keys == nil {
		if len(f.witnesses) > 0 || f.quorum != 0 {
			return checkpoint.Log{}, usageError{"--witness and --quorum go with --log-key: the policy has its own"}
		}
		p, err := c.policy()
		if err != nil {
			return checkpoint.Log{}, usageError{"--log-key is missing: the verifier key of the log; and no policy of a kiosk is here: " + err.Error()}
		}
		return p.Log(), nil
	}
	for i, key := range f.keys {
		if b, err := readFile(key); err == nil {
			f.keys[i] = strings.TrimSpace(string(b))
		}
	}
	if len(f.witnesses) > 0 && f.quorum == 0 {
		return checkpoint.Log{}, usageError{"--quorum is missing: how many of the witnesses must have cosigned"}
	}
	of, err := checkpoint.ParseKeys(f.keys...)
	if err != nil {
		return of, usageError{"--log-key: " + err.Error()}
	}
	of.Witnesses, of.Quorum = f.witnesses, f.quorum
	return of, nil
}

func (c *command) policy() (policy.Policy, error) {
	config, err := c.load()
	if err != nil {
		return policy.Policy{}, err
	}
	return station.Policy(config)
}

func (c *command) verifyProvisional(f receiptFlags, b []byte) error {
	p, err := c.policy()
	if err != nil {
		return usageError{"a provisional receipt takes the policy of a kiosk (--config), which names the authority over kiosks: " + err.Error()}
	}
	chain, err := c.kioskChain(f.certificate)
	if err != nil {
		return err
	}
	v, err := verifyProvisional(b, p, chain)
	if err != nil {
		return err
	}
	claims := v.Claims()
	out := provisionalReport{"provisional", hex.EncodeToString(claims.Record[:]), claims.Audience, claims.Kiosk, claims.Sequence, claims.Time}
	if f.id != "" && f.id != out.ID {
		return receipt.ErrRecord
	}
	return c.print(fmt.Sprintf("record   %s\nlog      %s\nkiosk    %s, number %d\ngiven    %s\nThe kiosk has taken the record on. Whether the registry has it, the final receipt says.",
		out.ID, out.Origin, out.Kiosk, out.Sequence, out.Time.Format(time.RFC3339)), out)
}

func (c *command) kioskChain(file string) ([]*x509.Certificate, error) {
	var ders [][]byte
	if file == "" {
		config, err := c.load()
		if err != nil {
			return nil, err
		}
		if ders, err = station.RecordCertificate(config); err != nil {
			return nil, fmt.Errorf("%w; --certificate names another kiosk's", err)
		}
	} else {
		b, err := readFile(file)
		if err != nil {
			return nil, err
		}
		for rest := b; ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			ders = append(ders, block.Bytes)
		}
		if ders == nil {
			ders = [][]byte{b}
		}
	}
	var chain []*x509.Certificate
	for _, der := range ders {
		x, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, usageError{"--certificate: " + err.Error()}
		}
		chain = append(chain, x)
	}
	return chain, nil
}

// verifyProvisional holds a provisional receipt against the certificate of its
// kiosk, and that against the policy's authority over kiosks, as of when the
// receipt was given. Errors wrap those of package receipt.
func verifyProvisional(b []byte, p policy.Policy, chain []*x509.Certificate) (receipt.Verified[receipt.Provisional], error) {
	none := receipt.Verified[receipt.Provisional]{}
	key, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return none, fmt.Errorf("%w: the kiosk's certificate has no key to sign with", receipt.ErrSignature)
	}
	v, err := receipt.VerifyProvisional(b, func(pub crypto.PublicKey) bool { return key.Equal(pub) })
	if err != nil {
		return none, err
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: v.Claims().Time, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, root := range p.KioskCA {
		x, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return none, err
		}
		o.Roots.AddCert(x)
	}
	for _, x := range chain[1:] {
		o.Intermediates.AddCert(x)
	}
	if _, err := chain[0].Verify(o); err != nil {
		return none, fmt.Errorf("%w: the kiosk's certificate: %w", receipt.ErrSignature, err)
	}
	switch claims := v.Claims(); {
	case chain[0].Subject.CommonName != claims.Kiosk:
		return none, fmt.Errorf("%w: the certificate is another kiosk's", receipt.ErrSignature)
	case claims.Audience != p.LogOrigin:
		return none, fmt.Errorf("%w: %w", receipt.ErrSignature, errors.New("it is for another registry"))
	}
	return v, nil
}

// wantedID is the id given, or the one that the receipt itself names.
func wantedID(given string, file []byte) (id [32]byte, err error) {
	if given != "" {
		raw, err := hex.DecodeString(given)
		if err != nil || len(raw) != len(id) {
			return id, usageError{"--id takes 64 hexadecimal digits"}
		}
		return [32]byte(raw), nil
	}
	return receipt.RecordID(file)
}
