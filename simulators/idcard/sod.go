package idcard

import (
	"crypto"
	"fmt"
	"maps"
	"slices"
)

// Logical data structures that cards of the field follow.
const (
	LDS17 = "0107" // SOD of version 0
	LDS18 = "0108" // SOD of version 1, which repeats the versions of EF.COM
)

// unicodeVersion is 4.0.0, as Doc 9303 fixes it.
const unicodeVersion = "040000"

// documentSecurityObject is EF.SOD (9303-10 4.6.2): hashes of the data groups,
// signed by the document signer.
func documentSecurityObject(signer certified, groups map[int][]byte, lds string, hash crypto.Hash, o SignedObject) ([]byte, error) {
	if hash == 0 {
		hash = signer.scheme.Hash
		if o.Hash != 0 {
			hash = o.Hash
		}
	}
	if hashes[hash].id == nil {
		return nil, fmt.Errorf("idcard: hash %v is not known", hash)
	}
	var list [][]byte
	for _, n := range slices.Sorted(maps.Keys(groups)) {
		list = append(list, tlv(0x30, small(n), tlv(0x04, sum(hash, groups[n]))))
	}
	version, versions := 0, []byte(nil)
	if lds >= LDS18 {
		version = 1
		versions = tlv(0x30, tlv(0x13, []byte(lds)), tlv(0x13, []byte(unicodeVersion)))
	}
	content := tlv(0x30, small(version), digestAlgorithm(hash), tlv(0x30, list...), versions)
	sod, err := signedData(signer, oid(2, 23, 136, 1, 1, 1), content, o)
	if err != nil {
		return nil, fmt.Errorf("sign document security object: %w", err)
	}
	return tlv(0x77, sod), nil
}
