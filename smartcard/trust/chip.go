package trust

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// suite is a cipher of secure messaging (Doc 9303-11 9.8) by the last arc of a
// protocol's object identifier.
type suite struct {
	name    string
	hash    crypto.Hash // of key derivation
	keySize int
	block   int
}

var suites = map[int]suite{
	1: {"3DES", crypto.SHA1, 16, des.BlockSize},
	2: {"AES-128", crypto.SHA1, 16, aes.BlockSize},
	3: {"AES-192", crypto.SHA256, 24, aes.BlockSize},
	4: {"AES-256", crypto.SHA256, 32, aes.BlockSize},
}

// checkChipAuthentication computes the key agreement of the evidence again and
// verifies both MACs of the first exchange under its keys (Doc 9303-11 6.2). Only
// who holds the private key to the chip's public key can have made the second.
func checkChipAuthentication(infos lds.SecurityInfos, e lds.ChipAuthentication) error {
	key, err := chipKey(infos, e)
	if err != nil {
		return err
	}
	suite, ok := suites[e.Protocol[len(e.Protocol)-1]]
	if !ok || key.Group.Elliptic() != slices.Equal(e.Protocol[:len(e.Protocol)-1], lds.OIDCAECDH) {
		return fmt.Errorf("%w: Chip Authentication %v", ErrUnsupported, e.Protocol)
	}
	terminal := e.TerminalKey.Reveal()
	if len(terminal) > len(key.Group.Order().Bytes()) {
		return fmt.Errorf("terminal key: %w", ErrMalformed)
	}
	shared, err := key.Group.Secret(key.Group.Multiply(key.Public, terminal))
	if err != nil {
		return fmt.Errorf("key agreement: %w", ErrMalformed)
	}
	return checkExchange(suite, deriveKey(suite, shared, 2), e.SSC, e.Command, e.Response)
}

// chipKey finds the key that the evidence speaks of, and refuses a protocol
// that the chip's signed DG14 does not offer for it.
func chipKey(infos lds.SecurityInfos, e lds.ChipAuthentication) (key lds.AgreementKey, err error) {
	// Keys over curves and in fields are numbered apart (Doc 9303-11 9.2.6).
	kind := lds.OIDPKECDH
	if below(e.Protocol, lds.OIDCADH) {
		kind = lds.OIDPKDH
	}
	var keys []lds.ChipAuthenticationPublicKeyInfo
	for _, k := range infos.ChipAuthenticationKeys {
		if k.Protocol.Equal(kind) {
			keys = append(keys, k)
		}
	}
	at := slices.IndexFunc(keys, func(k lds.ChipAuthenticationPublicKeyInfo) bool { return sameID(k.KeyID, e.KeyID) })
	if at < 0 && e.KeyID == nil && len(keys) == 1 {
		at = 0
	}
	if at < 0 {
		return key, fmt.Errorf("%w: DG14 has no such key", ErrChip)
	}
	found := keys[at]
	if !slices.ContainsFunc(infos.ChipAuthentication, func(i lds.ChipAuthenticationInfo) bool {
		return i.Protocol.Equal(e.Protocol) && (i.KeyID == nil || sameID(i.KeyID, found.KeyID))
	}) || !below(e.Protocol, lds.OIDCADH) && !below(e.Protocol, lds.OIDCAECDH) {
		return key, fmt.Errorf("%w: DG14 does not offer %v", ErrChip, e.Protocol)
	}
	if key, err = lds.ParseAgreementKey(found.SPKI); err != nil {
		return key, ofParsing(err)
	}
	return key, nil
}

// below says whether oid is one arc under prefix.
func below(oid, prefix asn1.ObjectIdentifier) bool {
	return len(oid) == len(prefix)+1 && slices.Equal(oid[:len(prefix)], prefix)
}

func sameID(a, b *big.Int) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Cmp(b) == 0
}

// deriveKey is the key derivation function of Doc 9303-11 9.7.1; counter 1 is
// encryption, 2 authentication.
func deriveKey(s suite, secret []byte, counter byte) []byte {
	return sum(s.hash, secret, []byte{0, 0, 0, counter})[:s.keySize]
}

