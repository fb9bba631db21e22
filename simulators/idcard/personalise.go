package idcard

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"image/jpeg"
	"math/big"
	"slices"
	"time"
)

// Options choose what kind of card a person gets. The zero value is a card of
// today: PACE-ECDH-GM with AES-128 on P-256 (CAN and MRZ) beside BAC, Chip
// Authentication with AES-128 on P-256, Active Authentication with ECDSA P-256.
type Options struct {
	PACE       []PACE    // variants in EF.CardAccess, in this order
	ChipSuite  Suite     // of Chip Authentication
	ChipDomain Domain    // of Chip Authentication
	ChipKeyID  int       // key identifier in DG14, 0: none
	Active     Algorithm // of Active Authentication: ECDSA, or RSA with 2048 bits (1024 on a ShortOnly card)

	Face  []byte            // a JPEG for DG2; nil: Portrait draws one
	Files map[uint16][]byte // further files of the application, or other contents; data groups enter COM and SOD

	Faults []Fault

	Chip func(*Profile) // changes the finished profile before the chip is made of it; nil: nothing to change
}

// dataGroupTags are the tags of DG1 to DG16 (9303-10 4.6.1).
var dataGroupTags = [17]byte{0, 0x61, 0x75, 0x63, 0x76, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x6B, 0x6C, 0x6D, 0x6E, 0x6F, 0x70}

// Personalise makes a card for the person.
func (a *Authority) Personalise(p Person, opts Options) (*Chip, error) {
	has := func(f Fault) bool { return slices.Contains(opts.Faults, f) }
	if has(BACOnly) && has(PACEOnly) {
		return nil, errors.New("personalise: a card without BAC and without PACE cannot be opened")
	}
	if has(Expired) {
		p.Expiry = time.Now().UTC().AddDate(0, 0, -1)
	}
	issuer := a
	if has(UnknownCSCA) {
		var err error
		if issuer, err = NewAuthorityWith(a.opts); err != nil {
			return nil, fmt.Errorf("personalise: %w", err)
		}
	}
	zone, err := p.zone()
	if err != nil {
		return nil, fmt.Errorf("personalise: %w", err)
	}
	profile := Profile{CAN: p.CAN, MRZ: zone, BAC: !has(PACEOnly), PACE: opts.PACE, Faults: opts.Faults}
	if len(profile.PACE) == 0 {
		profile.PACE = []PACE{{GM, AES128, P256}}
	}
	if has(BACOnly) {
		profile.PACE, profile.CAN = nil, ""
	}
	if profile.Application, err = issuer.files(p, zone, &profile, opts); err != nil {
		return nil, fmt.Errorf("personalise: %w", err)
	}
	profile.Master = map[uint16][]byte{efDIR: tlv(0x61, tlv(0x4F, application))}
	if len(profile.PACE) > 0 {
		profile.Master[efCardAccess] = set(paceInfos(profile.PACE)...)
	}
	if has(TamperedDG1) {
		profile.Application[dg1] = tamper(profile.Application[dg1], p)
	}
	if has(Clone) {
		if err := profile.loseKeys(); err != nil {
			return nil, fmt.Errorf("personalise: %w", err)
		}
	}
	if has(NotEMRTD) {
		profile.Application, profile.PACE, profile.BAC = nil, nil, false
		delete(profile.Master, efCardAccess)
		profile.Master[efDIR] = tlv(0x61, tlv(0x4F, []byte{0xF0, 'S', 'P', 'E', 'C', 'I', 'M', 'E', 'N'}))
	}
	if opts.Chip != nil {
		opts.Chip(&profile)
	}
	return New(profile)
}

