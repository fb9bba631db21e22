package lds

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"enrollkiosk/smartcard/tlv"
)

// Bounds of BER that is turned into DER. The largest object is a master list of
// all states, 0.9 MB in 2026.
const (
	maxBER   = 4 << 20
	maxDepth = 32
	maxNodes = 1 << 18
)

// toDER turns one BER element into what package tlv reads: definite lengths, and
// octet strings in one piece (ITU-T X.690 8.1.3.6, 8.7.3). Some states write
// EF.SOD as a streaming encoder does. What is free of both stays byte for byte,
// the signed bytes of a certificate too; then the result is b itself.
func toDER(b []byte) ([]byte, error) {
	if len(b) > maxBER {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	t := transcoder{left: maxNodes}
	der, rest, err := t.element(b, maxDepth)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: bytes after the object", ErrMalformed)
	}
	return der, nil
}

type transcoder struct{ left int }

// element reads one element off b.
func (t *transcoder) element(b []byte, depth int) (der, rest []byte, err error) {
	if t.left--; t.left < 0 || depth == 0 {
		return nil, nil, fmt.Errorf("%w: too many elements", ErrMalformed)
	}
	tag, header, length, err := tlv.Header(b)
	indefinite := errors.Is(err, tlv.ErrIndefinite)
	switch {
	case indefinite:
		tag, header = identifier(b)
		if !tag.Constructed() {
			return nil, nil, fmt.Errorf("%w: primitive of indefinite length", ErrMalformed)
		}
	case err != nil:
		return nil, nil, err
	case length > len(b)-header:
		return nil, nil, tlv.ErrTruncated
	case !tag.Constructed():
		return b[:header+length], b[header+length:], nil
	}
	inside := b[header:]
	if !indefinite {
		inside, rest = b[header:header+length], b[header+length:]
	}
	changed := indefinite || tag == pieces
	var parts [][]byte
	for {
		if indefinite && bytes.HasPrefix(inside, []byte{0, 0}) {
			rest = inside[2:]
			break
		}
		if len(inside) == 0 {
			if indefinite {
				return nil, nil, tlv.ErrTruncated
			}
			break
		}
		part, next, err := t.element(inside, depth-1)
		if err != nil {
			return nil, nil, err
		}
		changed = changed || len(part) != len(inside)-len(next)
		parts = append(parts, part)
		inside = next
	}
	if !changed {
		return b[:header+length], rest, nil
	}
	if tag == pieces {
		tag = octets
		for i, part := range parts {
			piece, err := tlv.ParseOne(part, octets)
			if err != nil {
				return nil, nil, err
			}
			parts[i] = piece.Value
		}
	}
	return tlv.Encode(tag, parts...), rest, nil
}

const (
	octets = tlv.Tag(0x04)
	pieces = tlv.Tag(0x24) // OCTET STRING in pieces
)

// identifier is the tag that b begins with, before an indefinite length, and the
// length of both. Package tlv has seen it well formed.
func identifier(b []byte) (tag tlv.Tag, header int) {
	tag, i := tlv.Tag(b[0]), 1
	if b[0]&0x1F == 0x1F {
		for more := true; more; i++ {
			tag = tag<<8 | tlv.Tag(b[i])
			more = b[i]&0x80 != 0
		}
	}
	return tag, i + 1
}

// canonical writes an element that toDER has seen with the shortest lengths and
// ordered sets, which is what a signature over attributes speaks of (RFC 5652
// 5.4).
func canonical(n tlv.Node) ([]byte, error) {
	if !n.Tag.Constructed() {
		return tlv.Encode(n.Tag, n.Value), nil
	}
	nodes, err := n.Children()
	if err != nil {
		return nil, err
	}
	parts := make([][]byte, len(nodes))
	for i, child := range nodes {
		if parts[i], err = canonical(child); err != nil {
			return nil, err
		}
	}
	if n.Tag == 0x31 {
		slices.SortFunc(parts, bytes.Compare)
	}
	return tlv.Encode(n.Tag, parts...), nil
}
