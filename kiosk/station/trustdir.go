package station

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/durable"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

// Trusted is whom an inspection trusts to have issued a document.
type Trusted struct {
	Anchors trust.Anchors
	Belgian beid.Roots
}

// TrustOf is whom a policy trusts.
func TrustOf(p policy.Policy) (t Trusted, err error) {
	if t.Anchors, err = kiosk.Anchors(p); err != nil {
		return t, err
	}
	rule, _ := p.Document(record.BelgianEID)
	t.Belgian, err = kiosk.BelgianRoots(rule)
	return t, err
}

// A trust folder is for inspections by hand; enrollments trust whom the signed
// policy names, and nothing here. It holds
//
//	*.cer *.crt *.der *.pem   CSCA certificates
//	*.crl                     their revocation lists
//	belgium/                  certificates of Belgian root authorities
//	test/                     the same three, of class test
//	lists/CC.ml               master lists, one for each country that signs them
//	lists/pins                SHA-256 of the certificates that first lists were trusted by
const (
	belgiumDir = "belgium"
	testDir    = "test"
	listsDir   = "lists"
	pinsFile   = "pins"
)

// ErrOlderList: the installed master list of that country is newer.
var ErrOlderList = errors.New("station: older than the installed master list")

// UnpinnedError means that nobody vouches for a master list yet. Its signer
// stands under a certificate that only the list's publisher can confirm.
type UnpinnedError struct {
	Country   string
	Authority string // SHA-256 of that certificate, hex
}

func (e *UnpinnedError) Error() string {
	return fmt.Sprintf("the list of %s is signed under a certificate that nobody here trusts yet, SHA-256 %s", e.Country, e.Authority)
}

// ReadTrust reads a trust folder. Master lists are verified again. A revocation
// list or a listed certificate that is of no use to this program is left out.
func ReadTrust(dir string, at time.Time) (Trusted, error) {
	var t Trusted
	var anchors []trust.Anchor
	var crls [][]byte
	var roots []beid.Root
	for _, place := range []struct {
		dir   string
		class trust.Class
	}{{dir, trust.Production}, {filepath.Join(dir, testDir), trust.Test}} {
		certs, lists, err := readCertificates(place.dir)
		if err != nil {
			return t, err
		}
		for _, der := range certs {
			anchors = append(anchors, trust.Anchor{Certificate: der, Class: place.class})
		}
		crls = append(crls, lists...)
		certs, _, err = readCertificates(filepath.Join(place.dir, belgiumDir))
		if err != nil {
			return t, err
		}
		for _, der := range certs {
			roots = append(roots, beid.Root{Certificate: der, Class: beid.Class(place.class)})
		}
	}
	lists, err := readLists(dir, at)
	if err != nil {
		return t, err
	}
	for _, l := range lists {
		for _, c := range l.Certificates {
			if c.Err == nil && !slices.ContainsFunc(anchors, func(a trust.Anchor) bool { return bytes.Equal(a.Certificate, c.Certificate) }) {
				anchors = append(anchors, trust.Anchor{Certificate: c.Certificate, Class: trust.Production})
			}
		}
	}
	if t.Anchors, err = trust.NewAnchors(anchors, crls...); err != nil {
		return t, fmt.Errorf("trust folder: %w", err)
	}
	if t.Belgian, err = beid.NewRoots(roots...); err != nil {
		return t, fmt.Errorf("trust folder: %w", err)
	}
	return t, nil
}

// readCertificates reads the certificates and revocation lists of one folder,
// DER or PEM. A folder that is not there has none, but for the outermost.
func readCertificates(dir string) (certs, crls [][]byte, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && (filepath.Base(dir) == testDir || filepath.Base(dir) == belgiumDir) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("trust folder: %w", err)
	}
	for _, e := range entries {
		suffix := strings.ToLower(filepath.Ext(e.Name()))
		if e.IsDir() || !slices.Contains([]string{".cer", ".crt", ".der", ".pem", ".crl"}, suffix) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, nil, fmt.Errorf("trust folder: %w", err)
		}
		for _, der := range unwrap(b) {
			if suffix == ".crl" {
				crls = append(crls, der)
			} else {
				certs = append(certs, der)
			}
		}
	}
	return certs, crls, nil
}

