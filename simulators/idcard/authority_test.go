package idcard

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// openssl runs the program, which must be there, and returns what it said.
func openssl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("openssl is needed (apt-get install openssl): %v", err)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func writePEM(t *testing.T, der []byte) string {
	t.Helper()
	return write(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// contentInfo takes the CMS object out of EF.SOD.
func contentInfo(t *testing.T, sod []byte) []byte {
	t.Helper()
	list, ok := readTLV(sod)
	if !ok || len(list) != 1 || list[0].tag != 0x77 {
		t.Fatal("EF.SOD is not one object 77")
	}
	return list[0].value
}

func TestOpenSSLAcceptsSODAndChain(t *testing.T) {
	for _, alg := range []Algorithm{ECDSA, RSA, PSS} {
		t.Run(string(alg), func(t *testing.T) {
			a := testAuthority(t, alg)
			c, err := a.Personalise(SpecimenPerson(), Options{Face: specimenFace})
			if err != nil {
				t.Fatal(err)
			}
			root, signer := writePEM(t, a.CSCA()), writePEM(t, a.Signer())
			if out, err := openssl(t, "verify", "-x509_strict", "-CAfile", root, signer); err != nil {
				t.Fatalf("openssl verify: %v\n%s", err, out)
			}
			if out, err := openssl(t, "verify", "-x509_strict", "-check_ss_sig", "-CAfile", root, root); err != nil {
				t.Fatalf("openssl verify of the CSCA: %v\n%s", err, out)
			}

			der := contentInfo(t, c.profile.Application[efSOD])
			content := filepath.Join(t.TempDir(), "content")
			verify := []string{"cms", "-verify", "-inform", "DER", "-CAfile", root, "-out", content}
			if out, err := openssl(t, append(verify, "-in", write(t, "sod", der))...); err != nil {
				t.Fatalf("openssl cms -verify: %v\n%s", err, out)
			}
			got, err := os.ReadFile(content)
			if err != nil {
				t.Fatal(err)
			}
			checkHashes(t, got, c.profile.Application)

			other := writePEM(t, freshAuthority(t).CSCA())
			wrong := slices.Clone(verify)
			wrong[5] = other
			if out, err := openssl(t, append(wrong, "-in", write(t, "sod", der))...); err == nil {
				t.Fatalf("openssl takes the SOD under another CSCA\n%s", out)
			}
			i := bytes.Index(der, got)
			altered := bytes.Clone(der)
			altered[i+len(got)-1] ^= 1 // the last hash
			if out, err := openssl(t, append(verify, "-in", write(t, "sod", altered))...); err == nil {
				t.Fatalf("openssl takes an altered SOD\n%s", out)
			}
		})
	}
}

// checkHashes compares the security object's hashes with those of the files, by openssl.
func checkHashes(t *testing.T, content []byte, files map[uint16][]byte) {
	t.Helper()
	var object struct {
		Version   int
		Algorithm struct{ ID asn1.ObjectIdentifier }
		Hashes    []struct {
			Number int
			Hash   []byte
		}
	}
	if err := unmarshal(content, &object); err != nil {
		t.Fatal(err)
	}
	if object.Version != 0 || object.Algorithm.ID.String() != "2.16.840.1.101.3.4.2.1" || len(object.Hashes) != 4 {
		t.Fatalf("security object %+v", object)
	}
	for _, h := range object.Hashes {
		path := write(t, "group", files[0x0100|uint16(h.Number)])
		out, err := exec.Command("openssl", "dgst", "-sha256", "-binary", path).Output()
		if err != nil || !bytes.Equal(out, h.Hash) {
			t.Errorf("DG%d: hash differs (%v)", h.Number, err)
		}
	}
}

func TestUnknownCSCA(t *testing.T) {
	a := testAuthority(t, ECDSA)
	c, err := a.Personalise(SpecimenPerson(), Options{Face: specimenFace, Faults: []Fault{UnknownCSCA}})
	if err != nil {
		t.Fatal(err)
	}
	der := contentInfo(t, c.profile.Application[efSOD])
	args := []string{"cms", "-verify", "-inform", "DER", "-out", os.DevNull, "-in", write(t, "sod", der)}
	if out, err := openssl(t, append(args, "-CAfile", writePEM(t, a.CSCA()))...); err == nil {
		t.Fatalf("the authority stands behind a card of another\n%s", out)
	}
	if out, err := openssl(t, append(args, "-noverify")...); err != nil {
		t.Fatalf("the card's SOD is broken in itself: %v\n%s", err, out)
	}
}

func TestCertificateProfile(t *testing.T) {
	a := testAuthority(t, ECDSA)
	csca, err := x509.ParseCertificate(a.CSCA())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := x509.ParseCertificate(a.Signer())
	if err != nil {
		t.Fatal(err)
	}
	if !csca.IsCA || !csca.MaxPathLenZero || csca.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(csca.SubjectKeyId) == 0 {
		t.Error("CSCA: not the profile of 9303-12")
	}
	if signer.IsCA || signer.KeyUsage != x509.KeyUsageDigitalSignature || !bytes.Equal(signer.AuthorityKeyId, csca.SubjectKeyId) {
		t.Error("document signer: not the profile of 9303-12")
	}
	key, err := csca.PublicKey.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	if want := sha1.Sum(key.Bytes()); !bytes.Equal(csca.SubjectKeyId, want[:]) { // RFC 5280 4.2.1.2 (1)
		t.Errorf("key identifier %x, want %x", csca.SubjectKeyId, want)
	}
	for _, v := range []struct {
		cert *x509.Certificate
		ids  []string
	}{
		{csca, []string{"2.5.29.15", "2.5.29.19", "2.5.29.14", "2.5.29.16", "2.5.29.17", "2.5.29.18", "2.5.29.31"}},
		{signer, []string{"2.5.29.15", "2.5.29.35", "2.5.29.16", "2.5.29.17", "2.5.29.18", "2.5.29.31", "2.23.136.1.1.6.2"}},
	} {
		for _, id := range v.ids {
			found := slices.ContainsFunc(v.cert.Extensions, func(e pkix.Extension) bool { return e.Id.String() == id })
			if !found {
				t.Errorf("%s lacks %s", v.cert.Subject.CommonName, id)
			}
		}
	}
	if out, err := openssl(t, "x509", "-in", writePEM(t, a.Signer()), "-noout", "-text"); err != nil ||
		!strings.Contains(out, "L = UTO") && !strings.Contains(out, "L=UTO") || !strings.Contains(out, "Private Key Usage Period") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestCRL(t *testing.T) {
	a := testAuthority(t, ECDSA)
	for _, revoked := range []bool{false, true} {
		der, err := a.CRL(revoked)
		if err != nil {
			t.Fatal(err)
		}
		crl := write(t, "crl.pem", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
		out, err := openssl(t, "verify", "-crl_check", "-CRLfile", crl, "-CAfile", writePEM(t, a.CSCA()), writePEM(t, a.Signer()))
		if (err != nil) != revoked {
			t.Errorf("revoked %v: %v\n%s", revoked, err, out)
		}
	}
}

func TestAuthorityIsSharedThroughFiles(t *testing.T) {
	for _, alg := range []Algorithm{ECDSA, RSA, PSS} {
		a := testAuthority(t, alg)
		dir := filepath.Join(t.TempDir(), "authority")
		if err := a.Save(dir); err != nil {
			t.Fatal(err)
		}
		b, err := LoadAuthority(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.CSCA(), b.CSCA()) || b.csca.scheme.Algorithm != alg || b.signer.scheme.Algorithm != alg {
			t.Fatalf("%s: another authority came back", alg)
		}
		c, err := b.Personalise(SpecimenPerson(), Options{Face: specimenFace})
		if err != nil {
			t.Fatal(err)
		}
		out, err := openssl(t, "cms", "-verify", "-inform", "DER", "-CAfile", filepath.Join(dir, "csca.pem"), "-purpose", "any",
			"-out", os.DevNull, "-in", write(t, "sod", contentInfo(t, c.profile.Application[efSOD])))
		if err != nil {
			t.Fatalf("%s: %v\n%s", alg, err, out)
		}
	}
}

func TestLoadAuthorityRefuses(t *testing.T) {
	a, b := testAuthority(t, ECDSA), freshAuthority(t)
	if _, err := LoadAuthority(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	for _, name := range []string{fileCSCA, fileCSCAKey, fileSigner, fileSignerKey} {
		dir, other := t.TempDir(), t.TempDir()
		if err := errors.Join(a.Save(dir), b.Save(other)); err != nil {
			t.Fatal(err)
		}
		foreign, err := os.ReadFile(filepath.Join(other, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), foreign, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadAuthority(dir); err == nil {
			t.Errorf("another authority's %s was taken", name)
		}
	}
}
