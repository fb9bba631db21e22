package idcard

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Node is one element of a BER structure, open to be altered: what an issuer
// would never write is written with an edit of the tree.
type Node struct {
	Tag        int     // as in the standards: 0x30, 0xA0, 0x7F61
	Value      []byte  // of a primitive element
	Children   []*Node // of a constructed one
	Indefinite bool    // written with indefinite length and end-of-contents
	Claim      int     // bytes by which the length field exceeds the truth
}

// Edit alters a structure in place.
type Edit func(*Node)

// maxDepth bounds the nesting that ParseNode follows.
const maxDepth = 32

var errNode = errors.New("not one whole BER element")

// ParseNode reads one element of definite length, and every constructed one in it.
func ParseNode(b []byte) (*Node, error) {
	n, rest, err := parseNode(b, 0)
	if err == nil && len(rest) > 0 {
		err = errNode
	}
	return n, err
}

func parseNode(b []byte, depth int) (*Node, []byte, error) {
	if len(b) < 2 || depth > maxDepth {
		return nil, nil, errNode
	}
	n := &Node{Tag: int(b[0])}
	constructed := b[0]&0x20 != 0
	b = b[1:]
	if n.Tag&0x1F == 0x1F {
		n.Tag, b = n.Tag<<8|int(b[0]), b[1:]
	}
	if len(b) == 0 {
		return nil, nil, errNode
	}
	size := int(b[0])
	b = b[1:]
	if size >= 0x80 {
		k := size - 0x80
		if k < 1 || k > 3 || len(b) < k {
			return nil, nil, errNode
		}
		size = 0
		for _, c := range b[:k] {
			size = size<<8 | int(c)
		}
		b = b[k:]
	}
	if len(b) < size {
		return nil, nil, errNode
	}
	content, rest := b[:size], b[size:]
	if !constructed {
		n.Value = slices.Clone(content)
		return n, rest, nil
	}
	for len(content) > 0 {
		child, after, err := parseNode(content, depth+1)
		if err != nil {
			return nil, nil, err
		}
		n.Children, content = append(n.Children, child), after
	}
	return n, rest, nil
}

// Encode writes the element.
func (n *Node) Encode() []byte {
	content := slices.Clone(n.Value)
	for _, c := range n.Children {
		content = append(content, c.Encode()...)
	}
	if n.Indefinite {
		return slices.Concat(tag(n.Tag), []byte{0x80}, content, []byte{0, 0})
	}
	if n.Claim == 0 {
		return tlv(n.Tag, content)
	}
	size := len(content) + n.Claim
	length := []byte{byte(size)}
	switch {
	case size >= 0x10000:
		length = []byte{0x83, byte(size >> 16), byte(size >> 8), byte(size)}
	case size >= 0x100:
		length = []byte{0x82, byte(size >> 8), byte(size)}
	case size >= 0x80:
		length = []byte{0x81, byte(size)}
	}
	return slices.Concat(tag(n.Tag), length, content)
}

func tag(t int) []byte {
	if t > 0xFF {
		return []byte{byte(t >> 8), byte(t)}
	}
	return []byte{byte(t)}
}

// Find descends to the first child with each tag in turn; nil if there is none.
func (n *Node) Find(tags ...int) *Node {
	for _, t := range tags {
		i := slices.IndexFunc(n.Children, func(c *Node) bool { return c.Tag == t })
		if i < 0 {
			return nil
		}
		n = n.Children[i]
	}
	return n
}

// Holding is the first element, depth first, whose first child is that object
// identifier, written with dots: an extension, an attribute, an algorithm. Nil if there is none.
func (n *Node) Holding(id string) *Node {
	if len(n.Children) > 0 && n.Children[0].Tag == 0x06 && string(n.Children[0].Value) == string(dotted(id)[2:]) {
		return n
	}
	for _, c := range n.Children {
		if found := c.Holding(id); found != nil {
			return found
		}
	}
	return nil
}

// Remove takes an element out of the tree, wherever it stands.
func (n *Node) Remove(gone *Node) {
	n.Children = slices.DeleteFunc(n.Children, func(c *Node) bool { return c == gone })
	for _, c := range n.Children {
		c.Remove(gone)
	}
}

// SetOID writes another object identifier, given with dots.
func (n *Node) SetOID(id string) { n.Value = dotted(id)[2:] }

// SetInt writes another number from 0 to 127.
func (n *Node) SetInt(v byte) { n.Value = []byte{v & 0x7F} }

// dotted encodes an object identifier written with dots.
func dotted(id string) []byte {
	var arcs []int
	for _, arc := range strings.Split(id, ".") {
		n, err := strconv.Atoi(arc)
		if err != nil {
			panic(fmt.Sprintf("idcard: object identifier %q: %v", id, err))
		}
		arcs = append(arcs, n)
	}
	return oid(arcs...)
}

// edited runs edits over an encoded element; without any it stays as it is.
func edited(b []byte, edits ...Edit) ([]byte, error) {
	edits = slices.DeleteFunc(edits, func(e Edit) bool { return e == nil })
	if len(edits) == 0 {
		return b, nil
	}
	n, err := ParseNode(b)
	if err != nil {
		return nil, err
	}
	for _, edit := range edits {
		edit(n)
	}
	return n.Encode(), nil
}

// EditBytes makes of an edit of the tree one of a file's bytes.
func EditBytes(edit Edit) func([]byte) []byte {
	return func(b []byte) []byte {
		out, err := edited(b, edit)
		if err != nil {
			panic(fmt.Sprintf("idcard: edit: %v", err))
		}
		return out
	}
}
