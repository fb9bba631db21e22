package vault

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/tomlfile"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/trust"
)

// masterList is a state's signed list of CSCA certificates (Doc 9303-12 9).
type masterList struct {
	File  string       `toml:"file"`
	Class record.Class `toml:"class"`
	Pin   string       `toml:"pin"` // SHA-256 of the CSCA certificate that vouches for the list, hexadecimal
}

// LeftOut is a certificate of a master list that no document can be verified
// with. It is not in the policy.
type LeftOut struct {
	File       string // the list
	Country    string // two letters; empty if it cannot be read
	Thumbprint string // SHA-256, hexadecimal
	Err        error
}

func (l LeftOut) String() string {
	return fmt.Sprintf("%s: certificate %s of %q is of no use and left out: %v", l.File, l.Thumbprint, l.Country, l.Err)
}

// addAnchors gives p the CSCA certificates of single files and of master lists,
// each once, and sees that documents can be verified with them.
func (f policyFile) addAnchors(p *policy.Policy, file string, now time.Time, leftOut func(LeftOut)) error {
	for _, a := range f.Anchors {
		tomlfile.In(file, &a.File)
		der, err := keyfile.ReadDER(a.File)
		if err != nil {
			return fmt.Errorf("anchors: %w", err)
		}
		if _, err := anchorsOf(policy.Policy{Anchors: []policy.Root{{Certificate: der, Class: a.Class}}}); err != nil {
			return fmt.Errorf("anchors: %s: %w", a.File, err)
		}
		if err := addAnchor(p, der, a.Class); err != nil {
			return fmt.Errorf("anchors: %s: %w", a.File, err)
		}
	}
	for _, l := range f.MasterLists {
		tomlfile.In(file, &l.File)
		if err := l.add(p, now, leftOut); err != nil {
			return fmt.Errorf("master_lists: %w", err)
		}
	}
	if _, err := anchorsOf(*p); err != nil {
		return fmt.Errorf("anchors and crls: %w", err)
	}
	return nil
}

// add verifies the list as of now and gives p what can be used of it.
func (l masterList) add(p *policy.Policy, now time.Time, leftOut func(LeftOut)) error {
	b, err := os.ReadFile(l.File)
	if err != nil {
		return err
	}
	pin, err := parseDigest(l.Pin)
	if err != nil {
		return fmt.Errorf("%s: pin: %w, the CSCA certificate that vouches for the list", l.File, err)
	}
	list, err := trust.ParseMasterList(b, trust.Anchors{}, now, pin)
	if err != nil {
		return fmt.Errorf("%s: %w", l.File, err)
	}
	for _, c := range list.Certificates {
		if c.Err != nil {
			leftOut(LeftOut{l.File, c.Country, c.Thumbprint, c.Err})
			continue
		}
		if err := addAnchor(p, c.Certificate, l.Class); err != nil {
			return fmt.Errorf("%s: certificate %s of %s: %w", l.File, c.Thumbprint, c.Country, err)
		}
	}
	return nil
}

func addAnchor(p *policy.Policy, der []byte, class record.Class) error {
	for _, known := range p.Anchors {
		switch {
		case !bytes.Equal(known.Certificate, der):
		case known.Class != class:
			return fmt.Errorf("it is given as %s and as %s", known.Class, class)
		default:
			return nil
		}
	}
	p.Anchors = append(p.Anchors, policy.Root{Certificate: der, Class: class})
	return nil
}

// anchorsOf prepares a policy's anchors and their revocation lists.
func anchorsOf(p policy.Policy) (trust.Anchors, error) {
	var list []trust.Anchor
	for _, a := range p.Anchors {
		list = append(list, trust.Anchor{Certificate: a.Certificate, Class: trust.Class(a.Class)})
	}
	return trust.NewAnchors(list, p.CRLs...)
}

// belgianRoots prepares the roots of a rule for Belgian cards.
func belgianRoots(d policy.Document) (beid.Roots, error) {
	var list []beid.Root
	for _, root := range d.Roots {
		list = append(list, beid.Root{Certificate: root.Certificate, Class: beid.Class(root.Class)})
	}
	return beid.NewRoots(list...)
}
