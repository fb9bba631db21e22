package idcard

import (
	"encoding/asn1"
	"errors"
)

// unmarshal decodes DER and leaves nothing over.
func unmarshal(der []byte, to any) error {
	rest, err := asn1.Unmarshal(der, to)
	if err == nil && len(rest) > 0 {
		err = errors.New("trailing bytes")
	}
	return err
}
