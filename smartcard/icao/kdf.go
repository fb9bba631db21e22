package icao

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"hash"
	"math/bits"

	"github.com/aead/cmac"
)

// algorithm is a symmetric suite: cipher, key length, MAC. Its number is the
// last arc of the PACE and Chip Authentication protocol identifiers
// (ICAO 9303-11 9.2.1, 9.2.5).
type algorithm byte

const (
	tripleDES algorithm = 1 // 3DES-CBC with ISO 9797-1 MAC algorithm 3
	aes128    algorithm = 2 // AES-CBC with CMAC
	aes192    algorithm = 3
	aes256    algorithm = 4
)

func (a algorithm) blockSize() int {
	if a == tripleDES {
		return des.BlockSize
	}
	return aes.BlockSize
}

func (a algorithm) keyLength() int {
	switch a {
	case aes192:
		return 24
	case aes256:
		return 32
	}
	return 16
}

// Counters of the key derivation function (ICAO 9303-11 9.7.1).
const (
	counterEncryption byte = 1
	counterMAC        byte = 2
	counterPassword   byte = 3
)

// derive is the key derivation function of ICAO 9303-11 9.7.1.
func (a algorithm) derive(secret []byte, counter byte) []byte {
	in := append(bytes.Clone(secret), 0, 0, 0, counter)
	defer clear(in)
	var key []byte
	switch a {
	case aes192, aes256:
		h := sha256.Sum256(in)
		key = h[:a.keyLength()]
	default:
		h := sha1.Sum(in)
		key = h[:a.keyLength()]
	}
	if a == tripleDES {
		for i, b := range key { // odd parity, as the examples print it
			b &^= 1
			key[i] = b | byte(bits.OnesCount8(b)+1)&1
		}
	}
	return key
}

func (a algorithm) block(key []byte) cipher.Block {
	var b cipher.Block
	var err error
	if a == tripleDES {
		b, err = des.NewTripleDESCipher(append(bytes.Clone(key), key[:8]...))
	} else {
		b, err = aes.NewCipher(key)
	}
	if err != nil {
		panic("icao: key of a wrong length") // keys only come from derive
	}
	return b
}

func (a algorithm) encrypt(key, iv, padded []byte) []byte {
	out := make([]byte, len(padded))
	cipher.NewCBCEncrypter(a.block(key), iv).CryptBlocks(out, padded)
	return out
}

func (a algorithm) decrypt(key, iv, blocks []byte) []byte {
	out := make([]byte, len(blocks))
	cipher.NewCBCDecrypter(a.block(key), iv).CryptBlocks(out, blocks)
	return out
}

// mac authenticates message with 8 bytes: CMAC cut short for AES; for 3DES the
// retail MAC (ISO 9797-1 MAC algorithm 3), which wants whole blocks.
func (a algorithm) mac(key, message []byte) []byte {
	if a != tripleDES {
		h := a.cmac(key)
		h.Write(message)
		return h.Sum(nil)
	}
	first, _ := des.NewCipher(key[:8])
	second, _ := des.NewCipher(key[8:16])
	state := make([]byte, des.BlockSize)
	for m := message; len(m) >= des.BlockSize; m = m[des.BlockSize:] {
		subtle.XORBytes(state, state, m[:des.BlockSize])
		first.Encrypt(state, state)
	}
	second.Decrypt(state, state)
	first.Encrypt(state, state)
	return state
}

// cmac is CMAC with AES, cut to 8 bytes.
func (a algorithm) cmac(key []byte) hash.Hash {
	h, err := cmac.NewWithTagSize(a.block(key), 8)
	if err != nil {
		panic("icao: cmac of a known cipher: " + err.Error())
	}
	return h
}

// pad appends 80 and zeros up to a whole block (ISO 9797-1 padding method 2).
// It never writes into b's spare capacity.
func pad(b []byte, block int) []byte {
	out := make([]byte, len(b)+block-len(b)%block)
	out[copy(out, b)] = 0x80
	return out
}

var errPadding = errors.New("wrong padding")

func unpad(b []byte, block int) ([]byte, error) {
	trimmed := bytes.TrimRight(b, "\x00")
	if n := len(trimmed) - 1; n >= 0 && trimmed[n] == 0x80 && len(b)-n <= block {
		return trimmed[:n], nil
	}
	return nil, errPadding
}
