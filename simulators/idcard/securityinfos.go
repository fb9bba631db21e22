package idcard

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// paceInfos are the PACEInfo of EF.CardAccess (9303-11 9.2.1).
func paceInfos(variants []PACE) [][]byte {
	var list [][]byte
	for _, v := range variants {
		list = append(list, tlv(0x30, tlv(0x06, v.oid()), small(2), small(int(v.Domain))))
	}
	return list
}

// chipInfos are ChipAuthenticationInfo and ChipAuthenticationPublicKeyInfo of each key (9303-11 9.2.5, 9.2.6).
func chipInfos(keys []*ChipKey, how Parameters) ([][]byte, error) {
	var list [][]byte
	for _, key := range keys {
		var id []byte
		if key.ID != nil {
			id = integer(key.ID)
		}
		public, err := key.info(how)
		if err != nil {
			return nil, err
		}
		arc := 2 // id-PK-ECDH
		if key.Domain.overFiniteField() {
			arc = 1 // id-PK-DH
		}
		list = append(list, tlv(0x30, tlv(0x06, key.oid()), small(1), id),
			tlv(0x30, oid(0, 4, 0, 127, 0, 7, 2, 2, 1, arc), public, id))
	}
	return list, nil
}

// info is the key's SubjectPublicKeyInfo (9303-11 9.5, RFC 3279 2.3.3, PKCS #3 9).
func (k *ChipKey) info(how Parameters) ([]byte, error) {
	if !k.Domain.overFiniteField() {
		return privateKey{domain: k.Domain, d: k.Private}.info(how)
	}
	f, err := k.Domain.finiteField()
	if err != nil {
		return nil, err
	}
	algorithm := tlv(0x30, oid(1, 2, 840, 10046, 2, 1), tlv(0x30, integer(f.p), integer(f.g), integer(f.q)))
	switch how {
	case Standardized:
		algorithm = tlv(0x30, oid(0, 4, 0, 127, 0, 7, 1, 2), small(int(k.Domain)))
	case PKCS3:
		algorithm = tlv(0x30, oid(1, 2, 840, 113549, 1, 3, 1), tlv(0x30, integer(f.p), integer(f.g)))
	}
	return tlv(0x30, algorithm, tlv(0x03, []byte{0}, integer(f.mul(k.Private, f.base()).x))), nil
}

// activeInfo is ActiveAuthenticationInfo, which ECDSA demands (9303-11 9.2.8).
func (k *ActiveKey) activeInfo() ([]byte, error) {
	scheme := Scheme{Algorithm: PlainECDSA, Hash: k.Hash}
	if k.DER {
		scheme.Algorithm = ECDSA
	}
	algorithm, err := scheme.identifier()
	if err != nil {
		return nil, err
	}
	n, err := ParseNode(algorithm)
	if err != nil {
		return nil, err
	}
	return tlv(0x30, oid(2, 23, 136, 1, 1, 5), small(1), n.Find(0x06).Encode()), nil
}

// terminalInfo is TerminalAuthenticationInfo (9303-11 9.2.7).
func terminalInfo() []byte { return tlv(0x30, oid(0, 4, 0, 127, 0, 7, 2, 2, 2), small(1)) }

// public is the SubjectPublicKeyInfo of DG15.
func (k *ActiveKey) public(how Parameters) ([]byte, error) {
	return privateKey{rsa: k.RSA, domain: k.Domain, d: k.Private}.info(how)
}

// makeKeys makes the chip's key pairs and the two data groups that publish them.
func (p *Profile) makeKeys(opts Options) (dg14, dg15 []byte, err error) {
	if err := p.makeChipKeys(opts); err != nil {
		return nil, nil, err
	}
	if p.ActiveKey, err = newActiveKey(opts); err != nil {
		return nil, nil, err
	}
	public, err := p.ActiveKey.public(opts.ActiveScheme.Parameters)
	if err != nil {
		return nil, nil, fmt.Errorf("encode active authentication key: %w", err)
	}
	chip, err := chipInfos(p.ChipKeys, opts.ChipParameters)
	if err != nil {
		return nil, nil, fmt.Errorf("encode chip key: %w", err)
	}
	infos := append(paceInfos(p.PACE), chip...) // PACE repeated here, where the SOD covers it (9303-11 9.2.11)
	if p.ActiveKey.RSA == nil {
		active, err := p.ActiveKey.activeInfo()
		if err != nil {
			return nil, nil, err
		}
		infos = append(infos, active)
	}
	if opts.TerminalAuthentication {
		infos = append(infos, terminalInfo())
	}
	return tlv(0x6E, set(infos...)), tlv(0x6F, public), nil
}

