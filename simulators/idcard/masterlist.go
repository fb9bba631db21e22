package idcard

import (
	"fmt"
	"slices"
)

// Renew makes the CSCA's next key: an authority with the same document signer's
// scheme under new keys, and the link certificate by which the old key vouches
// for the new one (9303-12 4.3.1, 7.1.1). A new common name is announced by the
// name change extension.
func (a *Authority) Renew(o AuthorityOptions) (next *Authority, link []byte, err error) {
	if o.Country == "" {
		o.Country, o.State = a.opts.Country, a.opts.State
	}
	if next, err = NewAuthorityWith(o); err != nil {
		return nil, nil, fmt.Errorf("renew CSCA: %w", err)
	}
	valid := next.opts.CSCAValid
	c, err := certify(template{
		subject: next.csca.subject, valid: Period{valid.From, a.opts.CSCAValid.To},
		key: next.csca.key, scheme: next.csca.scheme,
		extensions: cscaExtensions(next.opts.State, Period{valid.From, valid.From.Add(5 * year)},
			string(next.csca.subject) != string(a.csca.subject)),
	}, a.csca, o.EditLinkTBS, o.EditLink)
	if err != nil {
		return nil, nil, fmt.Errorf("make link certificate: %w", err)
	}
	return next, c.raw, nil
}

// MasterListOptions choose what a master list is like beside its certificates.
type MasterListOptions struct {
	Signed        SignedObject
	Scheme        Scheme // of the master list signer
	Valid         Period // of the master list signer; zero: that of the document signer
	Unmarked      bool   // the signer's certificate lacks the extended key usage
	EditSignerTBS Edit
}

// MasterList is a CscaMasterList of these certificates, signed by a master list
// signer under the state's CSCA (9303-12 8): a ContentInfo. The signer's and the
// CSCA's certificates are inside.
func (a *Authority) MasterList(certificates [][]byte, o MasterListOptions) ([]byte, error) {
	scheme, err := o.Scheme.filled(2048)
	if err != nil {
		return nil, fmt.Errorf("make master list: %w", err)
	}
	key, err := newPrivateKey(scheme)
	if err != nil {
		return nil, fmt.Errorf("make master list signer key: %w", err)
	}
	if o.Valid == (Period{}) {
		o.Valid = a.opts.SignerValid
	}
	extensions := append([][]byte{keyUsage(digitalSignature)},
		common(a.opts.State, Period{o.Valid.From, o.Valid.From.Add(2 * year)})...)
	if !o.Unmarked {
		extensions = append(extensions, extension(true, oid(2, 5, 29, 37), tlv(0x30, oid(2, 23, 136, 1, 1, 3))))
	}
	signer, err := certify(template{
		subject: name(a.opts.Country, "SPECIMEN Master List Signer"), valid: o.Valid, key: key, scheme: scheme,
		extensions: extensions,
	}, a.csca, o.EditSignerTBS, nil)
	if err != nil {
		return nil, fmt.Errorf("make master list signer certificate: %w", err)
	}
	o.Signed.Certificates = append(slices.Clone(o.Signed.Certificates), a.csca.raw)
	list, err := signedData(signer, oid(2, 23, 136, 1, 1, 2), tlv(0x30, small(0), set(slices.Clone(certificates)...)), o.Signed)
	if err != nil {
		return nil, fmt.Errorf("sign master list: %w", err)
	}
	return list, nil
}