// unwrap takes the blocks out of PEM; anything else is DER as it is.
func unwrap(b []byte) (blocks [][]byte) {
	for rest := b; ; {
		block, more := pem.Decode(rest)
		if block == nil {
			break
		}
		blocks, rest = append(blocks, block.Bytes), more
	}
	if blocks == nil {
		blocks = [][]byte{b}
	}
	return blocks
}

func readPins(dir string) (pins [][32]byte, err error) {
	b, err := os.ReadFile(filepath.Join(dir, listsDir, pinsFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pins of master lists: %w", err)
	}
	for _, line := range strings.Fields(string(b)) {
		pin, err := ParsePin(line)
		if err != nil {
			return nil, fmt.Errorf("pins of master lists: %w", err)
		}
		pins = append(pins, pin)
	}
	return pins, nil
}

// ParsePin reads the SHA-256 of a certificate: 64 hexadecimal digits, which may
// be grouped by colons.
func ParsePin(s string) (pin [32]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) != len(pin) {
		return pin, fmt.Errorf("%q is not the SHA-256 of a certificate: 64 hexadecimal digits", s)
	}
	return [32]byte(b), nil
}

// readLists verifies the installed master lists, by the country that signed them.
func readLists(dir string, at time.Time) (map[string]trust.MasterList, error) {
	pins, err := readPins(dir)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, listsDir, "*.ml"))
	if err != nil {
		return nil, err
	}
	lists := map[string]trust.MasterList{}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		l, err := trust.ParseMasterList(b, trust.Anchors{}, at, pins...)
		if err != nil {
			return nil, fmt.Errorf("installed master list %s: %w", filepath.Base(name), err)
		}
		lists[l.Country] = l
	}
	return lists, nil
}

// ImportMasterList verifies a master list and installs it in a trust folder, in
// place of the one that the same country signed before. The first list of a
// country needs the pin of the certificate that vouches for it: without one, or
// with another, it fails with *UnpinnedError. It returns the list and what it
// changes.
func ImportMasterList(dir string, file []byte, at time.Time, pin *[32]byte) (trust.MasterList, []trust.Change, error) {
	pins, err := readPins(dir)
	if err != nil {
		return trust.MasterList{}, nil, err
	}
	if pin != nil && !slices.Contains(pins, *pin) {
		pins = append(pins, *pin)
	}
	list, err := trust.ParseMasterList(file, trust.Anchors{}, at, pins...)
	if errors.Is(err, trust.ErrUnknownAuthority) {
		return list, nil, unpinned(file, at, err)
	}
	if err != nil {
		return list, nil, err
	}
	installed, err := readLists(dir, at)
	if err != nil {
		return list, nil, err
	}
	older := installed[list.Country]
	if list.Signed.Before(older.Signed) {
		return list, nil, fmt.Errorf("%w: signed %s, installed one %s", ErrOlderList, list.Signed.Format(time.DateOnly), older.Signed.Format(time.DateOnly))
	}
	var text bytes.Buffer
	for _, p := range pins {
		fmt.Fprintf(&text, "%x\n", p)
	}
	where := filepath.Join(dir, listsDir)
	if err := os.MkdirAll(where, 0o755); err != nil {
		return list, nil, err
	}
	// The pin first: a list without its pin would not be read.
	for _, f := range []struct {
		name    string
		content []byte
	}{{pinsFile, text.Bytes()}, {list.Country + ".ml", file}} {
		if err := durable.Replace(filepath.Join(where, f.name), f.content); err != nil {
			return list, nil, err
		}
	}
	return list, trust.Diff(older, list), nil
}

// unpinned names the certificate that a list asks to be trusted by.
func unpinned(file []byte, at time.Time, because error) error {
	parsed, err := lds.ParseMasterList(file)
	if err != nil {
		return because
	}
	var all [][32]byte
	for _, der := range slices.Concat(parsed.List, parsed.SignedData.Certificates) {
		if _, err := trust.NewAnchors([]trust.Anchor{{Certificate: der, Class: trust.Production}}); err == nil {
			all = append(all, sha256.Sum256(der))
		}
	}
	list, err := trust.ParseMasterList(file, trust.Anchors{}, at, all...)
	if err != nil {
		return because // not even with its own certificates
	}
	return &UnpinnedError{list.Country, list.Authority}
}
