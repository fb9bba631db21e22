package trust

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"

	"enrollkiosk/smartcard/tlv"
)

// distinguished is a name of a certificate. States write one name in different
// string types and cases; canonical is the same for all of them (RFC 5280 7.1).
type distinguished struct {
	raw       []byte // Name, DER
	canonical string
}

func newName(der []byte) distinguished {
	return distinguished{bytes.Clone(der), canonicalName(der)}
}

// canonicalName is for comparing. A name that cannot be read stands for itself.
func canonicalName(der []byte) string {
	var rdn pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &rdn); err != nil || len(rest) != 0 {
		return string(der)
	}
	var b strings.Builder
	for _, set := range rdn {
		for _, a := range set {
			value, ok := a.Value.(string)
			if !ok {
				return string(der)
			}
			fmt.Fprintf(&b, "%v=%q+", a.Type, strings.ToLower(strings.Join(strings.Fields(value), " ")))
		}
		b.WriteByte(',')
	}
	return b.String()
}

var (
	oidCountry = asn1.ObjectIdentifier{2, 5, 4, 6}
	oidCommon  = asn1.ObjectIdentifier{2, 5, 4, 3}
)

// country is the C attribute in upper case, "" if there is none.
func (d distinguished) country() string {
	var rdn pkix.RDNSequence
	if _, err := asn1.Unmarshal(d.raw, &rdn); err != nil {
		return ""
	}
	for _, set := range rdn {
		for _, a := range set {
			if s, ok := a.Value.(string); ok && a.Type.Equal(oidCountry) {
				return strings.ToUpper(s)
			}
		}
	}
	return ""
}

// check holds a name to Doc 9303-12 7.1.1. Without one country of two letters in
// a PrintableString nothing can be said of the state: an error. The other rules
// are broken by states whose documents are genuine, which is a slip: capitals, a
// common name, no string types but PrintableString and UTF8String.
func (d distinguished) check() (slip bool, err error) {
	outer, err := tlv.ParseOne(d.raw, 0x30)
	if err != nil {
		return false, err
	}
	sets, err := outer.Children()
	if err != nil {
		return false, err
	}
	const printable, utf8 = 0x13, 0x0C
	countries, common := 0, 0
	for _, set := range sets {
		attributes, err := set.Children()
		if err != nil {
			return false, err
		}
		for _, a := range attributes {
			c := a.Cursor()
			var id asn1.ObjectIdentifier
			if err := decode(c.Next(0x06).Raw, &id); err != nil {
				return false, err
			}
			value := c.Any()
			if err := c.Done(); err != nil {
				return false, err
			}
			slip = slip || value.Tag != printable && value.Tag != utf8
			switch {
			case id.Equal(oidCountry):
				countries++
				if value.Tag != printable || len(value.Value) != 2 || !letters(value.Value) {
					return false, fmt.Errorf("country")
				}
				slip = slip || !bytes.Equal(value.Value, bytes.ToUpper(value.Value))
			case id.Equal(oidCommon):
				common++
			}
		}
	}
	if countries != 1 {
		return false, fmt.Errorf("%d countries", countries)
	}
	return slip || common == 0, nil
}

func letters(b []byte) bool {
	for _, c := range b {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			return false
		}
	}
	return true
}
