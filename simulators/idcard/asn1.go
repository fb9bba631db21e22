package idcard

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// unmarshal decodes DER and leaves nothing over.
func unmarshal(der []byte, to any) error {
	rest, err := asn1.Unmarshal(der, to)
	if err == nil && len(rest) > 0 {
		err = errors.New("trailing bytes")
	}
	return err
}

// oid encodes an object identifier.
func oid(arcs ...int) []byte {
	b, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	if err != nil {
		panic(fmt.Sprintf("idcard: object identifier %v: %v", arcs, err))
	}
	return b
}

// integer encodes a number of zero or more.
func integer(n *big.Int) []byte {
	b := n.Bytes()
	if len(b) == 0 || b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return tlv(0x02, b)
}

func small(n int) []byte { return integer(big.NewInt(int64(n))) }

// set encodes a SET OF in DER's order (X.690 11.6).
func set(elements ...[]byte) []byte {
	slices.SortFunc(elements, bytes.Compare)
	return tlv(0x31, elements...)
}
