package trust

import (
	"crypto"
	"fmt"
	"slices"

	"enrollkiosk/smartcard/domain"
	"enrollkiosk/smartcard/lds"
)

// cardSecurity verifies EF.CardSecurity as the SOD was (Doc 9303-11 9.2.11) and
// holds EF.CardAccess, which nobody signed, to it: a signed file may say more, not
// less and nothing else.
func (v *verification) cardSecurity() (Verdict, error) {
	file := v.doc.Files[lds.EFCardSecurity]
	if file == nil {
		return NotChecked, nil
	}
	security, err := lds.ParseCardSecurity(file)
	if err != nil {
		return Failed, ofParsing(err)
	}
	signer, err := checkSigned(security.SignedData, v.anchors.signers)
	if err != nil {
		return Failed, err
	}
	ca, hash, err := v.anchors.documentSigner(signer, v.day(), v.at)
	if err != nil {
		return Failed, err
	}
	if ca.class != v.authority.class || ca.country() != v.authority.country() {
		return Failed, fmt.Errorf("%w: EF.CardSecurity and EF.SOD are of different states", ErrCertificate)
	}
	if _, _, err := v.anchors.revoked(signer.certificate, ca, v.at); err != nil {
		return Failed, err
	}
	if hash == crypto.SHA1 || signer.hash == crypto.SHA1 {
		v.warn(WarnSHA1)
	}
	if file := v.doc.Files[lds.EFCardAccess]; file != nil {
		access, err := lds.ParseCardAccess(file)
		if err != nil {
			return Failed, ofParsing(err)
		}
		if !covers(security.Infos, access) {
			return Failed, fmt.Errorf("%w: EF.CardAccess offers what EF.CardSecurity does not", ErrHash)
		}
	}
	v.security = &security
	return Passed, nil
}

// unproven is the verdict on a protocol that was not run: whether the signed
// list of data groups has file f with its keys decides.
func (v *verification) unproven(f lds.File, noKeys bool) Verdict {
	if _, listed := v.sod.Hashes[f]; !listed || v.doc.Files[f] != nil && noKeys {
		return Impossible
	}
	return NotChecked
}

func (v *verification) chipAuthentication() (Verdict, error) {
	if v.doc.Chip == nil {
		return v.unproven(lds.DG14, len(v.infos.ChipAuthenticationKeys) == 0), nil
	}
	if v.doc.Files[lds.DG14] == nil {
		return Failed, fmt.Errorf("%w: %v", ErrMissing, lds.DG14)
	}
	if err := checkChipAuthentication(v.infos, *v.doc.Chip); err != nil {
		return Failed, err
	}
	return Passed, nil
}

// chipMapping wants the signed DG14, where it has been read, to know of the
// mapping too (Doc 9303-11 9.2).
func (v *verification) chipMapping() (Verdict, error) {
	e := v.doc.CAM
	if e == nil {
		return NotChecked, nil
	}
	if v.security == nil {
		return Failed, fmt.Errorf("%w: %v", ErrMissing, lds.EFCardSecurity)
	}
	if v.doc.Files[lds.DG14] != nil && !offersMapping(v.infos, *e) {
		return Failed, fmt.Errorf("%w: DG14 does not offer %v", ErrChip, e.Protocol)
	}
	if err := checkChipMapping(v.security.Infos, *e); err != nil {
		return Failed, err
	}
	return Passed, nil
}

func offersMapping(infos lds.SecurityInfos, e lds.ChipMapping) bool {
	return slices.ContainsFunc(infos.PACE, func(i lds.PACEInfo) bool {
		return i.Protocol.Equal(e.Protocol) && i.ParameterID == e.ParameterID
	})
}

// checkChipMapping computes the mapping key out of the static key again (Doc
// 9303-11 4.4.3.3.3): who knows the factor between the two and used the private
// key to one has the private key to the other.
func checkChipMapping(infos lds.SecurityInfos, e lds.ChipMapping) error {
	if !below(e.Protocol, lds.OIDPACEECDHCAM) || !offersMapping(infos, e) {
		return fmt.Errorf("%w: EF.CardSecurity does not offer %v", ErrChip, e.Protocol)
	}
	group, ok := domain.Standardized(e.ParameterID)
	if !ok || !group.Elliptic() {
		return fmt.Errorf("%w: domain parameters %d", ErrUnsupported, e.ParameterID)
	}
	mapping, err := group.Parse(e.MappingKey)
	if err != nil {
		return fmt.Errorf("%w: mapping key: %w", ErrChip, err)
	}
	if len(e.Data) == 0 || len(e.Data) > len(group.Order().Bytes()) {
		return fmt.Errorf("%w: chip authentication data of %d bytes", ErrChip, len(e.Data))
	}
	for _, info := range infos.ChipAuthenticationKeys {
		key, err := lds.ParseAgreementKey(info.SPKI)
		if err == nil && key.Group == group && group.Multiply(key.Public, e.Data).Equal(mapping) {
			return nil
		}
	}
	return fmt.Errorf("%w: no key of EF.CardSecurity gives the mapping key", ErrChip)
}

func (v *verification) activeAuthentication() (Verdict, error) {
	e := v.doc.Active
	if e == nil {
		return v.unproven(lds.DG15, false), nil
	}
	file := v.doc.Files[lds.DG15]
	if file == nil {
		return Failed, fmt.Errorf("%w: %v", ErrMissing, lds.DG15)
	}
	switch want := v.opts.ExpectedChallenge; {
	case want == nil:
		v.warn(WarnChallenge)
	case *want != e.Challenge:
		return Failed, fmt.Errorf("%w: another challenge was answered", ErrChip)
	}
	key, err := lds.ParseDG15(file)
	if err != nil {
		return Failed, ofParsing(err)
	}
	hash, err := checkActiveAuthentication(key, v.infos, *e)
	if err != nil {
		return Failed, err
	}
	if hash == crypto.SHA1 {
		v.warn(WarnSHA1)
	}
	return Passed, nil
}

func (v *verification) chipPolicy() (Verdict, error) {
	active := v.report.ActiveAuthentication
	proofs := []Verdict{v.report.ChipAuthentication, v.report.ChipMapping, active}
	none := v.report.ChipAuthentication == Impossible && active == Impossible && v.security == nil
	switch {
	case v.opts.RequireActive && active == Impossible, v.opts.RequireChip && none:
		return Failed, ErrChipCannotProve
	case v.opts.RequireActive && active != Passed, v.opts.RequireChip && !slices.Contains(proofs, Passed):
		return Failed, ErrChip
	}
	return Passed, nil
}
