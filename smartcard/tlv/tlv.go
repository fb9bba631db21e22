// Package tlv reads and writes BER-TLV data objects as cards use them (ISO/IEC
// 7816-4 5.2.2): definite lengths only, tags of one to four bytes, lengths of
// up to four bytes.
//
// Parsing is strict: nothing may be missing, nothing may trail. Children are
// parsed when asked for, so that depth is bounded by the caller's questions and
// not by the input. A Node's slices alias the input; nothing is copied.
//
// Longer than necessary length fields are accepted, because cards write them;
// Raw keeps the bytes as they were. Indefinite lengths are refused with
// [ErrIndefinite].
package tlv

import (
	"errors"
	"fmt"
)

// Errors of parsing.
var (
	ErrMalformed  = errors.New("tlv: malformed")
	ErrIndefinite = errors.New("tlv: indefinite length")
	// ErrTruncated says that the input ends early; with more bytes it may be well formed.
	ErrTruncated = fmt.Errorf("%w: truncated", ErrMalformed)
)

// MaxNodes bounds the siblings of one level.
const MaxNodes = 1024

// Tag is a tag as it is written: 0x61, 0x7F49, 0x5F1F.
type Tag uint32

// Constructed says whether the value consists of data objects.
func (t Tag) Constructed() bool {
	for t > 0xFF {
		t >>= 8
	}
	return t&0x20 != 0
}

// Node is one data object. Value is the value field, Raw the whole object.
type Node struct {
	Tag   Tag
	Value []byte
	Raw   []byte
}

// Parse reads all of b as a sequence of data objects. Empty input gives none.
func Parse(b []byte) ([]Node, error) {
	var nodes []Node
	for len(b) > 0 {
		tag, header, length, err := Header(b)
		if err != nil {
			return nil, err
		}
		if length > len(b)-header {
			return nil, ErrTruncated
		}
		if len(nodes) == MaxNodes {
			return nil, fmt.Errorf("%w: more than %d objects", ErrMalformed, MaxNodes)
		}
		end := header + length
		nodes = append(nodes, Node{tag, b[header:end:end], b[:end:end]})
		b = b[end:]
	}
	return nodes, nil
}

// ParseOne reads all of b as a single data object with the given tag.
func ParseOne(b []byte, tag Tag) (Node, error) {
	nodes, err := Parse(b)
	if err != nil {
		return Node{}, err
	}
	if len(nodes) != 1 || nodes[0].Tag != tag {
		return Node{}, fmt.Errorf("%w: want one object %X", ErrMalformed, uint32(tag))
	}
	return nodes[0], nil
}

// Children parses the value as a sequence of data objects.
func (n Node) Children() ([]Node, error) {
	if !n.Tag.Constructed() {
		return nil, fmt.Errorf("%w: %X is primitive", ErrMalformed, uint32(n.Tag))
	}
	return Parse(n.Value)
}

// Find returns the first node with the given tag.
func Find(nodes []Node, tag Tag) (Node, bool) {
	for _, n := range nodes {
		if n.Tag == tag {
			return n, true
		}
	}
	return Node{}, false
}

// Header reads the tag and length field that b begins with: enough to size a
// file from its first bytes (at most eight). The value need not be present.
// It fails with ErrTruncated when b is too short to tell.
func Header(b []byte) (tag Tag, headerLen, valueLen int, err error) {
	if len(b) == 0 {
		return 0, 0, 0, ErrTruncated
	}
	if b[0] == 0 {
		return 0, 0, 0, fmt.Errorf("%w: tag 00", ErrMalformed)
	}
	tag, i := Tag(b[0]), 1
	if b[0]&0x1F == 0x1F {
		for more := true; more; i++ {
			if i == 4 {
				return 0, 0, 0, fmt.Errorf("%w: tag of more than four bytes", ErrMalformed)
			}
			if i == len(b) {
				return 0, 0, 0, ErrTruncated
			}
			if i == 1 && b[1]&0x7F == 0 {
				return 0, 0, 0, fmt.Errorf("%w: tag number with a leading zero", ErrMalformed)
			}
			tag = tag<<8 | Tag(b[i])
			more = b[i]&0x80 != 0
		}
	}
	if i == len(b) {
		return 0, 0, 0, ErrTruncated
	}
	first := b[i]
	i++
	switch {
	case first < 0x80:
		return tag, i, int(first), nil
	case first == 0x80:
		return 0, 0, 0, ErrIndefinite
	case first > 0x84:
		return 0, 0, 0, fmt.Errorf("%w: length of more than four bytes", ErrMalformed)
	}
	n := int(first & 0x7F)
	if len(b)-i < n {
		return 0, 0, 0, ErrTruncated
	}
	var length uint64
	for _, c := range b[i : i+n] {
		length = length<<8 | uint64(c)
	}
	if length > 1<<31-1 {
		return 0, 0, 0, fmt.Errorf("%w: length over 2^31-1", ErrMalformed)
	}
	return tag, i + n, int(length), nil
}

// Encode writes one data object whose value is the concatenation of the parts,
// with the shortest length field.
func Encode(tag Tag, value ...[]byte) []byte {
	n := 0
	for _, v := range value {
		n += len(v)
	}
	b := make([]byte, 0, n+9)
	for shift := 24; shift >= 0; shift -= 8 {
		if c := tag >> shift; c != 0 || shift == 0 {
			b = append(b, byte(c))
		}
	}
	if n < 0x80 {
		b = append(b, byte(n))
	} else {
		size := 1
		for n>>(8*size) != 0 {
			size++
		}
		b = append(b, 0x80|byte(size))
		for i := size - 1; i >= 0; i-- {
			b = append(b, byte(n>>(8*i)))
		}
	}
	for _, v := range value {
		b = append(b, v...)
	}
	return b
}

// Cursor walks the children of a node in order. Its first failure sticks and
// is told by [Cursor.Done]; nodes returned after it are zero.
type Cursor struct {
	nodes []Node
	err   error
}

// Cursor starts at the first child.
func (n Node) Cursor() *Cursor {
	nodes, err := n.Children()
	return &Cursor{nodes, err}
}

// More says whether a child is left.
func (c *Cursor) More() bool { return c.err == nil && len(c.nodes) > 0 }

// Next takes the next child, which must have the given tag.
func (c *Cursor) Next(tag Tag) Node {
	n, ok := c.Optional(tag)
	if !ok && c.err == nil {
		c.err = fmt.Errorf("%w: object %X missing", ErrMalformed, uint32(tag))
	}
	return n
}

// Any takes the next child, whatever its tag.
func (c *Cursor) Any() Node {
	if !c.More() {
		return c.Next(0)
	}
	return c.Next(c.nodes[0].Tag)
}

// Optional takes the next child if it has the given tag.
func (c *Cursor) Optional(tag Tag) (Node, bool) {
	if !c.More() || c.nodes[0].Tag != tag {
		return Node{}, false
	}
	n := c.nodes[0]
	c.nodes = c.nodes[1:]
	return n, true
}

// Done fails if anything failed before or a child is left.
func (c *Cursor) Done() error {
	if c.err == nil && len(c.nodes) > 0 {
		c.err = fmt.Errorf("%w: object %X unexpected", ErrMalformed, uint32(c.nodes[0].Tag))
	}
	return c.err
}