// files writes the application's files and makes the chip's keys.
func (a *Authority) files(p Person, zone string, profile *Profile, opts Options) (map[uint16][]byte, error) {
	face := opts.Face
	if face == nil {
		var err error
		if face, err = Portrait(p); err != nil {
			return nil, err
		}
	}
	faceGroup, err := encodeFace(face, p.Sex)
	if err != nil {
		return nil, err
	}
	groups := map[int][]byte{
		1: tlv(0x61, tlv(0x5F1F, []byte(zone))),
		2: faceGroup,
	}
	if !slices.Contains(opts.Faults, NoChipKeys) {
		if groups[14], groups[15], err = profile.makeKeys(opts); err != nil {
			return nil, err
		}
	}
	for id, content := range opts.Files {
		if n := int(id) - 0x0100; n >= 1 && n <= 16 {
			groups[n] = content
		}
	}

	files := map[uint16][]byte{}
	var tags []byte
	for n := 1; n <= 16; n++ {
		if content, ok := groups[n]; ok {
			files[0x0100|uint16(n)] = content
			tags = append(tags, dataGroupTags[n])
		}
	}
	files[efCOM] = tlv(0x60, tlv(0x5F01, []byte("0107")), tlv(0x5F36, []byte("040000")), tlv(0x5C, tags))
	if files[efSOD], err = documentSecurityObject(a.signer, groups, LDS17, 0, SignedObject{}); err != nil {
		return nil, err
	}
	for id, content := range opts.Files {
		files[id] = content
	}
	return files, nil
}

// makeKeys makes the chip's key pairs and the two data groups that publish them.
func (p *Profile) makeKeys(opts Options) (dg14, dg15 []byte, err error) {
	suite, domain := opts.ChipSuite, opts.ChipDomain
	if suite == 0 {
		suite = AES128
	}
	if domain == 0 {
		domain = P256
	}
	if !suite.valid() {
		return nil, nil, fmt.Errorf("suite %d is not known", suite)
	}
	g, err := domain.group()
	if err != nil {
		return nil, nil, err
	}
	chip := &ChipKey{Suite: suite, Domain: domain}
	if chip.Private, err = g.scalar(rand.Reader); err != nil {
		return nil, nil, fmt.Errorf("make chip key: %w", err)
	}
	var keyID []byte
	if opts.ChipKeyID > 0 {
		chip.ID = big.NewInt(int64(opts.ChipKeyID))
		keyID = integer(chip.ID)
	}
	p.ChipKeys = []*ChipKey{chip}

	if p.ActiveKey, err = newActiveKey(opts); err != nil {
		return nil, nil, err
	}
	public, err := p.ActiveKey.public()
	if err != nil {
		return nil, nil, fmt.Errorf("encode active authentication key: %w", err)
	}

	infos := paceInfos(p.PACE) // repeated here, where the SOD covers them (9303-11 9.2.11)
	infos = append(infos,
		tlv(0x30, tlv(0x06, chip.oid()), small(1), keyID),
		tlv(0x30, oid(0, 4, 0, 127, 0, 7, 2, 2, 1, 2), domain.subjectPublicKeyInfo(g.encode(g.mul(chip.Private, g.g))), keyID),
	)
	if p.ActiveKey.RSA == nil { // ecdsa-plain-SHA256 (9303-11 9.2.10)
		infos = append(infos, tlv(0x30, oid(2, 23, 136, 1, 1, 5), small(1), oid(0, 4, 0, 127, 0, 7, 1, 1, 4, 1, 3)))
	}
	return tlv(0x6E, set(infos...)), tlv(0x6F, public), nil
}

func newActiveKey(opts Options) (*ActiveKey, error) {
	key := &ActiveKey{Hash: crypto.SHA256}
	var err error
	switch opts.Active {
	case "", ECDSA:
		g, _ := P256.group()
		key.Domain = P256
		key.Private, err = g.scalar(rand.Reader)
	case RSA:
		bits := 2048
		if slices.Contains(opts.Faults, ShortOnly) {
			bits = 1024 // a longer signature needs an extended answer
		}
		key.RSA, err = rsa.GenerateKey(rand.Reader, bits)
	default:
		err = fmt.Errorf("idcard: Active Authentication does not know %q", opts.Active)
	}
	if err != nil {
		return nil, fmt.Errorf("make active authentication key: %w", err)
	}
	return key, nil
}

