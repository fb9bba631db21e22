package conformance

import (
	"bytes"
	"encoding/asn1"
	"slices"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// Deviations, to be put into test.alter.

// file changes a file of the application before it is hashed; of EF.SOD, after it was signed.
func file(f lds.File, edit func([]byte) []byte) func(*card) {
	return func(c *card) {
		c.opts.EditFile = func(id uint16, b []byte) []byte {
			if id == f.FID() {
				return edit(b)
			}
			return b
		}
	}
}

// tree changes the elements of a file.
func tree(f lds.File, edit idcard.Edit) func(*card) { return file(f, idcard.EditBytes(edit)) }

// master changes a file of the master file.
func master(f lds.File, edit func([]byte) []byte) func(*card) {
	return profile(func(p *idcard.Profile) { p.Master[f.FID()] = edit(bytes.Clone(p.Master[f.FID()])) })
}

// profile changes what the chip is made of.
func profile(change func(*idcard.Profile)) func(*card) {
	return func(c *card) { c.opts.Chip = change }
}

func faults(list ...idcard.Fault) func(*card) {
	return func(c *card) { c.opts.Faults = append(slices.Clone(c.opts.Faults), list...) }
}

// exchange changes answers.
func exchange(edit func(*idcard.Exchange)) func(*card) { return func(c *card) { c.edit = edit } }

// status answers a step with a status word, under secure messaging if there is any.
func status(step idcard.Step, sw apdu.Status) func(*card) {
	return exchange(func(e *idcard.Exchange) {
		if e.Step == step && !e.Wire {
			e.Answer = apdu.Response{Status: sw}
		}
	})
}

// objects changes the objects inside 7C of the answer to a step.
func objects(step idcard.Step, change func([]tlv.Node) []byte) func(*card) {
	return exchange(func(e *idcard.Exchange) {
		if e.Step != step || e.Wire || e.Answer.Status != apdu.OK {
			return
		}
		outer, err := tlv.ParseOne(e.Answer.Data, 0x7C)
		if err != nil {
			return
		}
		if nodes, err := outer.Children(); err == nil {
			e.Answer.Data = tlv.Encode(0x7C, change(nodes))
		}
	})
}

// object changes the one object with that tag.
func object(step idcard.Step, tag tlv.Tag, change func(tlv.Node) []byte) func(*card) {
	return objects(step, func(nodes []tlv.Node) (out []byte) {
		for _, n := range nodes {
			if n.Tag == tag {
				out = append(out, change(n)...)
			} else {
				out = append(out, n.Raw...)
			}
		}
		return out
	})
}

func retag(step idcard.Step, from, to tlv.Tag) func(*card) {
	return object(step, from, func(n tlv.Node) []byte { return tlv.Encode(to, n.Value) })
}

func revalue(step idcard.Step, tag tlv.Tag, change func([]byte) []byte) func(*card) {
	return object(step, tag, func(n tlv.Node) []byte { return tlv.Encode(tag, change(bytes.Clone(n.Value))) })
}

// Changes of bytes.

func fixed(b ...byte) func([]byte) []byte { return func([]byte) []byte { return b } }

// flip changes a bit of the byte at a place, counted from the end if negative.
func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[(at+len(b))%len(b)] ^= 1
		return b
	}
}

func firstTag(tag byte) func([]byte) []byte {
	return func(b []byte) []byte { return append([]byte{tag}, b[1:]...) }
}

// outerLength makes the outer length of a file claim more or less than the truth.
func outerLength(by int) func([]byte) []byte {
	return idcard.EditBytes(func(n *idcard.Node) { n.Claim = by })
}

// cutToLength makes the outer length one less, and ends the file where it says:
// what a reader gets is what was hashed.
func cutToLength(b []byte) []byte {
	b = outerLength(-1)(b)
	return b[:len(b)-1]
}

// Changes of trees.

func flipLast(n *idcard.Node) { flip(-1)(n.Value) }

func without(path ...int) idcard.Edit {
	return func(n *idcard.Node) { n.Remove(n.Find(path...)) }
}

func withoutChild(i int) idcard.Edit { return func(n *idcard.Node) { n.Remove(n.Children[i]) } }

// oid is the whole element.
func oid(arcs ...int) []byte {
	der, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	if err != nil {
		panic(err)
	}
	return der
}

func number(n int) []byte {
	der, err := asn1.Marshal(n)
	if err != nil {
		panic(err)
	}
	return der
}

func sequence(parts ...[]byte) []byte { return tlv.Encode(0x30, parts...) }
