package trust_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"flag"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
	"enrollkiosk/smartcard/trust"
)

func extension(id asn1.ObjectIdentifier, critical bool) pkix.Extension {
	return pkix.Extension{Id: id, Critical: critical, Value: asn1.NullBytes}
}

var everyWay = flag.Bool("every", false, "turn every byte in every way: minutes")

// Every byte of every file and of all evidence is turned, in one of four ways, or
// with -every in all of them. Never
// a holder, but for the bytes that nobody signs and nothing reads:
//   - EF.COM and EF.CardAccess as a whole: the holder does not have them;
//   - in the SOD the list of digest algorithms of CMS: the signer's own
//     statements, next to his signature, are what counts.
func TestEveryByte(t *testing.T) {
	s := newState()
	good := s.issue(annaMRZ, 2, ecKey(elliptic.P256())).authenticated(challenge)
	anchors := s.anchors(trust.Test)
	if _, _, err := trust.Verify(good, anchors, now, strict); err != nil {
		t.Fatal(err)
	}
	irrelevant := irrelevantInSOD(t, good.Files[lds.EFSOD])
	// lost is what the report must not claim.
	flip := func(what string, b []byte, lost trust.Proof, free func(at int) bool) {
		t.Run(what, func(t *testing.T) {
			for at := range b {
				for i, mask := range []byte{0x01, 0x02, 0x80, 0xFF} {
					if !*everyWay && i != at%4 {
						continue
					}
					b[at] ^= mask
					h, report, err := trust.Verify(good, anchors, now, strict)
					if !free(at) && slices.Contains(report.Proofs(), lost) {
						t.Errorf("byte %d ^ %02X (%02X) still proves %s", at, mask, b[at], lost)
					}
					if err == nil && !free(at) {
						t.Errorf("byte %d ^ %02X (%02X) still gives a holder", at, mask, b[at])
					}
					if h.Valid() != (err == nil) {
						t.Fatalf("holder and error at once: %v", err)
					}
					b[at] ^= mask
				}
			}
		})
	}
	none := func(int) bool { return false }
	for f, content := range good.Files {
		free := none
		switch f {
		case lds.EFCOM, lds.EFCardAccess:
			free = func(int) bool { return true }
		case lds.EFSOD:
			free = func(at int) bool { return irrelevant[at] }
		}
		flip(f.String(), content, trust.ProofData, free)
	}
	flip("challenge", good.Active.Challenge[:], trust.ProofActive, none)
	flip("active signature", good.Active.Signature, trust.ProofActive, none)
	flip("terminal key", good.Chip.TerminalKey.Reveal(), trust.ProofChipAuthentication, none)
	flip("command", good.Chip.Command, trust.ProofChipAuthentication, none)
	flip("response", good.Chip.Response, trust.ProofChipAuthentication, none)
	flip("counter", good.Chip.SSC, trust.ProofChipAuthentication, none)
	for suite := range 6 {
		changed := good
		chip := *good.Chip
		changed.Chip = &chip
		if chip.Protocol = oid(lds.OIDCAECDH, suite); suite != 2 {
			refused(t, fmt.Sprint("protocol ", suite), changed, anchors, now, strict, trust.CheckChipAuthentication, trust.ErrChip)
		}
	}
	for _, protocol := range []asn1.ObjectIdentifier{nil, {}, {1}, lds.OIDCA, lds.OIDCAECDH, oid(lds.OIDCADH, 2)} {
		chip := *good.Chip
		chip.Protocol = protocol
		changed := good
		changed.Chip = &chip
		refused(t, fmt.Sprint("protocol ", protocol), changed, anchors, now, strict, trust.CheckChipAuthentication, trust.ErrChip)
	}
	chip := *good.Chip
	chip.KeyID = big.NewInt(1)
	changed := good
	changed.Chip = &chip
	refused(t, "key id", changed, anchors, now, strict, trust.CheckChipAuthentication, trust.ErrChip)
}

// irrelevantInSOD finds the bytes named at TestEveryByte.
func irrelevantInSOD(t *testing.T, sod []byte) map[int]bool {
	t.Helper()
	offset := func(n tlv.Node) int { return bytes.Index(sod, n.Raw) }
	contentInfo := must(must(tlv.ParseOne(sod, 0x77)).Children())[0]
	signedData := must(must(contentInfo.Children())[1].Children())[0]
	parts := must(signedData.Children())
	at := make(map[int]bool)
	for i := range parts[1].Value {
		at[offset(parts[1])+2+i] = true
	}
	return at
}

