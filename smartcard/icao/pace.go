package icao

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/domain"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// Data objects of PACE (ICAO 9303-11 4.4.4 and 4.4.5) and Chip Authentication.
const (
	doProtocol   tlv.Tag = 0x80 // MSE:Set AT
	doPassword   tlv.Tag = 0x83
	doParameters tlv.Tag = 0x84 // also the key reference of Chip Authentication

	doAuthentication tlv.Tag = 0x7C // GENERAL AUTHENTICATE; below: its content
	doNonce          tlv.Tag = 0x80
	doMapTerminal    tlv.Tag = 0x81
	doMapChip        tlv.Tag = 0x82
	doKeyTerminal    tlv.Tag = 0x83
	doKeyChip        tlv.Tag = 0x84
	doTokenTerminal  tlv.Tag = 0x85
	doTokenChip      tlv.Tag = 0x86
	doChipData       tlv.Tag = 0x8A

	doPublicKey tlv.Tag = 0x7F49 // ICAO 9303-11 9.4.5
	doOID       tlv.Tag = 0x06
	doInteger   tlv.Tag = 0x84 // of a finite field
	doPoint     tlv.Tag = 0x86
)

// pace is one variant of PACE (ICAO 9303-11 4.4) that the card offers.
type pace struct {
	protocol  asn1.ObjectIdentifier
	mapping   mapping
	algorithm algorithm
	group     domain.Group
	parameter int
	ambiguous bool // the card offers the protocol with several parameters
}

// paceFamilies are the protocols that this package knows, less their last arc.
var paceFamilies = []struct {
	oid      asn1.ObjectIdentifier
	mapping  mapping
	elliptic bool
}{
	{lds.OIDPACEECDHCAM, chipAuthenticationMapping, true},
	{lds.OIDPACEECDHGM, genericMapping, true},
	{lds.OIDPACEECDHIM, integratedMapping, true},
	{lds.OIDPACEDHGM, genericMapping, false},
	{lds.OIDPACEDHIM, integratedMapping, false},
}

// choosePACE lists the variants that card and package share, best first: secure
// and fast. Others that the card lists, such as ones with parameters of its own
// (ICAO 9303-11 9.2.2), do not disturb.
func choosePACE(infos []lds.PACEInfo) []pace {
	var list []pace
	for _, info := range infos {
		g, ok := domain.Standardized(info.ParameterID)
		if !ok || info.Version != 2 {
			continue
		}
		for _, f := range paceFamilies {
			a, ok := suffix(info.Protocol, f.oid)
			if !ok || f.elliptic != g.Elliptic() || !f.mapping.fits(g, a) {
				continue
			}
			same := 0
			for _, other := range infos {
				if other.Protocol.Equal(info.Protocol) {
					same++
				}
			}
			list = append(list, pace{info.Protocol, f.mapping, a, g, info.ParameterID, same > 1})
		}
	}
	slices.SortStableFunc(list, func(a, b pace) int { return cmp.Compare(a.cost(), b.cost()) })
	return list
}

// parameterOrder has the domain parameters as they are preferred: what is strong
// enough by its speed, then what is weak.
var parameterOrder = []int{12, 13, 15, 14, 16, 18, 17, 2, 1, 10, 11, 8, 9, 0}

func (p pace) cost() int {
	cost := slices.Index(parameterOrder, p.parameter)
	if p.algorithm == tripleDES {
		cost += 1000
	}
	if !p.group.Elliptic() {
		cost += 500
	}
	if p.mapping == integratedMapping {
		cost += 100
	}
	return cost
}

// suffix reads the algorithm off a protocol below family.
func suffix(protocol, family asn1.ObjectIdentifier) (algorithm, bool) {
	n := len(family)
	if len(protocol) != n+1 || !protocol[:n].Equal(family) || protocol[n] < 1 || protocol[n] > 4 {
		return 0, false
	}
	return algorithm(protocol[n]), true
}

// secret is K of ICAO 9303-11 9.7.3 and 4.4.3.1: all of SHA-1 over the MRZ
// information, or the digits of the CAN as they are.
func (p Password) secret() []byte {
	if p.kind == passwordMRZ {
		h := sha1.Sum(p.text.Reveal())
		return h[:]
	}
	return bytes.Clone(p.text.Reveal())
}

