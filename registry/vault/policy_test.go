package vault_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/hsm/attest"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/beid"
	"enrollkiosk/simulators/idcard"
)

// germanCSCA is the SHA-256 of the certificate that vouches for Germany's master
// list of 2026-05-28 (package trust's testdata name its source).
const germanCSCA = "2084aed7a991b3158e63ad750d3dc38bc6c9dcf5958f28d1162f49884e91ada8"

// signs has the vault sign the World's policy with more in its description.
func signs(t testing.TB, w *registrytest.World, more string, files map[string][]byte, now time.Time) (p policy.Policy, size int, left []vault.LeftOut, err error) {
	t.Helper()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(w.Dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(w.Dir, "policy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	in := filepath.Join(w.Dir, "more.toml")
	if err := os.WriteFile(in, append(text, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := vault.SignPolicy(t.Context(), w.VaultDir(), in, now, func(l vault.LeftOut) { left = append(left, l) })
	if err != nil {
		return p, 0, left, err
	}
	s, err := policy.Parse(b, w.Root)
	if err != nil {
		t.Fatal(err)
	}
	return s.Policy(), len(b), left, nil
}

func pinOf(der []byte) string {
	digest := sha256.Sum256(der)
	return hex.EncodeToString(digest[:])
}

func listed(file, class, pin string) string {
	return fmt.Sprintf("[[master_lists]]\nfile = %q\nclass = %q\npin = %q\n", file, class, pin)
}

// A state's real list, of 112 states, fits into a policy; what it holds that is
// no authority's is named.
func TestGermanMasterList(t *testing.T) {
	german, err := os.ReadFile("../../smartcard/trust/testdata/DE_ML_2026-05-28.ml")
	if err != nil {
		t.Fatal(err)
	}
	w := registrytest.New(t)
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	p, size, left, err := signs(t, w, listed("de.ml", "production", germanCSCA)+listed("again.ml", "production", germanCSCA),
		map[string][]byte{"de.ml": german, "again.ml": german}, at)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Anchors) != 579 || size >= policy.MaxSize {
		t.Errorf("%d anchors in %d bytes", len(p.Anchors), size)
	}
	t.Logf("a policy of %d anchors has %d bytes, %d are allowed", len(p.Anchors), size, policy.MaxSize)
	if len(left) != 2*9 {
		t.Errorf("%d certificates left out, want 9 of each file", len(left))
	}
	for i, l := range left {
		if s := l.String(); !strings.Contains(s, []string{"de.ml", "again.ml"}[i/9]) || len(l.Thumbprint) != 64 || len(l.Country) != 2 || l.Err == nil || !strings.Contains(s, l.Thumbprint) {
			t.Errorf("left out: %s", s)
		}
	}
}

// Whoever is known through a list alone is known.
func TestAnchorsOfMasterLists(t *testing.T) {
	signer, err := idcard.NewAuthority(idcard.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	list, err := signer.MasterList([][]byte{state(t).CSCA(), signer.CSCA(), signer.Signer(), {5, 0}}, idcard.MasterListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"ut.ml": list, "csca.der": state(t).CSCA()}
	one := "[[anchors]]\nfile = \"csca.der\"\nclass = \"test\"\n"
	w := registrytest.New(t)
	p, _, left, err := signs(t, w, one+one+listed("ut.ml", "test", pinOf(signer.CSCA())), files, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Anchors) != 2 || len(left) != 2 || slices.ContainsFunc(p.Anchors, func(r policy.Root) bool { return r.Class != record.Test }) {
		t.Errorf("%d anchors, left out %v", len(p.Anchors), left)
	}
	w.Accept(t, listed("ut.ml", "test", pinOf(signer.CSCA())), files)
	judge(t, w, []attempt{{"a card of a listed state", passport(t, card(t, idcard.SpecimenPerson(), idcard.Options{})), nil, true}})
}

// Every mistake about whom to trust is named, with its file or its kind, and
// nothing is signed.
func TestMistakesAboutTrust(t *testing.T) {
	csca := state(t).CSCA()
	list, err := state(t).MasterList([][]byte{csca}, idcard.MasterListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	unmarked, err := state(t).MasterList([][]byte{csca}, idcard.MasterListOptions{Unmarked: true})
	if err != nil {
		t.Fatal(err)
	}
	altered := bytes.Clone(list)
	altered[len(altered)-1] ^= 1
	pin := pinOf(csca)
	root := belgians(t, beid.Applet18).Root()
	files := map[string][]byte{"ut.ml": list, "unmarked.ml": unmarked, "altered.ml": altered, "csca.der": csca, "signer.der": state(t).Signer(),
		"root.der": root, "crl.der": []byte("no CRL")}
	root18 := "[[documents.roots]]\nfile = \"root.der\"\nclass = \"test\"\n"
	document := func(kind, rest string) string { return fmt.Sprintf("[[documents]]\nkind = %q\n%s", kind, rest) }
	for name, c := range map[string]struct {
		more string
		says []string
	}{
		"no such list":            {listed("none.ml", "test", pin), []string{"master_lists", "none.ml"}},
		"no list":                 {listed("csca.der", "test", pin), []string{"master_lists", "csca.der", "malformed"}},
		"another's list":          {listed("ut.ml", "test", pinOf(root)), []string{"master_lists", "ut.ml", "authority is not known"}},
		"altered list":            {listed("altered.ml", "test", pin), []string{"master_lists", "altered.ml", "signature"}},
		"signed by anybody":       {listed("unmarked.ml", "test", pin), []string{"master_lists", "unmarked.ml", "not made for that"}},
		"no pin":                  {"[[master_lists]]\nfile = \"ut.ml\"\nclass = \"test\"\n", []string{"ut.ml", "pin", "64 hexadecimal digits"}},
		"half a pin":              {listed("ut.ml", "test", pin[:32]), []string{"ut.ml", "pin", "64 hexadecimal digits"}},
		"no class":                {listed("ut.ml", "", pin), []string{"anchors", "class"}},
		"unknown class":           {listed("ut.ml", "nice", pin), []string{"anchors", `class "nice"`}},
		"two classes":             {"[[anchors]]\nfile = \"csca.der\"\nclass = \"production\"\n" + listed("ut.ml", "test", pin), []string{"master_lists", "ut.ml", "production", "test"}},
		"an anchor's two classes": {"[[anchors]]\nfile = \"csca.der\"\nclass = \"production\"\n[[anchors]]\nfile = \"csca.der\"\nclass = \"test\"\n", []string{"anchors", "csca.der", "production", "test"}},
		"an anchor that is none":  {"[[anchors]]\nfile = \"signer.der\"\nclass = \"test\"\n", []string{"anchors", "signer.der", "not a certificate authority"}},
		"unknown key":             {listed("ut.ml", "test", pin) + "roots = []\n", []string{`unknown key "master_lists.roots"`}},

		"unknown kind":         {document("library-card", ""), []string{`document "library-card"`, "unknown kind"}},
		"no kind":              {"[[documents]]\nmay_lack = []\n", []string{`document ""`, "unknown kind"}},
		"a kind twice":         {document("emrtd", "") + document("emrtd", ""), []string{`document "emrtd"`, "twice"}},
		"unknown exception":    {document("emrtd", "may_lack = [\"no-face\"]\n"), []string{`document "emrtd"`, `unknown exception "no-face"`}},
		"class beside roots":   {document("belgian-eid", "class = \"test\"\n"+root18), []string{`document "belgian-eid"`, "roots", "class"}},
		"class, no roots":      {document("belgian-eid", "class = \"test\"\n"), []string{`document "belgian-eid"`, "roots"}},
		"no roots":             {document("belgian-eid", ""), []string{`document "belgian-eid"`, "roots"}},
		"a root that is none":  {document("belgian-eid", strings.Replace(root18, "root.der", "crl.der", 1)), []string{"belgian-eid", "root"}},
		"no such root":         {document("belgian-eid", strings.Replace(root18, "root.der", "none.der", 1)), []string{"belgian-eid", "roots", "none.der"}},
		"root without a class": {document("belgian-eid", strings.Replace(root18, "class = \"test\"\n", "", 1)), []string{"belgian-eid", "root"}},
		"root of two classes":  {document("belgian-eid", root18+strings.Replace(root18, "test", "production", 1)), []string{"belgian-eid", "production", "test"}},
		"roots of eMRTDs":      {document("emrtd", root18), []string{`document "emrtd"`, "anchors"}},
		"class of eMRTDs":      {document("emrtd", "class = \"test\"\n"), []string{`document "emrtd"`, "anchors"}},
		"roots of nobody":      {document("prc-resident", "class = \"test\"\n"+root18), []string{`document "prc-resident"`, "nobody signs it"}},
		"class of nobody":      {document("prc-resident", ""), []string{`document "prc-resident"`, "class"}},
		"unknown word":         {document("emrtd", "must_lack = []\n"), []string{`unknown key "documents.must_lack"`}},
	} {
		t.Run(name, func(t *testing.T) {
			w := registrytest.New(t)
			_, _, _, err := signs(t, w, c.more, files, time.Now())
			if err == nil {
				t.Fatal("signed")
			}
			for _, word := range c.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%v: does not say %s", err, word)
				}
			}
		})
	}
}

// A CRL that has been due for replacement is a slip of whoever signs: it is named.
func TestOutdatedOfficersCRL(t *testing.T) {
	w := registrytest.New(t)
	w.Set(t, "officer_crls = [\"officers.crl\"]\n", map[string][]byte{"officers.crl": w.Officers.CRL(t, time.Now(), w.Officer)})
	if p, _, _, err := signs(t, w, "", nil, time.Now()); err != nil || len(p.OfficerCRLs) != 1 {
		t.Fatalf("in time: %v", err)
	}
	_, _, _, err := signs(t, w, "", nil, time.Now().AddDate(0, 0, 8))
	if err == nil || !strings.Contains(err.Error(), "officers.crl is outdated since") {
		t.Errorf("a week later: %v", err)
	}
}

// What the description says of documents is what the policy has.
func TestDocumentRules(t *testing.T) {
	w := registrytest.New(t)
	root := belgians(t, beid.Applet18).Root()
	p, _, _, err := signs(t, w, strings.Replace(acceptsBelgian, "belgium17.der", "belgium18.der", 1)+acceptsResident+acceptsChipless, map[string][]byte{"belgium18.der": root}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Documents) != 3 {
		t.Fatalf("%d rules", len(p.Documents))
	}
	for _, want := range []policy.Document{
		{Kind: record.BelgianEID, MayLack: noChip, Roots: []policy.Root{{Certificate: root, Class: record.Test}, {Certificate: root, Class: record.Test}}},
		{Kind: record.PRCResident, MayLack: neither, Class: record.Test},
		{Kind: record.EMRTD, MayLack: noChip},
	} {
		got, ok := p.Document(want.Kind)
		same := func(a, b policy.Root) bool { return bytes.Equal(a.Certificate, b.Certificate) && a.Class == b.Class }
		if !ok || !slices.Equal(got.MayLack, want.MayLack) || got.Class != want.Class || !slices.EqualFunc(got.Roots, want.Roots, same) {
			t.Errorf("%s: may lack %v, %d roots, class %q", want.Kind, got.MayLack, len(got.Roots), got.Class)
		}
	}
}

// A known maker's authorities come with the program: roots of class production,
// each intermediate under one of them.
func TestKnownMaker(t *testing.T) {
	w := registrytest.New(t)
	w.Set(t, "piv_makers = [\"yubico\"]\n", nil)
	p := w.Sign(t, 2, time.Now()).Policy()
	roots, intermediates := attest.Yubico()
	for _, r := range roots {
		if !slices.ContainsFunc(p.PIVRoots, func(o policy.Root) bool {
			return bytes.Equal(o.Certificate, r.Certificate.Raw) && o.Class == record.Production
		}) {
			t.Errorf("%s is not trusted as production", r.Certificate.Subject)
		}
	}
	for _, c := range intermediates {
		if !slices.ContainsFunc(p.PIVIntermediates, func(der []byte) bool { return bytes.Equal(der, c.Raw) }) {
			t.Errorf("%s is not in the policy", c.Subject)
		}
	}
	in := filepath.Join(w.Dir, "policy.toml")
	text, err := os.ReadFile(in)
	if err == nil {
		err = os.WriteFile(in, bytes.Replace(text, []byte(`"yubico"`), []byte(`"somebody"`), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vault.SignPolicy(t.Context(), w.VaultDir(), in, time.Now()); err == nil || !strings.Contains(err.Error(), "only yubico") {
		t.Errorf("an unknown maker: %v", err)
	}
}