// makeChipKeys makes the keys of Chip Authentication. PACE with Chip
// Authentication Mapping needs one on its own domain parameters (9303-11 4.4.3.3.3).
func (p *Profile) makeChipKeys(opts Options) error {
	mapping := slices.IndexFunc(p.PACE, func(v PACE) bool { return v.Mapping == CAM })
	wanted := opts.ChipKeys
	if len(wanted) == 0 {
		key := ChipKey{Suite: opts.ChipSuite, Domain: opts.ChipDomain}
		if opts.ChipKeyID > 0 {
			key.ID = big.NewInt(int64(opts.ChipKeyID))
		}
		if key.Domain == 0 {
			key.Domain = P256
			if mapping >= 0 {
				key.Domain = p.PACE[mapping].Domain
			}
		}
		wanted = []ChipKey{key}
	}
	for _, v := range p.PACE {
		if v.Mapping == CAM && !slices.ContainsFunc(wanted, func(k ChipKey) bool { return k.Domain == v.Domain }) {
			wanted = append(slices.Clone(wanted), ChipKey{Suite: v.Suite, Domain: v.Domain, ID: big.NewInt(int64(v.Domain))})
		}
	}
	for _, key := range wanted {
		if key.Suite == 0 {
			key.Suite = AES128
		}
		if !key.Suite.valid() {
			return fmt.Errorf("suite %d is not known", key.Suite)
		}
		domain, err := key.Domain.agreement()
		if err != nil {
			return err
		}
		if key.Private == nil {
			if key.Private, err = domain.scalar(rand.Reader); err != nil {
				return fmt.Errorf("make chip key: %w", err)
			}
		}
		p.ChipKeys = append(p.ChipKeys, &key)
	}
	return nil
}

func newActiveKey(opts Options) (*ActiveKey, error) {
	scheme := opts.ActiveScheme
	if scheme.Algorithm == "" {
		if scheme.Algorithm = opts.Active; scheme.Algorithm != RSA {
			scheme.Algorithm = PlainECDSA
		}
	}
	bits := 2048
	if slices.Contains(opts.Faults, ShortOnly) {
		bits = 1024 // a longer signature needs an extended answer
	}
	var err error
	if opts.Active != "" && opts.Active != ECDSA && opts.Active != RSA || scheme.Algorithm == PSS {
		err = fmt.Errorf("idcard: Active Authentication does not know %q", opts.Active)
	} else {
		scheme, err = scheme.filled(bits)
	}
	if err != nil {
		return nil, fmt.Errorf("make active authentication key: %w", err)
	}
	key, err := newPrivateKey(scheme)
	if err != nil {
		return nil, fmt.Errorf("make active authentication key: %w", err)
	}
	return &ActiveKey{RSA: key.rsa, Domain: key.domain, Private: key.d, Hash: scheme.Hash, DER: scheme.Algorithm == ECDSA}, nil
}

// loseKeys puts other private keys in place of those that the files publish.
func (p *Profile) loseKeys() error {
	if len(p.ChipKeys) == 0 {
		return errors.New("a card without chip keys cannot be a clone without them")
	}
	for _, key := range p.ChipKeys {
		domain, err := key.Domain.agreement()
		if err != nil {
			return err
		}
		if key.Private, err = domain.scalar(rand.Reader); err != nil {
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

// cardSecurity is EF.CardSecurity (9303-11 9.2.10, TR-03110 part 3 A.1.2.4): what
// EF.CardAccess says and the chip's keys, signed by the document signer.
func cardSecurity(signer certified, p *Profile, opts Options, o SignedObject) ([]byte, error) {
	chip, err := chipInfos(p.ChipKeys, Standardized)
	if err != nil {
		return nil, fmt.Errorf("encode chip key: %w", err)
	}
	infos := append(paceInfos(p.PACE), chip...)
	if opts.TerminalAuthentication {
		infos = append(infos, terminalInfo())
	}
	file, err := signedData(signer, oid(0, 4, 0, 127, 0, 7, 3, 2, 1), set(infos...), o)
	if err != nil {
		return nil, fmt.Errorf("sign EF.CardSecurity: %w", err)
	}
	return file, nil
}