// outcome is what a run of PACE ends with.
type outcome struct {
	channel *session
	chip    *lds.ChipMapping // with Chip Authentication Mapping; not checked yet
	oddity  string           // what was let pass
}

// run opens a channel once the card has accepted the variant, or fails with
// ErrWrongPassword if the password is not the card's. Its commands are short but
// for keys that need more: the limits of card and reader are not known yet.
func (p pace) run(ctx context.Context, c *Chip) (result outcome, err error) {
	// Step 1: the chip's nonce, encrypted under the password.
	objects, err := c.authenticate(ctx, "get nonce", true, 0, nil)
	if err != nil {
		return outcome{}, err
	}
	z, err := value("get nonce", objects, doNonce)
	if err != nil {
		return outcome{}, err
	}
	block := p.algorithm.blockSize()
	if len(z) < 16 || len(z) > 64 || len(z)%block != 0 {
		return outcome{}, malformed("get nonce", fmt.Errorf("%d bytes", len(z)))
	}
	secret := c.password.secret()
	key := p.algorithm.derive(secret, counterPassword)
	nonce := p.algorithm.decrypt(key, make([]byte, block), z)
	defer func() { clear(secret); clear(key); clear(nonce) }()

	// Step 2: another generator, made of the nonce.
	var generator domain.Element
	var mappingKey []byte // of the chip
	if p.mapping == integratedMapping {
		generator, err = p.integrated(ctx, c, nonce)
	} else {
		generator, mappingKey, err = p.generic(ctx, c, nonce)
	}
	if err != nil {
		return outcome{}, err
	}

	// Step 3: agree on a key over that generator.
	ours, err := newKeyPair(p.group, generator, c.random)
	if err != nil {
		return outcome{}, err
	}
	defer clear(ours.private)
	answer, theirs, err := p.swap(ctx, c, "agree key", doKeyTerminal, ours, doKeyChip)
	if err != nil {
		return outcome{}, err
	}
	shared, err := ours.agree(theirs)
	if err != nil {
		return outcome{}, malformed("agree key", err)
	}
	defer clear(shared)
	s := newSession(p.algorithm, shared)
	defer func() {
		if err != nil {
			s.wipe()
		}
	}()

	// Step 4: prove the password to one another.
	objects, err = c.authenticate(ctx, "authenticate", false, doTokenTerminal, p.token(s, answer))
	if err != nil {
		return outcome{}, err
	}
	token, err := value("authenticate", objects, doTokenChip)
	if err != nil {
		return outcome{}, err
	}
	if subtle.ConstantTimeCompare(token, p.token(s, ours.encoded)) != 1 {
		return outcome{}, fmt.Errorf("authenticate: token of the card: %w", ErrWrongPassword)
	}
	result.channel = s
	encrypted, given := tlv.Find(objects, doChipData)
	switch {
	case p.mapping == chipAuthenticationMapping:
		if result.chip, err = p.chipData(s, encrypted.Value, mappingKey); err != nil {
			return outcome{}, err
		}
	case given: // ICAO 9303-11 4.4.5: it must not be there
		result.oddity = "PACE answers with chip authentication data nobody asked for"
	}
	return result, nil
}

// swap sends our public key and parses theirs, which must be another (4.4.1):
// whoever answers with ours knows nothing. The answer is kept as it came; the
// token is over those bytes.
func (p pace) swap(ctx context.Context, c *Chip, step string, send tlv.Tag, ours keyPair, want tlv.Tag) ([]byte, domain.Element, error) {
	objects, err := c.authenticate(ctx, step, true, send, ours.encoded)
	if err != nil {
		return nil, domain.Element{}, err
	}
	answer, err := value(step, objects, want)
	if err != nil {
		return nil, domain.Element{}, err
	}
	theirs, err := p.group.Parse(answer)
	if err != nil {
		return nil, domain.Element{}, malformed(step, err)
	}
	if theirs.Equal(ours.public) {
		return nil, domain.Element{}, malformed(step, errors.New("the terminal's own key"))
	}
	return answer, theirs, nil
}

