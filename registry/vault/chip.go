package vault

import (
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

// lacks are the proofs that a document could not give anybody. Where its chip
// proves itself in private, the kiosk's signed word for that stands: nobody can
// prove it to a third party. The word must be for what the issuer's signed files
// offer; a chip that could have proved itself, and has not, lacks nothing.
func lacks(d papers, holder identity.Holder) ([]record.Exception, error) {
	var list []record.Exception
	for _, l := range holder.Lacks() {
		list = append(list, record.Exception(l))
	}
	if !holder.ChipProvesInPrivate() || !slices.Contains(list, record.NoChipProof) {
		return list, nil
	}
	infos, security := chipFiles(holder.Files())
	switch c := d.chip; {
	case c != nil && c.Passed && (offersKey(infos, *c) || offersMapping(infos, security, *c)):
		return slices.DeleteFunc(list, func(e record.Exception) bool { return e == record.NoChipProof }), nil
	case c != nil && c.Passed:
		return nil, fmt.Errorf("%w: the kiosk speaks for what the document does not offer", trust.ErrChip)
	case c != nil || infos != nil && provable(*infos):
		return nil, trust.ErrChip
	}
	return list, nil
}

// hidesKeys wants the files with the chip's keys that EF.SOD lists: who leaves
// one out hides what the chip can prove.
func hidesKeys(doc lds.Document) error {
	sod, err := lds.ParseSOD(doc.Files[lds.EFSOD])
	if err != nil {
		return err
	}
	for _, f := range []lds.File{lds.DG14, lds.DG15} {
		if _, listed := sod.Hashes[f]; listed && doc.Files[f] == nil {
			return fmt.Errorf("%w: %v, which EF.SOD lists", trust.ErrMissing, f)
		}
	}
	return nil
}

// chipFiles reads DG14 and EF.CardSecurity, which have been verified; nil for
// what the document does not have.
func chipFiles(files map[uint16][]byte) (infos, security *lds.SecurityInfos) {
	if i, err := lds.ParseDG14(files[uint16(lds.DG14)]); err == nil {
		infos = &i
	}
	if s, err := lds.ParseCardSecurity(files[uint16(lds.EFCardSecurity)]); err == nil {
		security = &s.Infos
	}
	return infos, security
}

// offersKey says whether DG14 offers the Chip Authentication that is claimed
// (Doc 9303-11 9.2.5, 9.2.6).
func offersKey(dg14 *lds.SecurityInfos, c record.ChipClaim) bool {
	return dg14 != nil && slices.ContainsFunc(dg14.ChipAuthentication, func(i lds.ChipAuthenticationInfo) bool {
		return i.Protocol.String() == c.Protocol && slices.ContainsFunc(dg14.ChipAuthenticationKeys, func(k lds.ChipAuthenticationPublicKeyInfo) bool {
			named := len(c.KeyID) == 0 || k.KeyID != nil && k.KeyID.Cmp(new(big.Int).SetBytes(c.KeyID)) == 0
			return named && belongs(i, k)
		})
	})
}

// offersMapping says whether EF.CardSecurity offers the PACE with Chip
// Authentication Mapping that is claimed, with a key for it. DG14, which the
// document's own SOD covers, must know of it too, where there is one (Doc
// 9303-11 9.2.11): EF.CardSecurity alone could be another chip's.
func offersMapping(dg14, security *lds.SecurityInfos, c record.ChipClaim) bool {
	if security == nil || len(security.ChipAuthenticationKeys) == 0 {
		return false
	}
	for _, infos := range []*lds.SecurityInfos{security, dg14} {
		if infos != nil && !slices.ContainsFunc(infos.PACE, func(i lds.PACEInfo) bool {
			return i.Protocol.String() == c.Protocol && under(i.Protocol, lds.OIDPACEECDHCAM)
		}) {
			return false
		}
	}
	return true
}

// provable says whether DG14 has a key that a kiosk can have the chip prove
// itself with. Nobody is asked for a proof by a protocol or over a group that
// this program does not know.
func provable(dg14 lds.SecurityInfos) bool {
	return slices.ContainsFunc(dg14.ChipAuthentication, func(i lds.ChipAuthenticationInfo) bool {
		arc := i.Protocol[len(i.Protocol)-1]
		return i.Version == 1 && arc >= 1 && arc <= 4 && slices.ContainsFunc(dg14.ChipAuthenticationKeys, func(k lds.ChipAuthenticationPublicKeyInfo) bool {
			_, err := lds.ParseAgreementKey(k.SPKI)
			return err == nil && belongs(i, k)
		})
	})
}

// belongs says whether a key is for a protocol: of its kind, and of its number if
// it names one.
func belongs(i lds.ChipAuthenticationInfo, k lds.ChipAuthenticationPublicKeyInfo) bool {
	kind := under(i.Protocol, lds.OIDCAECDH) && k.Protocol.Equal(lds.OIDPKECDH) || under(i.Protocol, lds.OIDCADH) && k.Protocol.Equal(lds.OIDPKDH)
	return kind && (i.KeyID == nil || k.KeyID != nil && k.KeyID.Cmp(i.KeyID) == 0)
}

func under(oid, prefix asn1.ObjectIdentifier) bool {
	return len(oid) == len(prefix)+1 && oid[:len(prefix)].Equal(prefix)
}
