package receipt_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/skip2/go-qrcode"
	"github.com/transparency-dev/formats/log"
	cosignature "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/receipt"
)

// newWitness makes a witness's key.
func newWitness(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cosignature.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	if vkey, err = cosignature.VKeyToCosignatureV1(vkey); err != nil {
		t.Fatal(err)
	}
	return signer, vkey
}

// witnessed is a log that three witnesses watch, of whom two are enough.
func witnessed(t testing.TB, l *publicLog) (checkpoint.Log, []note.Signer) {
	t.Helper()
	of := checkpoint.Log{Key: l.vkey, Quorum: 2}
	var signers []note.Signer
	for i := range 3 {
		signer, vkey := newWitness(t, fmt.Sprintf("witness-%d.example", i+1))
		of.Witnesses, signers = append(of.Witnesses, vkey), append(signers, signer)
	}
	return of, signers
}

// With a quorum, a receipt is as good as the witnesses that stand on it.
func TestWitnesses(t *testing.T) {
	l := logged(t, 2, 5)
	of, w := witnessed(t, l)
	stranger, _ := newWitness(t, "stranger.example")
	impostor, _ := newWitness(t, "witness-1.example") // the name of one, another key
	plain := newLog(t, "witness-2.example")           // signs notes, does not cosign
	for name, c := range map[string]struct {
		by   []note.Signer
		want error
	}{
		"no witness":                {nil, receipt.ErrWitnesses},
		"one of two":                {w[:1], receipt.ErrWitnesses},
		"two":                       {w[1:], nil},
		"all three":                 {w, nil},
		"one, twice":                {[]note.Signer{w[0], w[0]}, receipt.ErrWitnesses},
		"one and a stranger":        {[]note.Signer{w[0], stranger}, receipt.ErrWitnesses},
		"one and an impostor":       {[]note.Signer{w[1], impostor}, receipt.ErrWitnesses},
		"one and a plain signature": {[]note.Signer{w[0], plain.signer}, receipt.ErrWitnesses},
		"two and a stranger":        {[]note.Signer{w[0], stranger, w[2]}, nil},
	} {
		text := receipt.Build(2, l.path(t, 2), l.checkpoint(t, "", c.by...), blind, id)
		f, err := receipt.Verify(text, of, id)
		if !errors.Is(err, c.want) || f.Valid() != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if f.Valid() && len(f.Checkpoint().Cosigned()) < 2 {
			t.Errorf("%s: cosigned by %v", name, f.Checkpoint().Cosigned())
		}
		if _, err := receipt.Verify(text, l.log(), id); err != nil {
			t.Errorf("%s, where nobody asks for witnesses: %v", name, err)
		}
	}
	// What is from before there were witnesses needs none.
	of.From = 6
	if _, err := receipt.Verify(receipt.Build(2, l.path(t, 2), l.checkpoint(t, ""), blind, id), of, id); err != nil {
		t.Errorf("5 leaves, witnesses from 6 on: %v", err)
	}
	of.From = 5
	if _, err := receipt.Verify(receipt.Build(2, l.path(t, 2), l.checkpoint(t, ""), blind, id), of, id); !errors.Is(err, receipt.ErrWitnesses) {
		t.Errorf("5 leaves, witnesses from 5 on: %v", err)
	}
}

func TestEveryByteOfAWitnessedReceiptMatters(t *testing.T) {
	l := logged(t, 4, 7)
	of, w := witnessed(t, l)
	of.Witnesses = of.Witnesses[:2]
	everyByte(t, receipt.Build(4, l.path(t, 4), l.checkpoint(t, "", w[:2]...), blind, id), func(b []byte) error {
		_, err := receipt.Verify(b, of, id)
		return err
	})
}

// A receipt from a log of everybody, with three witnesses, is about 2 kB and fits
// a QR code as the kiosk draws it.
func TestReceiptOfANation(t *testing.T) {
	const people = 1_400_000_000
	l := newLog(t, "registry.identity.example/log")
	of, w := witnessed(t, l)
	// The leaf's path in a tree of that size, with made-up siblings: the root follows.
	const index = people / 3
	leaf := receipt.Leaf(blind, id)
	nodes, err := proof.Inclusion(index, people)
	if err != nil {
		t.Fatal(err)
	}
	raw := make([][]byte, len(nodes.IDs))
	for i := range raw {
		h := sha256.Sum256([]byte{byte(i)})
		raw[i] = h[:]
	}
	path, err := nodes.Rehash(raw, rfc6962.DefaultHasher.HashChildren)
	if err != nil {
		t.Fatal(err)
	}
	root, err := proof.RootFromInclusionProof(rfc6962.DefaultHasher, index, people, rfc6962.DefaultHasher.HashLeaf(leaf[:]), path)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: string(log.Checkpoint{Origin: l.signer.Name(), Size: people, Hash: root}.Marshal())}, append([]note.Signer{l.signer}, w...)...)
	if err != nil {
		t.Fatal(err)
	}
	var hashes [][32]byte
	for _, h := range path {
		hashes = append(hashes, [32]byte(h))
	}
	text := receipt.Build(index, hashes, signed, blind, id)
	if f, err := receipt.Verify(text, of, id); err != nil || f.Size() != people {
		t.Fatalf("%v, %d", err, f.Size())
	}
	t.Logf("%d bytes, a path of %d", len(text), len(path))
	if len(text) > 2300 {
		t.Errorf("%d bytes", len(text))
	}
	code, err := qrcode.New(string(text), qrcode.Low)
	if err != nil {
		t.Fatal(err)
	}
	if code.Content != string(text) || len(code.Bitmap()) > 177+8 { // version 40, quiet zone
		t.Errorf("%d modules", len(code.Bitmap()))
	}
	if _, err := receipt.Verify(bytes.TrimSuffix([]byte(code.Content), []byte("\n")), of, id); err == nil {
		t.Error("a receipt without its last byte passes")
	}
}

func TestReceiptNamesItsRecord(t *testing.T) {
	l := logged(t, 2, 5)
	text := receipt.Build(2, l.path(t, 2), l.checkpoint(t, ""), blind, id)
	if got, err := receipt.RecordID(text); err != nil || got != id {
		t.Errorf("%x, %v", got, err)
	}
	if _, err := receipt.RecordID([]byte(strings.Repeat("A", 40))); !errors.Is(err, receipt.ErrForm) {
		t.Error(err)
	}
}