// announce sends MSE:Set AT (4.4.4.1). Some cards want the domain parameters
// named even when they offer only one.
func (p pace) announce(ctx context.Context, c *Chip) error {
	const step = "set authentication template"
	data := append(tlv.Encode(doProtocol, oidBytes(p.protocol)), tlv.Encode(doPassword, []byte{byte(c.password.kind)})...)
	named := append(bytes.Clone(data), tlv.Encode(doParameters, []byte{byte(p.parameter)})...)
	if p.ambiguous || c.reading.nameParameters {
		data = named
	}
	for {
		// Le must be absent: some cards refuse PACE otherwise.
		r, err := c.send(ctx, apdu.Command{INS: 0x22, P1: 0xC1, P2: 0xA4, Data: data})
		if err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
		tries, counted := r.Status.TriesLeft()
		switch {
		case r.Status == apdu.OK, counted && tries > 0:
			c.reading.nameParameters = !p.ambiguous && len(data) == len(named)
			return nil
		case counted, r.Status == apdu.AuthenticationBlocked:
			return fmt.Errorf("%s: %w: %w", step, ErrBlocked, r.Status)
		case len(data) == len(named):
			return refused(step, r.Status)
		}
		data = named
	}
}

// authenticate sends one GENERAL AUTHENTICATE and returns what its answer
// holds. tag 0 sends no object. A key that needs extended length is answered with
// one that does.
func (c *Chip) authenticate(ctx context.Context, step string, more bool, tag tlv.Tag, value []byte) ([]tlv.Node, error) {
	cmd := apdu.Command{INS: 0x86, Data: tlv.Encode(doAuthentication), Le: apdu.MaxShortLe}
	if tag != 0 {
		cmd.Data = tlv.Encode(doAuthentication, tlv.Encode(tag, value))
	}
	if more {
		cmd.CLA = 0x10
	}
	if len(cmd.Data) > apdu.MaxShortLc {
		cmd.Extended, cmd.Le = true, apdu.MaxExtendedLe
	}
	r, err := c.send(ctx, cmd)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", step, err)
	}
	switch tries, counted := r.Status.TriesLeft(); {
	case r.Status == apdu.OK:
	case counted && tries == 0, r.Status == apdu.AuthenticationBlocked:
		return nil, fmt.Errorf("%s: %w: %w: %w", step, ErrWrongPassword, ErrBlocked, r.Status)
	// 6300 is the rule (4.4.4.2). Whatever else answers the token, all went
	// well before it: trying BAC next would be a second guess.
	case !more, counted, r.Status == 0x6300:
		return nil, fmt.Errorf("%s: %w: %w", step, ErrWrongPassword, r.Status)
	default:
		return nil, refused(step, r.Status)
	}
	outer, err := tlv.ParseOne(r.Data, doAuthentication)
	if err != nil {
		return nil, malformed(step, err)
	}
	objects, err := outer.Children()
	if err != nil {
		return nil, malformed(step, err)
	}
	return objects, nil
}

// value finds the one object that a step needs.
func value(step string, objects []tlv.Node, tag tlv.Tag) ([]byte, error) {
	object, ok := tlv.Find(objects, tag)
	if !ok {
		return nil, malformed(step, fmt.Errorf("no object %X", uint32(tag)))
	}
	return object.Value, nil
}

// token authenticates a public key of the other side (4.4.3.4), encoded as that
// side sent it.
func (p pace) token(s *session, public []byte) []byte {
	tag := doPoint
	if !p.group.Elliptic() {
		tag = doInteger
	}
	message := tlv.Encode(doPublicKey, tlv.Encode(doOID, oidBytes(p.protocol)), tlv.Encode(tag, public))
	if p.algorithm == tripleDES {
		message = pad(message, p.algorithm.blockSize())
	}
	return p.algorithm.mac(s.integrity, message)
}

// oidBytes is the content of an encoded object identifier, without tag and length.
func oidBytes(oid asn1.ObjectIdentifier) []byte {
	der, err := asn1.Marshal(oid)
	if err != nil {
		panic("icao: " + err.Error()) // only identifiers named in this package come here
	}
	return der[2:]
}
