package idcard

// tlv encodes one BER-TLV data object; the tag is written as in the standards
// (0x61, 0x7F49).
func tlv(tag int, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	var b []byte
	if tag > 0xFF {
		b = append(b, byte(tag>>8))
	}
	b = append(b, byte(tag))
	switch {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	case n < 0x10000:
		b = append(b, 0x82, byte(n>>8), byte(n))
	default:
		b = append(b, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// object is one data object found by readTLV.
type object struct {
	tag   int
	value []byte
	raw   []byte
}

// readTLV splits b into its data objects. It takes only what a chip has to:
// tags of one byte or of two beginning 7F or 5F, definite lengths up to 65535.
func readTLV(b []byte) (list []object, ok bool) {
	for len(b) > 0 {
		o := object{tag: int(b[0])}
		i := 1
		if b[0] == 0x7F || b[0] == 0x5F {
			if len(b) < 2 {
				return nil, false
			}
			o.tag = o.tag<<8 | int(b[1])
			i = 2
		}
		if len(b) <= i {
			return nil, false
		}
		n := int(b[i])
		i++
		if n >= 0x80 {
			k := n - 0x80
			if k < 1 || k > 2 || len(b) < i+k {
				return nil, false
			}
			n = 0
			for _, c := range b[i : i+k] {
				n = n<<8 | int(c)
			}
			i += k
		}
		if len(b) < i+n {
			return nil, false
		}
		o.value, o.raw = b[i:i+n], b[:i+n]
		list = append(list, o)
		b = b[i+n:]
	}
	return list, true
}

// find returns the value of the first object with that tag, nil if there is none.
func find(list []object, tag int) []byte {
	for _, o := range list {
		if o.tag == tag {
			return o.value
		}
	}
	return nil
}
