package idcard

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// rsaAuthority has the RSA keys that all tests share.
var rsaAuthority = sync.OnceValues(func() (*Authority, error) {
	return NewAuthorityWith(AuthorityOptions{CSCA: Scheme{Algorithm: RSA, Bits: 2048}, Signer: Scheme{Algorithm: RSA}})
})

func made(t testing.TB, o AuthorityOptions) *Authority {
	t.Helper()
	if o.CSCA.Algorithm.isRSA() || o.Signer.Algorithm.isRSA() {
		keys, err := rsaAuthority()
		if err != nil {
			t.Fatal(err)
		}
		o.Keys, o.CSCA.Bits = keys, 2048
	}
	a, err := NewAuthorityWith(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var someGroups = map[int][]byte{1: []byte("a data group"), 2: []byte("another")}

// sodOf is the ContentInfo of a SOD over someGroups.
func sodOf(t testing.TB, a *Authority, o SignedObject) []byte {
	t.Helper()
	sod, err := documentSecurityObject(a.signer, someGroups, LDS17, 0, o)
	if err != nil {
		t.Fatal(err)
	}
	n, err := ParseNode(sod)
	if o.Indefinite {
		return sod[bytes.IndexByte(sod, 0x30):]
	}
	if err != nil || n.Tag != 0x77 || len(n.Children) != 1 {
		t.Fatalf("EF.SOD is not one object 77 (%v)", err)
	}
	return n.Children[0].Encode()
}

// openssl verifies signature and content of every kind of signer, and the chain above it.
func TestOpenSSLVerifiesEveryScheme(t *testing.T) {
	hashes := []crypto.Hash{crypto.SHA1, crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512}
	var schemes []Scheme
	for i, d := range []Domain{P192, BrainpoolP192r1, P224, BrainpoolP224r1, P256, BrainpoolP256r1,
		BrainpoolP320r1, P384, BrainpoolP384r1, BrainpoolP512r1, P521} {
		schemes = append(schemes, Scheme{Algorithm: ECDSA, Hash: hashes[i%5], Domain: d},
			Scheme{Algorithm: ECDSA, Hash: hashes[(i+2)%5], Domain: d, Parameters: Explicit})
	}
	for _, h := range hashes {
		schemes = append(schemes, Scheme{Algorithm: RSA, Hash: h}, Scheme{Algorithm: PSS, Hash: h},
			Scheme{Algorithm: ECDSA, Hash: h, Domain: BrainpoolP256r1})
	}
	schemes = append(schemes, Scheme{Algorithm: RSA, Hash: crypto.MD5}, Scheme{Algorithm: PSS, Parameters: Explicit})
	for _, s := range schemes {
		t.Run(fmt.Sprint(s.Algorithm, s.Hash, s.Domain, s.Parameters), func(t *testing.T) {
			t.Parallel()
			a := made(t, AuthorityOptions{CSCA: s, Signer: s})
			verifyCMS(t, sodOf(t, a, SignedObject{}))
			if s.Parameters == Explicit && s.Algorithm == ECDSA { // openssl builds no chain of such keys
				f, err := certificateFields(a.Signer())
				if err != nil {
					t.Fatal(err)
				}
				if out, err := verifyBytes(t, a.CSCA(), s.Hash, f.tbs, f.signature); err != nil {
					t.Errorf("openssl dgst -verify: %v\n%s", err, out)
				}
				return
			}
			out, err := openssl(t, "verify", "-auth_level", "0", "-check_ss_sig", "-CAfile", writePEM(t, a.CSCA()), writePEM(t, a.Signer()))
			if err != nil {
				t.Errorf("openssl verify: %v\n%s", err, out)
			}
		})
	}
}

// verifyCMS has openssl verify signature and digests, and returns the content.
func verifyCMS(t *testing.T, der []byte, more ...string) []byte {
	t.Helper()
	content := write(t, "content", nil)
	args := append([]string{"cms", "-verify", "-noverify", "-inform", "DER", "-in", write(t, "cms", der), "-out", content}, more...)
	if out, err := openssl(t, args...); err != nil {
		t.Fatalf("openssl cms -verify: %v\n%s", err, out)
	}
	b, err := os.ReadFile(content)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// openssl knows no plain signatures of TR-03111: it is shown the same numbers in DER.
func TestPlainSignaturesVerify(t *testing.T) {
	for h, d := range map[crypto.Hash]Domain{crypto.SHA1: P224, crypto.SHA224: BrainpoolP224r1, crypto.SHA256: P256,
		crypto.SHA384: BrainpoolP384r1, crypto.SHA512: P521} {
		s := Scheme{Algorithm: PlainECDSA, Hash: h, Domain: d}
		a := made(t, AuthorityOptions{CSCA: s, Signer: s})
		sod, err := ParseNode(sodOf(t, a, SignedObject{}))
		if err != nil {
			t.Fatal(err)
		}
		info := SignerInfoIn(sod)
		attributes := info.Find(0xA0).Encode()
		attributes[0] = 0x31
		cert, err := certificateFields(a.CSCA())
		if err != nil {
			t.Fatal(err)
		}
		for what, v := range map[string]struct{ cert, message, signature []byte }{
			"SOD":  {a.Signer(), attributes, info.Find(0x04).Value},
			"CSCA": {a.CSCA(), cert.tbs, cert.signature},
		} {
			g, _ := d.group()
			size := (g.n.BitLen() + 7) / 8
			if len(v.signature) != 2*size {
				t.Fatalf("%v: a signature of %d bytes, want %d", h, len(v.signature), 2*size)
			}
			r, u := new(big.Int).SetBytes(v.signature[:size]), new(big.Int).SetBytes(v.signature[size:])
			if out, err := verifyBytes(t, v.cert, h, v.message, tlv(0x30, integer(r), integer(u))); err != nil {
				t.Errorf("%s, %v: %v\n%s", what, h, err, out)
			}
		}
	}
}

// verifyBytes has openssl check a signature by a certificate's key.
func verifyBytes(t *testing.T, cert []byte, h crypto.Hash, message, signature []byte) (string, error) {
	t.Helper()
	key, err := openssl(t, "x509", "-in", writePEM(t, cert), "-noout", "-pubkey")
	if err != nil {
		return key, err
	}
	name := strings.ToLower(strings.ReplaceAll(h.String(), "-", ""))
	return openssl(t, "dgst", "-"+name, "-verify", write(t, "key", []byte(key)),
		"-signature", write(t, "signature", signature), write(t, "message", message))
}

func TestHashesMayAllDiffer(t *testing.T) {
	a := made(t, AuthorityOptions{CSCA: Scheme{Hash: crypto.SHA224}, Signer: Scheme{Algorithm: PSS, Hash: crypto.SHA384}})
	sod, err := documentSecurityObject(a.signer, someGroups, LDS17, crypto.SHA512, SignedObject{})
	if err != nil {
		t.Fatal(err)
	}
	content := verifyCMS(t, contentInfo(t, sod))
	path := write(t, "group", someGroups[2])
	digest, err := exec.Command("openssl", "dgst", "-sha512", "-binary", path).Output()
	if err != nil || !bytes.Contains(content, digest) {
		t.Errorf("the content lacks SHA-512 of DG2 (%v)", err)
	}
	for what, want := range map[string]string{
		string(sod):        "rsassaPss",
		string(a.Signer()): "ecdsa-with-SHA224",
	} {
		out, err := openssl(t, "asn1parse", "-inform", "DER", "-i", "-in", write(t, "der", []byte(what)))
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("no %s (%v)", want, err)
		}
	}
}

// Every way to write a SOD is one that openssl reads.
func TestFormsOfSignedData(t *testing.T) {
	a := made(t, AuthorityOptions{Signer: Scheme{Algorithm: RSA}})
	signer := writePEM(t, a.Signer())
	plain := verifyCMS(t, sodOf(t, a, SignedObject{}))
	for name, v := range map[string]struct {
		o    SignedObject
		more []string
		has  string // in openssl's account of it
		not  string
	}{
		"signer by key id":         {o: SignedObject{ByKeyID: true}, has: "version: 3\n        d.subjectKeyIdentifier", not: "issuerAndSerialNumber"},
		"without signing time":     {o: SignedObject{NoSigningTime: true}, has: "version: 1\n        d.issuerAndSerialNumber", not: "signingTime"},
		"without certificate":      {o: SignedObject{NoCertificate: true}, more: []string{"-certfile", signer}, has: "certificates:\n      <ABSENT>"},
		"with another certificate": {o: SignedObject{Certificates: [][]byte{a.CSCA()}}, has: "SPECIMEN CSCA"},
		"rsaEncryption":            {o: SignedObject{RSAEncryption: true}, has: "algorithm: rsaEncryption (1.2.840.113549.1.1.1)"},
		"PSS by an RSA key":        {o: SignedObject{Algorithm: PSS, Hash: crypto.SHA384}, has: "rsassaPss"},
		"id-data":                  {o: SignedObject{ContentType: idData}, has: "eContentType: pkcs7-data"},
		"an old content type":      {o: SignedObject{ContentType: "1.2.528.1.1006.1.20.1"}, has: "1.2.528.1.1006.1.20.1"},
		"indefinite":               {o: SignedObject{Indefinite: true}},
		"indefinite, by key id":    {o: SignedObject{Indefinite: true, ByKeyID: true}, has: "subjectKeyIdentifier"},
	} {
		t.Run(name, func(t *testing.T) {
			der := sodOf(t, a, v.o)
			if v.o.Indefinite != (der[1] == 0x80) {
				t.Errorf("begins %x", der[:4])
			}
			content := verifyCMS(t, der, v.more...)
			if v.o.Hash == 0 && !bytes.Equal(content, plain) {
				t.Errorf("content %x", content)
			}
			out, err := openssl(t, "cms", "-cmsout", "-print", "-inform", "DER", "-in", write(t, "cms", der))
			if err != nil || !strings.Contains(out, v.has) || v.not != "" && strings.Contains(out, v.not) {
				t.Errorf("%v: want %q, not %q\n%s", err, v.has, v.not, out)
			}
		})
	}
}

// Times are UTCTime as long as they can be (RFC 5280 4.1.2.5).
func TestTimesOfCertificates(t *testing.T) {
	from := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a := made(t, AuthorityOptions{
		CSCAValid:   Period{from, time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC)},
		SignerValid: Period{from, time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)},
	})
	for want, cert := range map[string][]byte{"20500101000000Z": a.CSCA(), "491231235959Z": a.Signer()} {
		valid := nodeOf(t, cert).Children[0].Children[4]
		if string(valid.Children[0].Value) != "260102030405Z" || string(valid.Children[1].Value) != want {
			t.Errorf("valid from %s to %s, want %s", valid.Children[0].Value, valid.Children[1].Value, want)
		}
	}
}