// checkExchange verifies the MACs of a protected command and its answer (Doc
// 9303-11 9.8). ssc is the counter before the command.
func checkExchange(s suite, key, ssc, command, response []byte) error {
	if len(ssc) != s.block {
		return fmt.Errorf("send sequence counter: %w", ErrMalformed)
	}
	c, err := apdu.ParseCommand(command)
	if err != nil || c.Le != apdu.MaxShortLe && c.Le != apdu.MaxExtendedLe {
		return fmt.Errorf("command: %w", ErrMalformed)
	}
	objects, mac, err := protected(c.Data, 0x97)
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	counter := increment(ssc)
	header := pad([]byte{c.CLA, c.INS, c.P1, c.P2}, s.block)
	if !verifyMAC(s, key, mac, counter, header, objects) {
		return fmt.Errorf("%w: MAC of the command", ErrChip)
	}
	// A chip without the key answers with an error in the clear, or with nonsense.
	r, err := apdu.ParseResponse(response)
	if err != nil {
		return fmt.Errorf("%w: response: %w", ErrChip, err)
	}
	objects, mac, err = protected(r.Data, 0x99)
	if err != nil {
		return fmt.Errorf("%w: response %v: %w", ErrChip, r.Status, err)
	}
	// The status lies inside the MAC too; the one outside must be the same.
	status := []byte{0x99, 2, byte(r.Status >> 8), byte(r.Status)}
	if len(objects) < 4 || !slices.Equal(objects[len(objects)-4:], status) {
		return fmt.Errorf("%w: status of the response", ErrChip)
	}
	if !verifyMAC(s, key, mac, increment(counter), objects) {
		return fmt.Errorf("%w: MAC of the response", ErrChip)
	}
	return nil
}

// protected splits the data field of secure messaging into the objects under
// the MAC (DO'85' or DO'87', then the one with the given tag) and the MAC.
func protected(data []byte, tag tlv.Tag) (objects, mac []byte, err error) {
	nodes, err := tlv.Parse(data)
	if err != nil || len(nodes) < 2 || len(nodes) > 3 {
		return nil, nil, fmt.Errorf("%w: secure messaging objects", ErrMalformed)
	}
	last := nodes[len(nodes)-1]
	order := []tlv.Tag{0x85, 0x87, tag}
	at := 0
	for _, n := range nodes[:len(nodes)-1] {
		i := slices.Index(order[at:], n.Tag)
		if i < 0 || at > 0 && n.Tag != tag {
			return nil, nil, fmt.Errorf("%w: secure messaging object %X", ErrMalformed, uint32(n.Tag))
		}
		at += i + 1
	}
	if last.Tag != 0x8E || len(last.Value) != 8 {
		return nil, nil, fmt.Errorf("%w: secure messaging MAC", ErrMalformed)
	}
	return data[:len(data)-len(last.Raw)], last.Value, nil
}

func verifyMAC(s suite, key, want []byte, parts ...[]byte) bool {
	message := pad(slices.Concat(parts...), s.block)
	var mac []byte
	if s.block == des.BlockSize {
		mac = retailMAC(key, message)
	} else {
		mac = cmac(key, message)[:8]
	}
	return subtle.ConstantTimeCompare(mac, want) == 1
}

// increment returns counter + 1, big-endian.
func increment(counter []byte) []byte {
	next := slices.Clone(counter)
	for i := len(next) - 1; i >= 0; i-- {
		next[i]++
		if next[i] != 0 {
			break
		}
	}
	return next
}

// pad is padding method 2 of ISO/IEC 9797-1.
func pad(b []byte, block int) []byte {
	padded := append(slices.Clone(b), 0x80)
	for len(padded)%block != 0 {
		padded = append(padded, 0)
	}
	return padded
}

// retailMAC is MAC algorithm 3 of ISO/IEC 9797-1 with DES over whole blocks.
func retailMAC(key, message []byte) []byte {
	a, errA := des.NewCipher(key[:8])
	b, errB := des.NewCipher(key[8:])
	if err := errors.Join(errA, errB); err != nil {
		panic(err) // the key's length is ours
	}
	state := make([]byte, des.BlockSize)
	for ; len(message) > 0; message = message[des.BlockSize:] {
		subtle.XORBytes(state, state, message[:des.BlockSize])
		a.Encrypt(state, state)
	}
	b.Decrypt(state, state)
	a.Encrypt(state, state)
	return state
}

// cmac is AES-CMAC (RFC 4493, SP 800-38B).
func cmac(key, message []byte) []byte {
	c, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key's length is ours
	}
	const size = aes.BlockSize
	k1 := make([]byte, size)
	c.Encrypt(k1, k1)
	double(k1)
	last := make([]byte, size)
	n := max(0, (len(message)-1)/size) * size
	if len(message)-n == size {
		copy(last, message[n:])
	} else {
		copy(last, pad(message[n:], size))
		double(k1)
	}
	subtle.XORBytes(last, last, k1)
	state := make([]byte, size)
	encryptChain(c, state, message[:n])
	encryptChain(c, state, last)
	return state
}

func encryptChain(c cipher.Block, state, blocks []byte) {
	for ; len(blocks) > 0; blocks = blocks[len(state):] {
		subtle.XORBytes(state, state, blocks[:len(state)])
		c.Encrypt(state, state)
	}
}

// double multiplies by x in GF(2^128).
func double(b []byte) {
	carry := b[0] >> 7
	for i := range b {
		next := byte(0)
		if i+1 < len(b) {
			next = b[i+1] >> 7
		}
		b[i] = b[i]<<1 | next
	}
	b[len(b)-1] ^= 0x87 * carry
}
