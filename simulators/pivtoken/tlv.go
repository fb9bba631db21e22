package pivtoken

import "errors"

var errTLV = errors.New("pivtoken: malformed TLV")

// tlv is one BER-TLV data object (ISO/IEC 7816-4 5.2.2).
type tlv struct {
	tag   uint32
	value []byte
}

// parseTLV reads all data objects of b; it copies nothing. Tags have up to
// three bytes, lengths up to three.
func parseTLV(b []byte) ([]tlv, error) {
	var list []tlv
	for len(b) > 0 {
		tag := uint32(b[0])
		more := b[0]&0x1F == 0x1F
		b = b[1:]
		for i := 0; more; i++ {
			if len(b) == 0 || i == 2 {
				return nil, errTLV
			}
			tag = tag<<8 | uint32(b[0])
			more = b[0]&0x80 != 0
			b = b[1:]
		}
		if len(b) == 0 {
			return nil, errTLV
		}
		n := int(b[0])
		b = b[1:]
		if n >= 0x80 {
			octets := n & 0x7F
			if octets == 0 || octets > 2 || len(b) < octets {
				return nil, errTLV
			}
			n = 0
			for _, o := range b[:octets] {
				n = n<<8 | int(o)
			}
			b = b[octets:]
		}
		if len(b) < n {
			return nil, errTLV
		}
		list = append(list, tlv{tag, b[:n:n]})
		b = b[n:]
	}
	return list, nil
}

// find returns the value of the first object with the tag.
func find(list []tlv, tag uint32) ([]byte, bool) {
	for _, o := range list {
		if o.tag == tag {
			return o.value, true
		}
	}
	return nil, false
}

// encode makes a data object of the concatenated values.
func encode(tag uint32, values ...[]byte) []byte {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	var b []byte
	for shift := 16; shift >= 0; shift -= 8 {
		if tag>>shift != 0 {
			b = append(b, byte(tag>>shift))
		}
	}
	switch {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	default:
		b = append(b, 0x82, byte(n>>8), byte(n))
	}
	for _, v := range values {
		b = append(b, v...)
	}
	return b
}