func TestLDS18(t *testing.T) {
	c, err := testAuthority(t, ECDSA).Personalise(SpecimenPerson(), Options{Face: specimenFace, LDSVersion: LDS18})
	if err != nil {
		t.Fatal(err)
	}
	n, err := ParseNode(verifyCMS(t, contentInfo(t, c.profile.Application[efSOD])))
	if err != nil {
		t.Fatal(err)
	}
	versions := n.Children[len(n.Children)-1]
	if n.Children[0].Value[0] != 1 || string(versions.Children[0].Value) != "0108" || string(versions.Children[1].Value) != "040000" {
		t.Errorf("security object %x", n.Encode())
	}
	if !bytes.Contains(c.profile.Application[efCOM], []byte("0108")) {
		t.Errorf("EF.COM %x", c.profile.Application[efCOM])
	}
}

func TestMasterList(t *testing.T) {
	a := testAuthority(t, ECDSA)
	b := made(t, AuthorityOptions{CSCA: Scheme{Domain: BrainpoolP384r1, Hash: crypto.SHA384, Parameters: Explicit}, Country: "XU", State: "XUT"})
	list, err := a.MasterList([][]byte{a.CSCA(), b.CSCA()}, MasterListOptions{Signed: SignedObject{ByKeyID: true}})
	if err != nil {
		t.Fatal(err)
	}
	root := writePEM(t, a.CSCA())
	content := write(t, "content", nil)
	args := []string{"cms", "-verify", "-inform", "DER", "-CAfile", root, "-purpose", "any", "-out", content, "-in", write(t, "list", list)}
	if out, err := openssl(t, args...); err != nil {
		t.Fatalf("openssl cms -verify: %v\n%s", err, out)
	}
	der, err := os.ReadFile(content)
	if err != nil {
		t.Fatal(err)
	}
	n, err := ParseNode(der)
	if err != nil {
		t.Fatal(err)
	}
	var got [][]byte
	for _, c := range n.Find(0x31).Children {
		got = append(got, c.Encode())
	}
	if len(got) != 2 || !bytes.Contains(bytes.Join(got, nil), a.CSCA()) || !bytes.Contains(bytes.Join(got, nil), b.CSCA()) {
		t.Errorf("%d certificates", len(got))
	}
	signer := write(t, "signer.pem", nil)
	if out, err := openssl(t, append(args, "-signer", signer)...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := openssl(t, "x509", "-in", signer, "-noout", "-ext", "extendedKeyUsage")
	if err != nil || !strings.Contains(out, "critical") || !strings.Contains(out, "2.23.136.1.1.3") {
		t.Errorf("no extended key usage (%v)\n%s", err, out)
	}
	args[5] = writePEM(t, b.CSCA())
	if out, err := openssl(t, args...); err == nil {
		t.Errorf("the list verifies under another CSCA\n%s", out)
	}
}

func TestLinkCertificate(t *testing.T) {
	old := testAuthority(t, ECDSA)
	next, link, err := old.Renew(AuthorityOptions{CSCA: Scheme{Domain: P384}, Name: "SPECIMEN CSCA 2"})
	if err != nil {
		t.Fatal(err)
	}
	root, middle := writePEM(t, old.CSCA()), writePEM(t, link)
	if out, err := openssl(t, "verify", "-CAfile", root, middle); err != nil {
		t.Errorf("the old CSCA does not vouch for the new: %v\n%s", err, out)
	}
	// The chain through the link is one longer than pathLenConstraint allows to a
	// library that knows no CSCA: the link itself has to be the anchor.
	if out, err := openssl(t, "verify", "-partial_chain", "-trusted", middle, writePEM(t, next.Signer())); err != nil {
		t.Errorf("the link does not vouch for the new signer: %v\n%s", err, out)
	}
	if out, err := openssl(t, "verify", "-CAfile", root, writePEM(t, next.Signer())); err == nil {
		t.Errorf("the new signer verifies under the old CSCA alone\n%s", out)
	}
	text, err := openssl(t, "x509", "-in", middle, "-noout", "-text")
	if err != nil || !strings.Contains(text, "2.23.136.1.1.6.1") || !strings.Contains(text, "SPECIMEN CSCA 2") {
		t.Errorf("no change of name in the link (%v)\n%s", err, text)
	}
	same, link, err := old.Renew(AuthorityOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(link), string(oid(2, 23, 136, 1, 1, 6, 1))) || !bytes.Equal(same.csca.subject, old.csca.subject) {
		t.Error("the name changed without being told to")
	}
}

func TestRevocationLists(t *testing.T) {
	a := testAuthority(t, ECDSA)
	now := a.opts.CSCAValid.From.Add(year)
	for name, v := range map[string]struct {
		o   CRLOptions
		has string // in openssl's refusal; "": it takes the signer
	}{
		"nobody":        {o: CRLOptions{None: true}},
		"others":        {o: CRLOptions{Serials: []*big.Int{big.NewInt(77)}}},
		"the signer":    {CRLOptions{Signer: true}, "certificate revoked"},
		"stale":         {CRLOptions{Published: now.Add(-100 * 24 * 3600e9), Next: now.Add(-24 * 3600e9)}, "CRL has expired"},
		"not yet":       {CRLOptions{Published: now.Add(100 * 24 * 3600e9)}, "CRL is not yet valid"},
		"wrong issuer":  {CRLOptions{EditTBS: func(n *Node) { *n.Children[2] = *nodeOf(t, name2()) }}, "unable to get certificate CRL"},
		"other content": {CRLOptions{Edit: func(n *Node) { n.Find(0x30, 0x02).SetInt(0) }}, "CRL signature failure"},
	} {
		der, err := a.RevocationList(v.o)
		if err != nil {
			t.Fatal(err)
		}
		crl := write(t, "crl.pem", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
		out, err := openssl(t, "verify", "-crl_check", "-CRLfile", crl, "-CAfile", writePEM(t, a.CSCA()), writePEM(t, a.Signer()))
		if (err != nil) != (v.has != "") || !strings.Contains(out, v.has) {
			t.Errorf("%s: %v, want %q\n%s", name, err, v.has, out)
		}
	}
	der, err := a.RevocationList(CRLOptions{Number: 8, Base: 7})
	if err != nil {
		t.Fatal(err)
	}
	text, err := openssl(t, "crl", "-inform", "DER", "-noout", "-text", "-in", write(t, "crl", der))
	if err != nil || !strings.Contains(text, "Delta CRL Indicator: critical") {
		t.Errorf("no delta (%v)\n%s", err, text)
	}
}

func name2() []byte { return name("XU", "SPECIMEN CSCA") }

func nodeOf(t *testing.T, der []byte) *Node {
	t.Helper()
	n, err := ParseNode(der)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSavedAuthoritiesOfAnyCurve(t *testing.T) {
	for _, s := range []Scheme{{Domain: BrainpoolP384r1, Hash: crypto.SHA384, Parameters: Explicit},
		{Algorithm: PlainECDSA, Domain: P521}, {Algorithm: PSS, Hash: crypto.SHA512}} {
		a := made(t, AuthorityOptions{CSCA: s, Signer: s, Country: "XU", State: "XUT", Name: "SPECIMEN CSCA 7"})
		dir := t.TempDir()
		if err := a.Save(dir); err != nil {
			t.Fatal(err)
		}
		b, err := LoadAuthority(dir)
		if err != nil {
			t.Fatal(err)
		}
		if a.opts.CSCA != b.opts.CSCA || a.opts.Signer != b.opts.Signer || !bytes.Equal(a.Signer(), b.Signer()) {
			t.Errorf("%v came back as %v", a.opts.Signer, b.opts.Signer)
		}
		if b.opts.Country != "XU" || b.opts.State != "XUT" || b.opts.Name != "SPECIMEN CSCA 7" {
			t.Errorf("the state came back as %q, %q, %q", b.opts.Country, b.opts.State, b.opts.Name)
		}
	}
	mixed := made(t, AuthorityOptions{Signer: Scheme{Hash: crypto.SHA512}})
	if err := mixed.Save(t.TempDir()); err == nil {
		t.Error("an authority was saved that cannot be loaded as it was")
	}
}
