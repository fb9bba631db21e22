package icao

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/asn1"
	"errors"
	"fmt"

	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// Data objects of PACE (ICAO 9303-11 4.4.4) and Chip Authentication.
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

	doPublicKey tlv.Tag = 0x7F49
	doOID       tlv.Tag = 0x06
	doPoint     tlv.Tag = 0x86
)

// pace is one run of PACE with ECDH and Generic Mapping (ICAO 9303-11 4.4).
type pace struct {
	protocol  asn1.ObjectIdentifier
	algorithm algorithm
	group     group
	parameter int
	ambiguous bool // the card offers the protocol with several parameters
}

// choosePACE picks the first protocol of the card's list that is supported,
// AES before 3DES.
func choosePACE(infos []lds.PACEInfo) (pace, bool) {
	var best pace
	found := false
	for _, info := range infos {
		curve := curveByParameter(info.ParameterID)
		a, ok := suffix(info.Protocol, lds.OIDPACEECDHGM)
		if !ok || curve == nil || info.Version != 2 {
			continue
		}
		if found && (info.Protocol.Equal(best.protocol) || best.algorithm != tripleDES || a == tripleDES) {
			continue
		}
		best = pace{protocol: info.Protocol, algorithm: a, group: group{curve: curve}, parameter: info.ParameterID}
		found = true
	}
	same := 0
	for _, info := range infos {
		if info.Protocol.Equal(best.protocol) {
			same++
		}
	}
	best.ambiguous = same > 1
	return best, found
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

// run opens a channel, or fails with ErrWrongPassword if the password is not
// the card's. All its commands are short: the limits of card and reader are
// not known yet.
func (p pace) run(ctx context.Context, c *Chip) (*session, error) {
	if err := p.announce(ctx, c); err != nil {
		return nil, err
	}
	// Step 1: the chip's nonce, encrypted under the password.
	z, err := c.authenticate(ctx, "get nonce", true, 0, nil, doNonce)
	if err != nil {
		return nil, err
	}
	block := p.algorithm.blockSize()
	if len(z) < 16 || len(z) > 64 || len(z)%block != 0 {
		return nil, malformed("get nonce", fmt.Errorf("%d bytes", len(z)))
	}
	secret := c.password.secret()
	key := p.algorithm.derive(secret, counterPassword)
	nonce := p.algorithm.decrypt(key, make([]byte, block), z)
	defer func() { clear(secret); clear(key); clear(nonce) }()

	// Step 2: move the generator by the nonce (4.4.3.3.1).
	private, err := p.group.scalar(c.random)
	if err != nil {
		return nil, err
	}
	public := p.group.public(private)
	answer, err := c.authenticate(ctx, "map nonce", true, doMapTerminal, p.group.encode(public), doMapChip)
	if err != nil {
		return nil, err
	}
	theirs, err := p.group.parse(answer)
	if err != nil {
		return nil, malformed("map nonce", err)
	}
	generator := p.group.add(p.group.public(nonce), p.group.multiply(theirs, private))
	clear(private)
	if generator.infinite() {
		return nil, malformed("map nonce", errPoint)
	}
	mapped := group{p.group.curve, &generator}

	// Step 3: agree on a key over the moved generator.
	if private, err = mapped.scalar(c.random); err != nil {
		return nil, err
	}
	defer clear(private)
	public = mapped.public(private)
	if answer, err = c.authenticate(ctx, "agree key", true, doKeyTerminal, mapped.encode(public), doKeyChip); err != nil {
		return nil, err
	}
	if theirs, err = mapped.parse(answer); err != nil {
		return nil, malformed("agree key", err)
	}
	if theirs.equal(public) { // 4.4.1: a mirror
		return nil, malformed("agree key", errors.New("the terminal's own key"))
	}
	shared, err := mapped.agree(theirs, private)
	if err != nil {
		return nil, malformed("agree key", err)
	}
	defer clear(shared)
	s := newSession(p.algorithm, shared)

	// Step 4: prove the password to one another.
	answer, err = c.authenticate(ctx, "authenticate", false, doTokenTerminal, p.token(s, mapped.encode(theirs)), doTokenChip)
	if err == nil && subtle.ConstantTimeCompare(answer, p.token(s, mapped.encode(public))) != 1 {
		err = fmt.Errorf("authenticate: token of the card: %w", ErrWrongPassword)
	}
	if err != nil {
		s.wipe()
		return nil, err
	}
	return s, nil
}

// announce sends MSE:Set AT (4.4.4.1). Some cards want the domain parameters
// named even when they offer only one.
func (p pace) announce(ctx context.Context, c *Chip) error {
	const step = "set authentication template"
	data := append(tlv.Encode(doProtocol, oidBytes(p.protocol)), tlv.Encode(doPassword, []byte{byte(c.password.kind)})...)
	named := append(bytes.Clone(data), tlv.Encode(doParameters, []byte{byte(p.parameter)})...)
	if p.ambiguous {
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
			return nil
		case counted, r.Status == apdu.AuthenticationBlocked:
			return fmt.Errorf("%s: %w: %w", step, ErrBlocked, r.Status)
		case len(data) == len(named):
			return refused(step, r.Status)
		}
		data = named
	}
}

// authenticate sends one GENERAL AUTHENTICATE and returns the value of the one
// object asked for. tag 0 sends no object.
func (c *Chip) authenticate(ctx context.Context, step string, more bool, tag tlv.Tag, value []byte, want tlv.Tag) ([]byte, error) {
	cmd := apdu.Command{INS: 0x86, Data: tlv.Encode(doAuthentication), Le: apdu.MaxShortLe}
	if tag != 0 {
		cmd.Data = tlv.Encode(doAuthentication, tlv.Encode(tag, value))
	}
	if more {
		cmd.CLA = 0x10
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
	inner, err := outer.Children()
	if err != nil {
		return nil, malformed(step, err)
	}
	object, ok := tlv.Find(inner, want)
	if !ok {
		return nil, malformed(step, fmt.Errorf("no object %X", uint32(want)))
	}
	return object.Value, nil
}

// token authenticates a public key of the other side (4.4.3.4).
func (p pace) token(s *session, public []byte) []byte {
	message := tlv.Encode(doPublicKey, tlv.Encode(doOID, oidBytes(p.protocol)), tlv.Encode(doPoint, public))
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
