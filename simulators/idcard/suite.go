package idcard

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
)

// Suite is the cipher and MAC of a session. The numbers are the last arc of the
// PACE and Chip Authentication object identifiers (9303-11 9.2.1, 9.2.3).
type Suite byte

// The four suites of Doc 9303-11.
const (
	TripleDES Suite = 1 // two-key 3DES-CBC, retail MAC
	AES128    Suite = 2 // AES-CBC, CMAC
	AES192    Suite = 3
	AES256    Suite = 4
)

func (s Suite) valid() bool { return s >= TripleDES && s <= AES256 }

func (s Suite) blockSize() int {
	if s == TripleDES {
		return des.BlockSize
	}
	return aes.BlockSize
}

func (s Suite) keySize() int {
	if s == TripleDES {
		return 16
	}
	return 8 * int(s)
}

// nonceSize is the length of PACE's nonce: the least number of whole blocks that
// is no shorter than a key, which the Integrated Mapping demands (9303-11 4.4.3.3).
func (s Suite) nonceSize() int { return (s.keySize() + 15) / 16 * 16 }

// Counters of the key derivation function (9303-11 9.7.1).
const (
	forEncryption = 1
	forMAC        = 2
	forPassword   = 3
)

// derive is KDF(secret, counter) of 9303-11 9.7.1.
func (s Suite) derive(secret []byte, counter byte) []byte {
	in := append(append([]byte(nil), secret...), 0, 0, 0, counter)
	switch s {
	case AES192, AES256:
		h := sha256.Sum256(in)
		return h[:s.keySize()]
	}
	h := sha1.Sum(in)
	key := h[:16]
	if s == TripleDES {
		for i, b := range key { // odd parity (9303-11 9.7.1.1)
			b &^= 1
			ones := byte(0)
			for v := b; v != 0; v >>= 1 {
				ones ^= v & 1
			}
			key[i] = b | ones ^ 1
		}
	}
	return key
}

// block returns the block cipher; keys come from derive, so the length is right.
func (s Suite) block(key []byte) cipher.Block {
	var b cipher.Block
	var err error
	if s == TripleDES {
		b, err = des.NewTripleDESCipher(append(append([]byte(nil), key...), key[:8]...))
	} else {
		b, err = aes.NewCipher(key)
	}
	if err != nil {
		panic(fmt.Sprintf("idcard: a derived key does not fit its cipher: %v", err))
	}
	return b
}

func (s Suite) encrypt(key, iv, plain []byte) []byte {
	out := make([]byte, len(plain))
	cipher.NewCBCEncrypter(s.block(key), iv).CryptBlocks(out, plain)
	return out
}

func (s Suite) decrypt(key, iv, sealed []byte) []byte {
	out := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(s.block(key), iv).CryptBlocks(out, sealed)
	return out
}

// mac returns the 8-byte MAC of a padded message, as secure messaging and BAC use it.
func (s Suite) mac(key, padded []byte) []byte {
	if s == TripleDES {
		return retailMAC(key, padded)
	}
	return cmac(s.block(key), padded)[:8]
}

// token returns the MAC of an unpadded message, as PACE's tokens use it (9303-11 4.4.3.4).
func (s Suite) token(key, message []byte) []byte {
	if s == TripleDES {
		message = pad(message, des.BlockSize)
	}
	return s.mac(key, message)
}

// retailMAC is ISO/IEC 9797-1 MAC algorithm 3 with DES; the message is a whole number of blocks.
func retailMAC(key, padded []byte) []byte {
	first, err1 := des.NewCipher(key[:8])
	second, err2 := des.NewCipher(key[8:])
	if err1 != nil || err2 != nil {
		panic("idcard: a retail MAC key must have 16 bytes")
	}
	out := make([]byte, 8)
	for ; len(padded) >= 8; padded = padded[8:] {
		subtle.XORBytes(out, out, padded[:8])
		first.Encrypt(out, out)
	}
	second.Decrypt(out, out)
	first.Encrypt(out, out)
	return out
}

// cmac is RFC 4493 / SP 800-38B for a 16-byte block.
func cmac(b cipher.Block, message []byte) []byte {
	shift := func(in []byte) []byte {
		out := make([]byte, 16)
		for i := range out {
			out[i] = in[i] << 1
			if i < 15 {
				out[i] |= in[i+1] >> 7
			}
		}
		if in[0]&0x80 != 0 {
			out[15] ^= 0x87
		}
		return out
	}
	k := make([]byte, 16)
	b.Encrypt(k, k)
	k = shift(k)
	mac := make([]byte, 16)
	for ; len(message) > 16; message = message[16:] {
		subtle.XORBytes(mac, mac, message[:16])
		b.Encrypt(mac, mac)
	}
	if len(message) < 16 {
		k = shift(k)
		message = pad(message, 16)
	}
	subtle.XORBytes(mac, mac, message)
	subtle.XORBytes(mac, mac, k)
	b.Encrypt(mac, mac)
	return mac
}

// pad is ISO/IEC 9797-1 padding method 2.
func pad(b []byte, size int) []byte {
	out := append(append([]byte(nil), b...), 0x80)
	for len(out)%size != 0 {
		out = append(out, 0)
	}
	return out
}

func unpad(b []byte, size int) ([]byte, bool) {
	for i := len(b) - 1; i >= 0 && len(b)-i <= size; i-- {
		switch b[i] {
		case 0:
		case 0x80:
			return b[:i], true
		default:
			return nil, false
		}
	}
	return nil, false
}