// public is the SubjectPublicKeyInfo of DG15.
func (k *ActiveKey) public() ([]byte, error) {
	if k.RSA != nil {
		return x509.MarshalPKIXPublicKey(&k.RSA.PublicKey)
	}
	g, err := k.Domain.group()
	if err != nil {
		return nil, err
	}
	return k.Domain.subjectPublicKeyInfo(g.encode(g.mul(k.Private, g.g))), nil
}

// loseKeys puts other private keys in place of those that the files publish.
func (p *Profile) loseKeys() error {
	if len(p.ChipKeys) == 0 {
		return errors.New("a card without chip keys cannot be a clone without them")
	}
	for _, key := range p.ChipKeys {
		g, err := key.Domain.group()
		if err != nil {
			return err
		}
		if key.Private, err = g.scalar(rand.Reader); err != nil {
			return err
		}
	}
	active := p.ActiveKey
	if active.RSA != nil {
		var err error
		active.RSA, err = rsa.GenerateKey(rand.Reader, active.RSA.Size()*8)
		return err
	}
	g, err := active.Domain.group()
	if err != nil {
		return err
	}
	active.Private, err = g.scalar(rand.Reader)
	return err
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

// paceInfos are the PACEInfo of EF.CardAccess (9303-11 9.2.1).
func paceInfos(variants []PACE) [][]byte {
	var list [][]byte
	for _, v := range variants {
		list = append(list, tlv(0x30, tlv(0x06, v.oid()), small(2), small(int(v.Domain))))
	}
	return list
}

// subjectPublicKeyInfo wraps an encoded point (RFC 5480).
func (d Domain) subjectPublicKeyInfo(point []byte) []byte {
	name := map[Domain][]byte{
		P256:            oid(1, 2, 840, 10045, 3, 1, 7),
		BrainpoolP256r1: oid(1, 3, 36, 3, 3, 2, 8, 1, 1, 7),
		P384:            oid(1, 3, 132, 0, 34),
		P521:            oid(1, 3, 132, 0, 35),
	}[d]
	return tlv(0x30, tlv(0x30, oid(1, 2, 840, 10045, 2, 1), name), tlv(0x03, []byte{0}, point))
}

// encodeFace is DG2 with one face of ISO/IEC 19794-5 (9303-10 4.7.2).
func encodeFace(face []byte, sex string) ([]byte, error) {
	size, err := jpeg.DecodeConfig(bytes.NewReader(face))
	if err != nil {
		return nil, fmt.Errorf("read face: %w", err)
	}
	u16 := func(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
	u32 := func(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
	gender := map[string]byte{"M": 1, "F": 2}[sex]

	image := bytes.Join([][]byte{
		{0x01, 0x00}, // full frontal, JPEG
		u16(size.Width), u16(size.Height),
		{0x01, 0x00, 0x00, 0x00, 0x00, 0x00}, // sRGB, unspecified source, device and quality
		face,
	}, nil)
	info := bytes.Join([][]byte{
		u32(20 + len(image)), u16(0), // this block's length, no feature points
		{gender, 0x00, 0x00}, make([]byte, 3), // eyes, hair, features unspecified
		make([]byte, 2+3+3), // expression, pose
	}, nil)
	record := bytes.Join([][]byte{[]byte("FAC\x00010\x00"), u32(14 + len(info) + len(image)), u16(1), info, image}, nil)

	header := tlv(0xA1,
		tlv(0x80, []byte{0x01, 0x01}), // version of the CBEFF header
		tlv(0x81, []byte{0x02}),       // facial features
		tlv(0x82, []byte{0x00}),
		tlv(0x87, []byte{0x01, 0x01}), // owner of the format: ISO/IEC JTC 1/SC 37
		tlv(0x88, []byte{0x00, 0x08})) // 19794-5
	return tlv(0x75, tlv(0x7F61, small(1), tlv(0x7F60, header, tlv(0x5F2E, record)))), nil
}
