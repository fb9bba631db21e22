package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"
	"math/big"

	"enrollkiosk/smartcard/lds"
)

// checkActiveAuthentication verifies the answer to INTERNAL AUTHENTICATE (Doc
// 9303-11 6.1). infos tell the hash of an ECDSA key; they may be empty. It
// returns the hash used.
func checkActiveAuthentication(key crypto.PublicKey, infos lds.SecurityInfos, e lds.ActiveAuthentication) (crypto.Hash, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		hash, err := activeHash(key, infos)
		if err != nil {
			return 0, err
		}
		if !verifyECDSA(key, sum(hash, e.Challenge[:]), e.Signature) {
			return 0, fmt.Errorf("%w: signature", ErrChip)
		}
		return hash, nil
	case *rsa.PublicKey:
		return recoverRSA(key, e)
	}
	return 0, fmt.Errorf("%w: key type", ErrUnsupported)
}

// activeHash is the hash that DG14 states; without a statement, the one that
// fits the curve.
func activeHash(key *ecdsa.PublicKey, infos lds.SecurityInfos) (crypto.Hash, error) {
	if len(infos.ActiveAuthentication) > 0 {
		// TR-03111's identifiers, as the standard has it; some issuers state X9.62's.
		stated := infos.ActiveAuthentication[0].Algorithm
		if a := signatureAlgorithms[stated.String()]; a.kind == "plain" || a.kind == "ecdsa" {
			return a.hash, nil
		}
		return 0, fmt.Errorf("%w: Active Authentication %v", ErrUnsupported, stated)
	}
	switch bits := key.Curve.Params().BitSize; {
	case bits <= 224:
		return crypto.SHA224, nil
	case bits <= 256:
		return crypto.SHA256, nil
	case bits <= 384:
		return crypto.SHA384, nil
	}
	return crypto.SHA512, nil
}

// verifyECDSA takes r||s, as the standard has it, and DER, as some chips do.
func verifyECDSA(key *ecdsa.PublicKey, digest, signature []byte) bool {
	if der, ok := plainToDER(key, signature); ok && ecdsa.VerifyASN1(key, digest, der) {
		return true
	}
	return ecdsa.VerifyASN1(key, digest, signature)
}

// minModulus is the smallest RSA key taken for proof.
const minModulus = 1024

// trailers of ISO/IEC 9796-2 with the hash they name.
var trailers = map[byte]crypto.Hash{0x33: crypto.SHA1, 0x34: crypto.SHA256, 0x35: crypto.SHA512, 0x36: crypto.SHA384, 0x38: crypto.SHA224}

// recoverRSA verifies a signature of ISO/IEC 9796-2 scheme 1 with partial
// recovery (Doc 9303-11 6.1.2.2): what comes out is 6A || M1 || H(M1 ||
// challenge) || trailer.
func recoverRSA(key *rsa.PublicKey, e lds.ActiveAuthentication) (crypto.Hash, error) {
	size := key.Size()
	s := new(big.Int).SetBytes(e.Signature)
	if key.N.BitLen() < minModulus {
		return 0, fmt.Errorf("%w: RSA key of %d bits", ErrUnsupported, key.N.BitLen())
	}
	if len(e.Signature) != size || s.Cmp(key.N) >= 0 {
		return 0, fmt.Errorf("%w: signature length", ErrChip)
	}
	recovered := new(big.Int).Exp(s, big.NewInt(int64(key.E)), key.N)
	// The signer may have taken the smaller of s and n-s (ISO/IEC 9796-2 B.6);
	// every representative ends in the nibble C.
	if lowNibble(recovered) != 0xC {
		recovered.Sub(key.N, recovered)
	}
	if lowNibble(recovered) != 0xC {
		return 0, fmt.Errorf("%w: signature", ErrChip)
	}
	return checkRepresentative(recovered.FillBytes(make([]byte, size)), e.Challenge)
}

func lowNibble(n *big.Int) uint { return n.Bit(3)<<3 | n.Bit(2)<<2 | n.Bit(1)<<1 | n.Bit(0) }

func checkRepresentative(f []byte, challenge [8]byte) (crypto.Hash, error) {
	hash, trailer := crypto.SHA1, 1
	if end := f[len(f)-1]; end == 0xCC {
		var ok bool
		if hash, ok = trailers[f[len(f)-2]]; !ok {
			return 0, fmt.Errorf("%w: signature trailer %02X: %w", ErrChip, f[len(f)-2], ErrUnsupported)
		}
		trailer = 2
	} else if end != 0xBC {
		return 0, fmt.Errorf("%w: signature trailer", ErrChip)
	}
	end := len(f) - trailer - hash.Size()
	if end < 1 || f[0] != 0x6A {
		return 0, fmt.Errorf("%w: signature header", ErrChip)
	}
	if !bytes.Equal(f[end:len(f)-trailer], sum(hash, f[1:end], challenge[:])) {
		return 0, fmt.Errorf("%w: signature", ErrChip)
	}
	return hash, nil
}
