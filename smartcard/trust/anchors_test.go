package trust_test

import (
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

func anchor(certificate []byte, class trust.Class) trust.Anchors {
	return must(trust.NewAnchors([]trust.Anchor{{Certificate: certificate, Class: class}}))
}

func TestLinkCertificates(t *testing.T) {
	old := must(idcard.NewAuthority(idcard.ECDSA))
	document := func(a *idcard.Authority) lds.Document {
		return files(must(a.Personalise(idcard.SpecimenPerson(), idcard.Options{Face: portrait()})))
	}
	scheme := idcard.Scheme{Algorithm: idcard.ECDSA, Domain: idcard.BrainpoolP384r1, Parameters: idcard.Explicit}
	for name, o := range map[string]idcard.AuthorityOptions{
		"same name":      {CSCA: scheme},
		"change of name": {CSCA: scheme, Name: "SPECIMEN CSCA 2"},
	} {
		t.Run(name, func(t *testing.T) {
			next, link, err := old.Renew(o)
			if err != nil {
				t.Fatal(err)
			}
			last, link2, err := next.Renew(o)
			if err != nil {
				t.Fatal(err)
			}
			doc := document(last)
			anchors := anchor(old.CSCA(), trust.Test)
			refused(t, "without links", doc, anchors, time.Now(), trust.Options{}, trust.CheckChain, trust.ErrUnknownAuthority)
			half := must(anchors.With([][]byte{link2}))
			refused(t, "one link of two", doc, half, time.Now(), trust.Options{}, trust.CheckChain, trust.ErrUnknownAuthority)
			both := must(anchors.With([][]byte{link2, link, link}))
			h, r, err := trust.Verify(doc, both, time.Now(), trust.Options{})
			if err != nil || len(r.Links) != 2 || !h.Simulated() {
				t.Fatalf("%+v, %v", r, err)
			}
			if _, plain, _ := trust.Verify(document(old), anchors, time.Now(), trust.Options{}); plain.Authority != r.Authority || plain.Links != nil {
				t.Errorf("anchor %s, links %v", plain.Authority, plain.Links)
			}
			refused(t, "a method changed its receiver", doc, anchors, time.Now(), trust.Options{}, trust.CheckChain, trust.ErrUnknownAuthority)
			// Trust does not run backwards.
			if _, _, err := trust.Verify(document(old), must(anchor(last.CSCA(), trust.Test).With([][]byte{link, link2})), time.Now(), trust.Options{}); err == nil {
				t.Error("the new key vouches for the old one")
			}
			// The newest key's list speaks for the older ones, and may revoke a link.
			revoke := func(serials ...*big.Int) []byte {
				return must(last.RevocationList(idcard.CRLOptions{Serials: serials}))
			}
			if _, err := anchors.With(nil, revoke()); !errors.Is(err, trust.ErrUnknownAuthority) {
				t.Errorf("list of an unknown key: %v", err)
			}
			oldDoc := document(old)
			for what, c := range map[string]struct {
				doc    lds.Document
				serial *big.Int
			}{"old signer": {oldDoc, signerSerial(old.Signer())}, "new signer": {doc, signerSerial(last.Signer())}, "link": {doc, signerSerial(link)}} {
				refused(t, what, c.doc, must(both.With(nil, revoke(c.serial))), time.Now(), trust.Options{}, trust.CheckRevocation, trust.ErrRevoked)
			}
			if _, r, err := trust.Verify(oldDoc, must(both.With(nil, revoke())), time.Now(), trust.Options{}); err != nil || r.Revocation != trust.Passed {
				t.Errorf("nobody revoked: %v, %v", r.Revocation, err)
			}
		})
	}
	t.Run("another country", func(t *testing.T) {
		next, link, err := old.Renew(idcard.AuthorityOptions{Country: "XX", State: "XXX"})
		if err != nil {
			t.Fatal(err)
		}
		refused(t, "link", document(next), must(anchor(old.CSCA(), trust.Test).With([][]byte{link})), time.Now(), trust.Options{}, trust.CheckChain, trust.ErrUnknownAuthority)
	})
	t.Run("expired", func(t *testing.T) {
		from := time.Now().AddDate(-2, 0, 0)
		short := must(idcard.NewAuthorityWith(idcard.AuthorityOptions{CSCAValid: idcard.Period{From: from, To: time.Now().AddDate(0, 0, -1)}}))
		next, link, err := short.Renew(idcard.AuthorityOptions{})
		if err != nil {
			t.Fatal(err)
		}
		refused(t, "link", document(next), must(anchor(short.CSCA(), trust.Test).With([][]byte{link})), time.Now(), trust.Options{}, trust.CheckChain, trust.ErrSignerExpired)
	})
	t.Run("forged", func(t *testing.T) {
		next, link, err := old.Renew(idcard.AuthorityOptions{EditLink: func(n *idcard.Node) { flip(n.Children[2]) }})
		if err != nil {
			t.Fatal(err)
		}
		refused(t, "link", document(next), must(anchor(old.CSCA(), trust.Test).With([][]byte{link})), time.Now(), trust.Options{}, trust.CheckChain, trust.ErrUnknownAuthority)
	})
	t.Run("of two classes", func(t *testing.T) {
		next, link, err := old.Renew(idcard.AuthorityOptions{})
		if err != nil {
			t.Fatal(err)
		}
		two := must(trust.NewAnchors([]trust.Anchor{{Certificate: old.CSCA(), Class: trust.Test}, {Certificate: next.CSCA(), Class: trust.Production}}))
		if _, err := two.With([][]byte{link}); !errors.Is(err, trust.ErrCertificate) {
			t.Errorf("%v", err)
		}
	})
}

// A list of the class test cannot revoke in production, whatever it is called.
func TestRevocationByClass(t *testing.T) {
	real, fake := must(idcard.NewAuthority(idcard.ECDSA)), must(idcard.NewAuthority(idcard.ECDSA))
	list := must(fake.RevocationList(idcard.CRLOptions{Serials: []*big.Int{signerSerial(real.Signer())}}))
	anchors := must(trust.NewAnchors([]trust.Anchor{{Certificate: real.CSCA(), Class: trust.Production}, {Certificate: fake.CSCA(), Class: trust.Test}}, list))
	card := must(real.Personalise(idcard.SpecimenPerson(), idcard.Options{Face: portrait()}))
	if _, r, err := trust.Verify(files(card), anchors, time.Now(), trust.Options{}); err != nil || r.Revocation != trust.NotChecked {
		t.Errorf("%v, %v", r.Revocation, err)
	}
}

// A later list does not bring a revoked signer back; the freshest one counts.
func TestRevocationLists(t *testing.T) {
	a := must(idcard.NewAuthority(idcard.ECDSA))
	doc := files(must(a.Personalise(idcard.SpecimenPerson(), idcard.Options{Face: portrait()})))
	past := time.Now().AddDate(0, -6, 0)
	old := must(a.RevocationList(idcard.CRLOptions{Published: past, Next: past.AddDate(0, 1, 0)}))
	oldRevoked := must(a.RevocationList(idcard.CRLOptions{Signer: true, Published: past, Next: past.AddDate(0, 1, 0)}))
	fresh := must(a.RevocationList(idcard.CRLOptions{}))
	anchors := anchor(a.CSCA(), trust.Test)
	for name, c := range map[string]struct {
		lists  [][]byte
		stale  bool
		reason error
	}{
		"stale":             {[][]byte{old}, true, nil},
		"fresh":             {[][]byte{fresh}, false, nil},
		"both":              {[][]byte{fresh, old}, false, nil},
		"revoked, then not": {[][]byte{oldRevoked, fresh}, false, trust.ErrRevoked},
	} {
		_, r, err := trust.Verify(doc, must(anchors.With(nil, c.lists...)), time.Now(), trust.Options{})
		if !errors.Is(err, c.reason) || c.reason == nil && err != nil || slices.Contains(r.Warnings, trust.WarnRevocationListStale) != c.stale {
			t.Errorf("%s: %v, %v", name, r.Warnings, err)
		}
	}
	if _, err := anchors.With(nil, must(a.RevocationList(idcard.CRLOptions{Base: 7}))); !errors.Is(err, trust.ErrUnsupported) {
		t.Errorf("delta: %v", err)
	}
}

func TestPrecheck(t *testing.T) {
	a := must(idcard.NewAuthority(idcard.ECDSA))
	doc := files(must(a.Personalise(idcard.SpecimenPerson(), idcard.Options{Face: portrait()})))
	early := lds.Document{Files: map[lds.File][]byte{lds.DG1: doc.Files[lds.DG1], lds.EFSOD: doc.Files[lds.EFSOD]}}
	r, err := trust.Precheck(early, anchor(a.CSCA(), trust.Test), time.Now())
	if err != nil || r.Signature != trust.Passed || r.Chain != trust.Passed || r.Hashes != trust.Passed || r.Structure != trust.NotChecked {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := trust.Precheck(early, trust.Anchors{}, time.Now()); !errors.Is(err, trust.ErrUnknownAuthority) {
		t.Errorf("unknown authority: %v", err)
	}
	if _, err := trust.Precheck(early, must(anchor(a.CSCA(), trust.Test).With(nil, must(a.CRL(true)))), time.Now()); !errors.Is(err, trust.ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
	early.Files[lds.DG1] = slices.Clone(early.Files[lds.DG1])
	early.Files[lds.DG1][10] ^= 1
	if _, err := trust.Precheck(early, anchor(a.CSCA(), trust.Test), time.Now()); !errors.Is(err, trust.ErrHash) {
		t.Errorf("altered: %v", err)
	}
	delete(early.Files, lds.DG1)
	if _, err := trust.Precheck(early, anchor(a.CSCA(), trust.Test), time.Now()); !errors.Is(err, trust.ErrMissing) {
		t.Errorf("without DG1: %v", err)
	}
}