// Also without asking for proof of the chip, no file can be altered.
func TestTamperedFilesWithoutChip(t *testing.T) {
	s := newState()
	for _, f := range []lds.File{lds.DG1, lds.DG2, lds.DG14, lds.DG15} {
		doc := s.issue(annaMRZ, 2, ecKey(elliptic.P256())).doc
		doc.Files[f][len(doc.Files[f])-1] ^= 1
		r := refused(t, f.String(), doc, s.anchors(trust.Test), now, trust.Options{}, trust.CheckHashes, trust.ErrHash)
		if r.Hashes != trust.Failed || r.Signature != trust.Passed {
			t.Errorf("report %+v", r)
		}
	}
	// Nor added: DG11 is not in the SOD.
	doc := s.issue(annaMRZ, 2, nil).doc
	doc.Files[lds.DG11] = []byte{0x6B, 0}
	refused(t, "added DG11", doc, s.anchors(trust.Test), now, trust.Options{}, trust.CheckHashes, trust.ErrHash)
}

func TestTwoPeople(t *testing.T) {
	s := newState()
	anna, peter := s.issue(annaMRZ, 2, ecKey(elliptic.P256())), s.issue(peterMRZ, 2, ecKey(elliptic.P256()))
	annaDoc, peterDoc := anna.authenticated(challenge), peter.authenticated(challenge)
	for f := range annaDoc.Files {
		if f == lds.EFCOM || f == lds.EFCardAccess {
			continue
		}
		mixed := annaDoc
		mixed.Files = make(map[lds.File][]byte)
		for g, b := range annaDoc.Files {
			mixed.Files[g] = b
		}
		mixed.Files[f] = peterDoc.Files[f]
		refused(t, "swapped "+f.String(), mixed, s.anchors(trust.Test), now, strict, trust.CheckHashes, trust.ErrHash)
	}
	// Peter's chip answers for Anna's files.
	mixed := annaDoc
	mixed.Chip = peterDoc.Chip
	refused(t, "Chip Authentication of another", mixed, s.anchors(trust.Test), now, strict, trust.CheckChipAuthentication, trust.ErrChip)
	mixed = annaDoc
	mixed.Active = peterDoc.Active
	refused(t, "Active Authentication of another", mixed, s.anchors(trust.Test), now, strict, trust.CheckActiveAuthentication, trust.ErrChip)
	// DG1 under DG2's number and the other way round.
	mixed = annaDoc
	mixed.Files = map[lds.File][]byte{lds.DG1: annaDoc.Files[lds.DG2], lds.DG2: annaDoc.Files[lds.DG1], lds.EFSOD: annaDoc.Files[lds.EFSOD]}
	refused(t, "exchanged numbers", mixed, s.anchors(trust.Test), now, trust.Options{}, trust.CheckHashes, trust.ErrHash)
}

// A clone has every file and no key.
func TestClone(t *testing.T) {
	s := newState()
	original := s.issue(annaMRZ, 2, ecKey(elliptic.P256()))
	clone := *original
	other := s.issue(peterMRZ, 2, ecKey(elliptic.P256()))
	clone.ca, clone.active = other.ca, other.active
	anchors := s.anchors(trust.Test)

	doc := clone.doc
	refused(t, "silent clone", doc, anchors, now, trust.Options{RequireChip: true}, trust.CheckChip, trust.ErrChip)
	refused(t, "silent clone", doc, anchors, now, trust.Options{RequireActive: true}, trust.CheckChip, trust.ErrChip)
	// It leaves the files out that hold the keys: the signed SOD tells of them.
	hidden := lds.Document{Files: map[lds.File][]byte{lds.DG1: doc.Files[lds.DG1], lds.DG2: doc.Files[lds.DG2], lds.EFSOD: doc.Files[lds.EFSOD]}}
	refused(t, "hidden keys", hidden, anchors, now, trust.Options{RequireChip: true}, trust.CheckChip, trust.ErrChip)
	doc.Chip = clone.authenticateChip()
	refused(t, "own agreement key", doc, anchors, now, trust.Options{}, trust.CheckChipAuthentication, trust.ErrChip)
	doc.Chip = nil
	doc.Active = clone.authenticateActive(challenge)
	refused(t, "own signature key", doc, anchors, now, trust.Options{}, trust.CheckActiveAuthentication, trust.ErrChip)
	// It replays an answer that the original once gave.
	doc.Active = original.authenticateActive([8]byte{9})
	refused(t, "replay", doc, anchors, now, strict, trust.CheckActiveAuthentication, trust.ErrChip)
	doc.Active.Challenge = challenge
	refused(t, "relabelled replay", doc, anchors, now, strict, trust.CheckActiveAuthentication, trust.ErrChip)
	// It brings its own keys in DG14 and DG15.
	doc = clone.doc
	doc.Files = make(map[lds.File][]byte)
	for f, b := range original.doc.Files {
		doc.Files[f] = b
	}
	doc.Files[lds.DG14], doc.Files[lds.DG15] = other.doc.Files[lds.DG14], other.doc.Files[lds.DG15]
	doc.Chip, doc.Active = clone.authenticateChip(), clone.authenticateActive(challenge)
	refused(t, "own data groups", doc, anchors, now, strict, trust.CheckHashes, trust.ErrHash)
	// It signs them itself, under an authority of the same name.
	mallory := newState()
	doc.Files[lds.EFSOD] = mallory.sod(signedOnly(doc.Files))
	refused(t, "own authority", doc, anchors, now, strict, trust.CheckChain, trust.ErrUnknownAuthority)
	// It takes the real signer's certificate along.
	mallory.signer, mallory.csca = s.signer, s.csca
	doc.Files[lds.EFSOD] = mallory.sod(signedOnly(doc.Files))
	refused(t, "stolen certificate", doc, anchors, now, strict, trust.CheckSignature, trust.ErrSignature)

	plain := s.issue(annaMRZ, 2, nil).doc
	delete(plain.Files, lds.DG14)
	delete(plain.Files, lds.EFCOM)
	plain.Files[lds.EFSOD] = s.sod(signedOnly(plain.Files))
	r := refused(t, "no keys at all", plain, anchors, now, trust.Options{RequireChip: true}, trust.CheckChip, trust.ErrChipCannotProve)
	if r.ChipAuthentication != trust.Impossible || r.ActiveAuthentication != trust.Impossible {
		t.Errorf("report %+v", r)
	}
}

