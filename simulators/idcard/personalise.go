package idcard

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Options choose what kind of card a person gets. The zero value is a card of
// today: PACE-ECDH-GM with AES-128 on P-256 (CAN and MRZ) beside BAC, Chip
// Authentication with AES-128 on P-256, Active Authentication with ECDSA P-256.
type Options struct {
	PACE []PACE // variants in EF.CardAccess, in this order

	ChipSuite      Suite      // of Chip Authentication
	ChipDomain     Domain     // of Chip Authentication; 0: P-256, or that of PACE with Chip Authentication Mapping
	ChipKeyID      int        // key identifier in DG14, 0: none
	ChipKeys       []ChipKey  // in place of the three above; where Private is nil it is made
	ChipParameters Parameters // how DG14 states the domain

	Active       Algorithm // of Active Authentication: ECDSA (plain), or RSA with 2048 bits (1024 on a ShortOnly card)
	ActiveScheme Scheme    // in place of Active, with hash, curve or size; ECDSA is DER here

	TerminalAuthentication bool // announced in DG14 and EF.CardSecurity

	Face  []byte            // a JPEG or JPEG 2000 for DG2; nil: Portrait draws one
	DG2   FaceGroup         // how DG2 is written
	Files map[uint16][]byte // further files of the application, or other contents; data groups enter COM and SOD

	LDSVersion   string        // "": LDS17
	GroupHash    crypto.Hash   // of the data groups; 0: that of the SOD
	SOD          SignedObject  // how EF.SOD is written
	CardSecurity *SignedObject // how EF.CardSecurity is written; nil: only PACE with Chip Authentication Mapping has it

	EditZone func(zone string) string               // alters the zone in DG1, not what is printed
	EditFile func(id uint16, content []byte) []byte // alters a file of the application: a data group before it is hashed, EF.SOD when it is signed

	Faults []Fault

	Chip func(*Profile) // changes the finished profile before the chip is made of it; nil: nothing to change
}

// dataGroupTags are the tags of DG1 to DG16 (9303-10 4.6.1).
var dataGroupTags = [17]byte{0, 0x61, 0x75, 0x63, 0x76, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x6B, 0x6C, 0x6D, 0x6E, 0x6F, 0x70}

// Personalise makes a card for the person.
func (a *Authority) Personalise(p Person, opts Options) (*Chip, error) {
	profile, err := a.personalise(p, opts)
	if err != nil {
		return nil, fmt.Errorf("personalise: %w", err)
	}
	return New(profile)
}

func (a *Authority) personalise(p Person, opts Options) (Profile, error) {
	has := func(f Fault) bool { return slices.Contains(opts.Faults, f) }
	if has(BACOnly) && has(PACEOnly) {
		return Profile{}, errors.New("a card without BAC and without PACE cannot be opened")
	}
	if has(Expired) {
		p.Expiry = time.Now().UTC().AddDate(0, 0, -1)
	}
	if has(SHA1SOD) {
		opts.GroupHash, opts.SOD.Hash = crypto.SHA1, crypto.SHA1
	}
	if has(IndefiniteSOD) {
		opts.SOD.Indefinite = true
	}
	signer, err := a.signerFor(opts.Faults)
	if err != nil {
		return Profile{}, err
	}
	zone, err := p.zone()
	if err != nil {
		return Profile{}, err
	}
	profile := Profile{CAN: p.CAN, MRZ: zone, BAC: !has(PACEOnly), PACE: opts.PACE, Faults: opts.Faults}
	if len(profile.PACE) == 0 {
		profile.PACE = []PACE{{GM, AES128, P256}}
	}
	if has(BACOnly) {
		profile.PACE, profile.CAN = nil, ""
	}
	if profile.Application, err = profile.files(p, signer, opts); err != nil {
		return Profile{}, err
	}
	profile.Master = map[uint16][]byte{efDIR: tlv(0x61, tlv(0x4F, application))}
	if len(profile.PACE) > 0 {
		profile.Master[efCardAccess] = set(paceInfos(profile.PACE)...)
	}
	security := opts.CardSecurity
	if security == nil && slices.ContainsFunc(profile.PACE, func(v PACE) bool { return v.Mapping == CAM }) {
		security = &SignedObject{}
	}
	if security != nil {
		if profile.Master[efCardSecurity], err = cardSecurity(signer, &profile, opts, *security); err != nil {
			return Profile{}, err
		}
	}
	if err := profile.spoil(p, has); err != nil {
		return Profile{}, err
	}
	if opts.Chip != nil {
		opts.Chip(&profile)
	}
	return profile, nil
}

