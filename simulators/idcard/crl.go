package idcard

import (
	"fmt"
	"math/big"
	"slices"
	"time"
)

// CRLOptions choose what a revocation list says. The zero value is what CRL(false) gives.
type CRLOptions struct {
	Signer    bool       // lists the document signer
	Serials   []*big.Int // lists these too
	None      bool       // lists nobody: without it the signer of the fault RevokedSigner stands there always
	Published time.Time  // zero: an hour ago
	Next      time.Time  // zero: in ninety days
	Number    int64      // 0: the seconds of Published
	Base      int64      // not 0: a delta to the list of that number (RFC 5280 5.2.4)
	EditTBS   Edit       // before the CSCA signs
	Edit      Edit       // after
}

// CRL is a fresh revocation list of the CSCA, DER; it lists the document signer when told to.
func (a *Authority) CRL(revokeSigner bool) ([]byte, error) {
	return a.RevocationList(CRLOptions{Signer: revokeSigner})
}

// RevocationList is a CRL of version 2 (RFC 5280 5, 9303-12 7.1.4).
func (a *Authority) RevocationList(o CRLOptions) ([]byte, error) {
	now := time.Now().UTC()
	if o.Published.IsZero() {
		o.Published = now.Add(-time.Hour)
	}
	if o.Next.IsZero() {
		o.Next = now.Add(90 * 24 * time.Hour)
	}
	if o.Number == 0 {
		o.Number = o.Published.Unix()
	}
	serials := slices.Clone(o.Serials)
	if o.Signer {
		serials = append(serials, a.signer.serial)
	}
	if !o.None {
		serials = append(serials, a.revokedSerial())
	}
	algorithm, err := a.csca.scheme.identifier()
	if err != nil {
		return nil, err
	}
	var entries, revoked []byte
	for _, serial := range serials {
		entries = append(entries, tlv(0x30, integer(serial), moment(o.Published))...)
	}
	if entries != nil { // an empty list is left out (RFC 5280 5.1.2.6)
		revoked = tlv(0x30, entries)
	}
	extensions := [][]byte{
		extension(false, oid(2, 5, 29, 35), tlv(0x30, tlv(0x80, a.csca.keyID))),
		extension(false, oid(2, 5, 29, 20), integer(big.NewInt(o.Number))),
	}
	if o.Base != 0 {
		extensions = append(extensions, extension(true, oid(2, 5, 29, 27), integer(big.NewInt(o.Base))))
	}
	tbs, err := edited(tlv(0x30, small(1), algorithm, a.csca.subject, moment(o.Published), moment(o.Next),
		revoked, tlv(0xA0, tlv(0x30, extensions...))), o.EditTBS)
	if err != nil {
		return nil, fmt.Errorf("make CRL: %w", err)
	}
	_, signature, err := a.csca.key.sign(a.csca.scheme, tbs)
	if err != nil {
		return nil, fmt.Errorf("make CRL: %w", err)
	}
	der, err := edited(tlv(0x30, tbs, algorithm, tlv(0x03, []byte{0}, signature)), o.Edit)
	if err != nil {
		return nil, fmt.Errorf("make CRL: %w", err)
	}
	return der, nil
}

// revokedSerial is the number of the signer that RevokedSigner cards have. It
// follows from the authority, so that a list made before such a card revokes it too.
func (a *Authority) revokedSerial() *big.Int {
	return new(big.Int).Add(a.signer.serial, big.NewInt(1))
}