func signedOnly(files map[lds.File][]byte) map[lds.File][]byte {
	signed := make(map[lds.File][]byte)
	for f, b := range files {
		if f.Group() != 0 {
			signed[f] = b
		}
	}
	return signed
}

// The signature must speak of an LDS security object, and say so.
func TestSignedContent(t *testing.T) {
	s := newState()
	doc := s.issue(annaMRZ, 2, nil).doc
	content := must(lds.ParseSOD(doc.Files[lds.EFSOD])).Content
	data := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	doc.Files[lds.EFSOD] = s.sign(lds.OIDSecurityObject, content, data)
	refused(t, "signed as data", doc, s.anchors(trust.Test), now, trust.Options{}, trust.CheckSignature, trust.ErrSignature)
	other := asn1.ObjectIdentifier{2, 23, 136, 1, 1, 2}
	doc.Files[lds.EFSOD] = s.sign(other, content, other)
	refused(t, "master list", doc, s.anchors(trust.Test), now, trust.Options{}, trust.CheckContent, trust.ErrUnsupported)
	// Plain data is what some states call it.
	doc.Files[lds.EFSOD] = s.sign(data, content, data)
	if _, r, err := trust.Verify(doc, s.anchors(trust.Test), now, trust.Options{}); err != nil || !slices.Contains(r.Warnings, trust.WarnContentType) {
		t.Errorf("data: %v, %v", r.Warnings, err)
	}
}

// Whatever can be said in two ways must be said in one.
func TestAmbiguity(t *testing.T) {
	s := newState()
	key := s.cscaKey.(*ecdsa.PrivateKey)
	nodes := must(must(tlv.ParseOne(s.signer, 0x30)).Children())
	signature := must(key.Sign(rand.Reader, hashOf(crypto.SHA384, nodes[0].Raw), crypto.SHA384))
	outer := *s
	outer.signer = seq(nodes[0].Raw, seq(der(ecdsaOIDs[crypto.SHA384])), der(asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}))
	refused(t, "certificate of two algorithms", outer.issue(annaMRZ, 2, nil).doc, s.anchors(trust.Test), now, trust.Options{}, trust.CheckSignature, trust.ErrMalformed)

	twice := *s
	twice.extra = attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}, der(now))
	refused(t, "two signing times", twice.issue(annaMRZ, 2, nil).doc, s.anchors(trust.Test), now, trust.Options{}, trust.CheckSignature, trust.ErrMalformed)

	// An RSA signature and the same plus the modulus, which has to be small enough.
	key1024 := must(rsa.GenerateKey(rand.Reader, 1024))
	for key1024.N.Bit(1022) == 1 {
		key1024 = must(rsa.GenerateKey(rand.Reader, 1024))
	}
	doc := s.issue(annaMRZ, 2, key1024).doc
	signed := new(big.Int).Lsh(big.NewInt(1), 1024)
	for signed.BitLen() > 1024 {
		doc.Active = &lds.ActiveAuthentication{Challenge: challenge, Signature: iso9796(key1024, crypto.SHA256, []byte{0x34, 0xCC}, challenge)}
		signed.Add(new(big.Int).SetBytes(doc.Active.Signature), key1024.N)
	}
	if _, _, err := trust.Verify(doc, s.anchors(trust.Test), now, strict); err != nil {
		t.Fatal(err)
	}
	doc.Active.Signature = signed.FillBytes(make([]byte, 128))
	refused(t, "signature plus modulus", doc, s.anchors(trust.Test), now, strict, trust.CheckActiveAuthentication, trust.ErrChip)
}