// signerFor is the document signer of a card with these faults.
func (a *Authority) signerFor(faults []Fault) (certified, error) {
	has := func(f Fault) bool { return slices.Contains(faults, f) }
	if has(UnknownCSCA) {
		other, err := NewAuthorityWith(a.opts)
		if err != nil {
			return certified{}, err
		}
		a = other
	}
	if !has(RevokedSigner) && !has(ExpiredSigner) && !has(SelfMadeSOD) {
		return a.signer, nil
	}
	key, err := newPrivateKey(a.opts.Signer)
	if err != nil {
		return certified{}, fmt.Errorf("make document signer key: %w", err)
	}
	valid, issuer := a.opts.SignerValid, a.csca
	if has(ExpiredSigner) {
		yesterday := time.Now().UTC().Truncate(time.Second).AddDate(0, 0, -1)
		valid = Period{a.opts.CSCAValid.From, yesterday}
	}
	t := a.signerTemplate(key, valid)
	if has(RevokedSigner) {
		t.serial = a.revokedSerial()
	}
	if has(SelfMadeSOD) { // the genuine signer's certificate but for the key, and its own signature
		t.serial = a.signer.serial
		issuer.key, issuer.scheme = key, a.opts.Signer
	}
	return certify(t, issuer, a.opts.EditSignerTBS, a.opts.EditSigner)
}

// spoil alters what is already signed.
func (p *Profile) spoil(person Person, has func(Fault) bool) error {
	if has(TamperedDG1) {
		p.Application[dg1] = tamper(p.Application[dg1], person)
	}
	if has(SwappedDG) {
		person.Surname, person.GivenNames = "DOE", "JO"
		face, err := Portrait(person)
		if err != nil {
			return err
		}
		if p.Application[dg2], err = (FaceGroup{Images: [][]byte{face}}).encode(person.Sex); err != nil {
			return err
		}
	}
	if has(TrailingSOD) {
		p.Application[efSOD] = append(p.Application[efSOD], make([]byte, 16)...)
	}
	if has(Clone) {
		if err := p.loseKeys(); err != nil {
			return err
		}
	}
	if has(NotEMRTD) {
		p.Application, p.PACE, p.BAC = nil, nil, false
		p.Master = map[uint16][]byte{efDIR: tlv(0x61, tlv(0x4F, []byte{0xF0, 'S', 'P', 'E', 'C', 'I', 'M', 'E', 'N'}))}
	}
	return nil
}

// files writes the application's files and makes the chip's keys.
func (p *Profile) files(person Person, signer certified, opts Options) (map[uint16][]byte, error) {
	groups, err := p.groups(person, opts)
	if err != nil {
		return nil, err
	}
	for id, content := range opts.Files {
		if n := int(id) - 0x0100; n >= 1 && n <= 16 {
			groups[n] = content
		}
	}
	edit := opts.EditFile
	if edit == nil {
		edit = func(_ uint16, content []byte) []byte { return content }
	}
	files := map[uint16][]byte{}
	var tags []byte
	for n := 1; n <= 16; n++ {
		if content, ok := groups[n]; ok {
			id := 0x0100 | uint16(n)
			groups[n] = edit(id, content)
			files[id] = groups[n]
			tags = append(tags, dataGroupTags[n])
		}
	}
	lds := opts.LDSVersion
	if lds == "" {
		lds = LDS17
	}
	files[efCOM] = edit(efCOM, tlv(0x60, tlv(0x5F01, []byte(lds)), tlv(0x5F36, []byte(unicodeVersion)), tlv(0x5C, tags)))
	sod, err := documentSecurityObject(signer, groups, lds, opts.GroupHash, opts.SOD)
	if err != nil {
		return nil, err
	}
	files[efSOD] = edit(efSOD, sod)
	for id, content := range opts.Files {
		if _, ok := groups[int(id)-0x0100]; !ok {
			files[id] = content
		}
	}
	return files, nil
}

// groups are the data groups that every card has, and those of the chip's keys.
func (p *Profile) groups(person Person, opts Options) (map[int][]byte, error) {
	faces := opts.DG2
	if len(faces.Images) == 0 {
		face := opts.Face
		if face == nil {
			var err error
			if face, err = Portrait(person); err != nil {
				return nil, err
			}
		}
		faces.Images = [][]byte{face}
	}
	face, err := faces.encode(person.Sex)
	if err != nil {
		return nil, err
	}
	zone := p.MRZ
	if opts.EditZone != nil {
		zone = opts.EditZone(zone)
	}
	groups := map[int][]byte{1: tlv(0x61, tlv(0x5F1F, []byte(zone))), 2: face}
	if !slices.Contains(opts.Faults, NoChipKeys) {
		if groups[14], groups[15], err = p.makeKeys(opts); err != nil {
			return nil, err
		}
	}
	return groups, nil
}

// tamper changes the first letter of the given names, or of the surname where there are none.
func tamper(group []byte, p Person) []byte {
	field, _ := p.names() // zone has tried it
	at := bytes.Index(group, []byte(field))
	if i := bytes.Index([]byte(field), []byte("<<")); i >= 0 && i+2 < len(field) && field[i+2] != '<' {
		at += i + 2
	}
	out := bytes.Clone(group)
	out[at] = 'A' + (out[at]-'A'+1)%26
	return out
}
